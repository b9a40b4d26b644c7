"""Finds recordings that the feature store has under several names."""

import hashlib

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from features.shards import Key
from features.store import FeatureStore


def content_numbers(store: FeatureStore, ids: list[str]) -> npt.NDArray[np.int64]:
    """A number for the content of each utterance: (utterances,), equal for copies.

    ids : utterances that have features

    Two utterances are copies if their files have the same bytes and their segments the same times,
    or if their feature values have the same count, means and variances, bit for bit. Equal samples
    have equal feature values, so the second rule finds a copy in another container (FLAC for WAV),
    with other metadata, or as a segment of a longer file. The first rule also holds if different
    machines extracted the two files, and the last bits of the values differ.
    """
    rows = {row["id"]: row for row in store.rows}
    files: dict[tuple[str | None, float | None, float | None], int] = {}
    values: dict[bytes, int] = {}
    file_of, values_of = [], []  # the number of each utterance's file segment, and of its values
    for name in ids:
        row = rows[name]
        entry = store.index[Key.of(row)]
        segment = (entry.audio, row["start"], row["end"])
        file_of.append(files.setdefault(segment, len(files)))
        digest = hashlib.sha1(entry.frames.to_bytes(8, "little"))
        digest.update(np.asarray(entry.mean, dtype=np.float64).tobytes())
        digest.update(np.asarray(entry.squares, dtype=np.float64).tobytes())
        values_of.append(values.setdefault(digest.digest(), len(values)))
    # Each utterance links its file segment to its values. Linked ones have the same content.
    size = len(files) + len(values)
    links = (np.ones(len(ids)), (file_of, np.asarray(values_of, dtype=np.int64) + len(files)))
    numbers = connected_components(coo_array(links, shape=(size, size)), directed=False)[1]
    return numbers[file_of].astype(np.int64)
