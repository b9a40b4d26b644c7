"""The extraction on Ray Data: the same files as the pool, and the same failures."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from features import pool, ray_data
from features.errors import FeatureError, StorageError
from features.extract import Compute, extract, shards_folder
from features.manifest import Manifest, normalise
from features.sets import FEATURES
from features.shards import read_index
from features.storage import Storage
from tests.support.encoders import usable
from tests.support.extraction import CONFIG, Crashing, run
from tests.support.signals import noise

COMPUTE = (pool.compute, ray_data.compute)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two batches of one speaker, one of another, and a file that is not audio."""
    (tmp_path / "audio").mkdir()
    files = [f"{number:02}.wav" for number in range(20)]
    for number, file in enumerate(files):
        samples = noise(4000 + 320 * number, seed=number)
        soundfile.write(tmp_path / "audio" / file, samples, 16_000)
    (tmp_path / "audio" / "bad.wav").write_bytes(b"text")
    columns = {
        "file": [*files, "bad.wav"],
        "speaker": ["a"] * 18 + ["b"] * 3,
        "emotion": ["neu"] * 21,
    }
    return Manifest(normalise(pa.table(columns)), str(tmp_path / "audio"))


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("name", [name for name in FEATURES if name != "encoder_frames"])
def test_the_files_are_those_of_the_pool(manifest: Manifest, tmp_path: Path, name: str) -> None:
    config = usable(name)
    # Two workers for one set are enough: their number has the same effect for all sets.
    workers = 2 if config == CONFIG else 1
    contents, calls = [], []
    for compute in COMPUTE:
        folder = tmp_path / compute.__module__
        store, told = run(manifest, folder, workers, config, compute)
        stored = read_index(store.storage)
        assert store.index.keys() == stored.keys()  # the workers' entries are those of the files
        for key, entry in store.index.items():
            for mine, read in zip(entry, stored[key], strict=True):
                np.testing.assert_array_equal(mine, read)
        calls.append(sorted(call[2] or "" for call in told))
        contents.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.parquet")})
        assert run(manifest, folder, workers, config, compute)[1] == []
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3
    assert calls[0] == calls[1]
    assert "bad: not audio" in calls[0][-1]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("compute", "workers"), [(pool.compute, 2), (ray_data.compute, 1)])
def test_a_storage_that_cannot_be_written_is_a_storage_error(
    manifest: Manifest, tmp_path: Path, compute: Compute, workers: int
) -> None:
    config = FEATURES["logmel3d"]()
    folder = tmp_path / "store" / shards_folder(config, manifest.root)
    folder.mkdir(parents=True)
    (folder / "speaker=b").write_bytes(b"a file instead of a folder")
    storage = dataclasses.replace(Storage.open(str(tmp_path / "store")), waits=())
    with pytest.raises(StorageError, match=r"cannot write .*speaker=b.*: File exists"):
        extract(manifest, config, storage, workers=workers, compute=compute)


@pytest.mark.usefixtures("ray_cluster")
def test_a_crashing_worker_is_a_feature_error(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.extract.Extractor", Crashing)
    (tmp_path / "audio" / "crash").write_text("19.wav 99")
    with pytest.raises(FeatureError, match="a worker of the extraction crashed: The actor"):
        run(manifest, tmp_path / "store", 1, compute=ray_data.compute)
    assert (tmp_path / "audio" / "crashes").read_text() == "xxxx"


def test_work_on_a_cluster_without_ray_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    code = f"""
import ray, pyarrow as pa
from features import ray_data
from features.errors import FeatureError
from features.sets.logmel3d import LogMelConfig
from features.extract import extract
from features.manifest import Manifest, normalise
from features.storage import Storage
table = pa.table({{"file": ["00.wav"], "speaker": ["s"], "emotion": ["neu"]}})
try:
    extract(Manifest(normalise(table), {manifest.root!r}), LogMelConfig(),
            Storage.open({str(tmp_path)!r}), compute=ray_data.compute)
except FeatureError as error:
    print(error, ray.is_initialized())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "call ray.init() first False" in done.stdout
