"""The folder of a node for the frames of its trials, and the error if its disk is too small."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from features.cache import CachedFrames
from features.context import Turns
from features.errors import CacheError
from features.source import Source
from orchestrator.data.dataset import Dataset
from orchestrator.progress import Narrator
from orchestrator.sweep.assignment import open_frames
from orchestrator.sweep.run import place_frames
from tests.support.stores import made_source


def dataset_of(source: Source, folder: Path, limit: int = 10**9) -> Dataset:
    count = len(source.offsets) - 1
    return Dataset(
        frames=CachedFrames(source, str(folder), limit),
        offsets=source.offsets,
        segment=None,
        labels=np.zeros(count, np.int64),
        own=Turns.none(count),
        other=Turns.none(count),
        previous=np.full((2, count), -1),
        ids=[str(row) for row in range(count)],
        speakers=["s"] * count,
        classes=("a", "b"),
    )


def test_a_shard_that_is_damaged_or_gone_interrupts_the_trial_and_is_no_failure(
    tmp_path: Path,
) -> None:
    """A trial with an OSError gets no record, so the next run retries it."""
    source, _ = made_source(tmp_path / "store")
    dataset = dataset_of(source, tmp_path / "cache")
    first, second, _ = sorted((tmp_path / "store").rglob("*.parquet"))
    data = first.read_bytes()
    first.write_bytes(data[:-1])
    with pytest.raises(CacheError, match="is damaged: run the extraction again"):
        open_frames(dataset)
    first.write_bytes(data)  # the damaged shard was renamed
    second.rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="No such file"):
        open_frames(dataset)
    (tmp_path / "elsewhere").rename(second)
    open_frames(dataset)
    open_frames(dataclasses.replace(dataset, frames=np.asarray(dataset.frames)))  # of no file


def test_the_driver_says_the_size_and_builds_the_files_of_its_own_machine_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, frames = made_source(tmp_path / "store")
    datasets = [dataset_of(source, tmp_path / "cache") for _ in range(2)]
    shared = dataclasses.replace(datasets[0], segment=2)
    size = f"{2 * frames.nbytes / 1e6:.1f} MB"
    place_frames([*datasets, shared], False, Narrator())
    assert f"features: {size} in {tmp_path / 'cache'} of each node" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    place_frames([*datasets, shared], True, Narrator())
    assert f"features: {size} in {tmp_path / 'cache'}\n" in capsys.readouterr().err
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_size > frames.nbytes
    with pytest.raises(CacheError, match=r"^cluster\.cache_gb: the features need 0\.1 MB in"):
        place_frames([dataset_of(source, tmp_path / "other", 10)], True, Narrator())
