"""Utterances as pieces and as padded batches."""

import dataclasses

import numpy as np

from features.context import ABSENT
from orchestrator.data.dataset import Dataset


def test_the_last_utterance_has_all_its_frames(dataset: Dataset) -> None:
    last = len(dataset.labels) - 1
    batch = dataset.padded(dataset.pieces(np.asarray([last])))
    assert batch.lengths.tolist() == [np.diff(dataset.offsets)[-1]]


def test_absent_utterances_give_a_batch_without_frames(dataset: Dataset) -> None:
    batch = dataset.padded(dataset.whole(np.asarray([ABSENT, ABSENT])))
    assert batch.lengths.tolist() == [0, 0]
    assert batch.values.shape == (2, 1, dataset.dims)


def test_segments_cover_each_utterance_once_and_in_order(dataset: Dataset) -> None:
    cut = dataclasses.replace(dataset, segment=4)
    rows = np.asarray([3, 0, 11])
    pieces = cut.pieces(rows)
    for row in rows:
        mine = pieces.rows == row
        starts, lengths = pieces.starts[mine], pieces.lengths[mine]
        assert starts[0] == cut.offsets[row]
        assert np.array_equal(starts[1:], starts[:-1] + 4)
        assert (lengths[:-1] == 4).all()
        assert 1 <= lengths[-1] <= 4
        assert starts[-1] + lengths[-1] == cut.offsets[row + 1]
    assert np.array_equal(pieces.rows[np.flatnonzero(np.diff(pieces.rows, prepend=-1))], rows)
    batch = cut.padded(pieces)
    for values, start, length in zip(batch.values.numpy(), *pieces[1:], strict=True):
        assert np.array_equal(values[:length], cut.frames[start : start + length])
        assert (values[length:] == 0).all()
