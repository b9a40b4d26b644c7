"""Copies have the same number, and other recordings have a number of their own."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.copies import content_numbers
from features.manifest import Manifest, normalise
from features.sets import FEATURES
from features.storage import Storage
from tests.support.copies import COPIES, speech
from tests.support.extraction import run_without_ray
from tests.support.signals import RATE, encode

SPEECH = speech(RATE)


def manifest_of(root: Path, rows: list[dict]) -> Manifest:
    named = [{"id": str(i), "speaker": "s", "emotion": "neu", **row} for i, row in enumerate(rows)]
    return Manifest(normalise(pa.Table.from_pylist(named)), str(root))


def numbers(root: Path, rows: list[dict], feature_set: str = "logmel3d") -> list[int]:
    """The content numbers of the rows, renamed by their first occurrence."""
    config = FEATURES[feature_set]()
    manifest = manifest_of(root, rows)
    store = run_without_ray(manifest, Storage.open(str(root / "store")), config)
    assert store.errors() == []
    found = content_numbers(store, manifest.table["id"].to_pylist()).tolist()
    first: dict[int, int] = {}
    return [first.setdefault(number, len(first)) for number in found]


@pytest.mark.parametrize("feature_set", sorted(FEATURES))
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_in_any_container_is_found(tmp_path: Path, kind: str, feature_set: str) -> None:
    suffix, encoder = COPIES[kind]
    (tmp_path / "first.wav").write_bytes(encode(SPEECH))
    (tmp_path / "other.wav").write_bytes(encode(speech(RATE, seed=1)))
    (tmp_path / f"copy{suffix}").write_bytes(encoder(SPEECH))
    rows = [{"file": name} for name in ("first.wav", "other.wav", f"copy{suffix}")]
    assert numbers(tmp_path, rows, feature_set) == [0, 1, 0]


def test_recordings_that_differ_a_little_are_no_copies(tmp_path: Path) -> None:
    """One bit less, one changed sample, a later start and the reversed samples are other speech."""
    changed = SPEECH.copy()
    changed[8000] += 1
    files = {
        "first.wav": encode(SPEECH),
        "coarser.wav": encode(SPEECH // 2 * 2),
        "changed.wav": encode(changed),
        "later.wav": encode(SPEECH[160:]),
        "reversed.wav": encode(SPEECH[::-1]),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert numbers(tmp_path, [{"file": name} for name in files]) == [0, 1, 2, 3, 4]


def test_segments_are_compared_by_their_own_samples(tmp_path: Path) -> None:
    """Segments of one file are no copies of each other, but a cut file is a copy of its segment."""
    long = speech(3 * RATE)
    (tmp_path / "long.wav").write_bytes(encode(long))
    (tmp_path / "again.wav").write_bytes(encode(long))
    (tmp_path / "cut.flac").write_bytes(encode(long[RATE : 2 * RATE], kind="FLAC"))
    rows = [
        {"file": "long.wav", "start": 0.0, "end": 1.0},
        {"file": "long.wav", "start": 1.0, "end": 2.0},
        {"file": "long.wav", "start": 2.0, "end": 3.0},
        {"file": "again.wav", "start": 1.0, "end": 2.0},
        {"file": "again.wav", "start": 1.5, "end": 2.5},
        {"file": "cut.flac"},
    ]
    assert numbers(tmp_path, rows) == [0, 1, 2, 1, 3, 1]


def test_equal_bytes_are_copies_even_if_the_values_differ_in_their_last_bits(
    tmp_path: Path,
) -> None:
    """As when two machines extract the two files. A third file has the values of the second."""
    for name in ("first.wav", "second.wav"):
        (tmp_path / name).write_bytes(encode(SPEECH))
    (tmp_path / "third.flac").write_bytes(encode(SPEECH, kind="FLAC"))
    (tmp_path / "other.wav").write_bytes(encode(speech(RATE, seed=1)))
    files = ("first.wav", "second.wav", "third.flac", "other.wav")
    manifest = manifest_of(tmp_path, [{"file": name} for name in files])
    config = FEATURES["logmel3d"]()
    store = run_without_ray(manifest, Storage.open(str(tmp_path / "store")), config)
    (key,) = [key for key in store.index if key.file == "first.wav"]
    entry = store.index[key]
    store.index[key] = entry._replace(mean=np.nextafter(entry.mean, np.inf))
    first, second, third, other = content_numbers(store, manifest.table["id"].to_pylist()).tolist()
    assert first == second == third != other
