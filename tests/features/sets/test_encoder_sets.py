"""The two sets of a pretrained encoder: values, layers, hashes, and extraction into a store."""

import copy
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from features import encoders
from features.encoders.description import full_gpu
from features.errors import DeviceError, FeatureError
from features.extract import extract, extraction_hash, shards_folder
from features.extractor import Extractor, Status
from features.manifest import Manifest, normalise
from features.ray_data import _Actor, room
from features.sets.encoder_frames import EncoderFramesConfig
from features.sets.encoder_layers import EncoderLayersConfig
from features.shards import TASK_SCHEMA, write_shard
from features.storage import Storage
from tests.support.encoders import SIZE, STATES, shared_encoder, shared_onnx, tiny_encoder, usable
from tests.support.extraction import run_without_ray
from tests.support.signals import RATE, noise

KINDS = ("wavlm", "hubert", "wav2vec2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: tiny_encoder(root / kind, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_mean_over_time_of_each_layer(kind: str, folders: dict[str, str]) -> None:
    layers = EncoderLayersConfig(encoder=folders[kind]).load()
    signal = noise(20_000)
    row = layers.extract(signal, RATE)
    assert row.shape == (1, STATES * SIZE)
    assert row.dtype == np.float32
    exact = signal.astype(np.float64)
    normalized = ((exact - exact.mean()) / np.sqrt(exact.var() + 1e-7)).astype(np.float32)
    states = encoders.load(encoders.describe(folders[kind]), "cpu")(normalized)
    for layer, (name, columns) in enumerate(layers.groups.items()):
        assert name == f"layer_{layer}"
        expected = states[layer].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(row[0, list(columns)], expected, atol=1e-6)
        frames = EncoderFramesConfig(encoder=folders[kind], layer=layer).load()
        np.testing.assert_array_equal(frames.extract(signal, RATE), states[layer])
    assert len(layers.groups) == STATES
    last = EncoderFramesConfig(encoder=folders[kind]).load()
    np.testing.assert_array_equal(last.extract(signal, RATE), states[-1])
    assert last.rate == 50


def test_the_hash_depends_on_the_contents_of_the_encoder_and_not_on_its_place(
    tmp_path: Path,
) -> None:
    def digest(folder: str, **options: str) -> str:
        return extraction_hash(EncoderLayersConfig(encoder=folder, **options))

    first = digest(shared_encoder())
    assert digest(tiny_encoder(tmp_path / "copy")) == first
    assert digest(shared_encoder(), normalize="speaker") == first
    others = {
        digest(tiny_encoder(tmp_path / "weights", seed=1)),
        digest(tiny_encoder(tmp_path / "plain", normalize=False)),
        digest(shared_encoder(), device="cuda"),
        *(
            extraction_hash(usable("encoder_frames", layer=layer, pool=pool))
            for layer in (0, 1, None)
            for pool in (1, 2)
        ),
    }
    assert first not in others
    assert len(others) == 6  # `pool` applies when features are loaded


def test_options_that_the_encoder_does_not_have_are_named() -> None:
    with pytest.raises(FeatureError, match=r"features\.encoder: this key is required"):
        EncoderLayersConfig().load()
    with pytest.raises(FeatureError, match=r"features\.layer is 4, but the last layer .* is 3"):
        EncoderFramesConfig(encoder=shared_encoder(), layer=4).load()
    pytest.importorskip("onnxruntime")
    vector = shared_onnx(vector=True)
    with pytest.raises(FeatureError, match=r"use features\.name=encoder_layers"):
        EncoderFramesConfig(encoder=vector).load()
    last = EncoderLayersConfig(encoder=shared_encoder()).load().extract(noise(9000), RATE)
    ours = EncoderLayersConfig(encoder=vector).load().extract(noise(9000), RATE)
    np.testing.assert_allclose(ours, last[:, -SIZE:], atol=1e-4)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Three batches: 40 recordings of one speaker."""
    for number in range(40):
        samples = noise(3000 + 100 * number, seed=number)
        soundfile.write(tmp_path / f"{number:02}.wav", samples, RATE)
    columns = {
        "file": [f"{number:02}.wav" for number in range(40)],
        "speaker": ["a"] * 40,
        "emotion": ["neu"] * 40,
    }
    return Manifest(normalise(pa.table(columns)), str(tmp_path))


PROGRAM = """
import sys
from tests.features.sets.test_encoder_sets import extract_part
extract_part(*sys.argv[1:])
"""


def extract_part(root: str, store: str, encoder: str) -> None:
    """Extract, and die by SIGKILL with the second batch."""
    names = sorted(path.name for path in Path(root).glob("*.wav"))
    table = pa.table({"file": names, "speaker": ["a"] * 40, "emotion": ["neu"] * 40})
    call, calls = Extractor.__call__, []

    def killed(self: Extractor, batch: list) -> list:
        calls.append(batch)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(self, batch)

    Extractor.__call__ = killed  # type: ignore[method-assign]
    config = EncoderLayersConfig(encoder=encoder)
    run_without_ray(Manifest(normalise(table), root), Storage.open(store), config)


def test_a_run_after_sigkill_computes_only_the_missing_rows_with_the_same_bits(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderLayersConfig(encoder=shared_encoder())
    killed, whole = (Storage.open(str(tmp_path / name)) for name in ("killed", "whole"))
    arguments = (manifest.root, str(tmp_path / "killed"), shared_encoder())
    process = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=False)
    assert process.returncode == -signal.SIGKILL
    rows: list[str] = []
    compute = Extractor._row

    def counted(self: Extractor, task: dict) -> dict:
        rows.append(task["file"])
        return compute(self, task)

    monkeypatch.setattr(Extractor, "_row", counted)
    resumed = run_without_ray(manifest, killed, config).load(manifest, config)
    assert len(rows) == 40 - 16
    expected = run_without_ray(manifest, whole, config).load(manifest, config)
    np.testing.assert_array_equal(resumed.frames, expected.frames)
    assert resumed.fingerprint == expected.fingerprint
    rows.clear()
    run_without_ray(manifest, killed, config)
    assert rows == []


def test_a_row_does_not_depend_on_its_neighbours(manifest: Manifest, tmp_path: Path) -> None:
    config = EncoderLayersConfig(encoder=shared_encoder())
    store = run_without_ray(manifest, Storage.open(str(tmp_path / "all")), config)
    together = store.load(manifest, config)
    alone = Manifest(manifest.table.slice(39), manifest.root)
    one = run_without_ray(alone, Storage.open(str(tmp_path / "one")), config).load(alone, config)
    np.testing.assert_array_equal(together.frames[-1:], one.frames)


def test_rows_of_one_frame_are_stored_without_statistics_and_normalised_all_the_same(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = EncoderLayersConfig(encoder=shared_encoder(), normalize="speaker")
    store = run_without_ray(manifest, Storage.open(str(tmp_path / "store")), config)
    tables = [pq.read_table(path) for path in (tmp_path / "store").rglob("*.parquet")]
    assert len(tables) == 3
    for table in tables:
        assert table["values"].null_count == 0
        assert table["mean"].null_count == table["squares"].null_count == len(table)
    raw = store.load(manifest, EncoderLayersConfig(encoder=shared_encoder())).frames
    exact = raw.astype(np.float64)
    expected = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    np.testing.assert_allclose(store.load(manifest, config).frames, expected, atol=1e-4)


def test_old_shards_with_statistics_of_one_row_are_read(manifest: Manifest, tmp_path: Path) -> None:
    """Up to version 0.2.0, sets of one row stored the row as mean too, and zeros as squares."""
    config = EncoderLayersConfig(encoder=shared_encoder(), normalize="speaker")
    new, old = (Storage.open(str(tmp_path / name)) for name in ("new", "old"))
    store = run_without_ray(manifest, new, config)
    for number, path in enumerate(sorted((tmp_path / "new").rglob("*.parquet"))):
        rows = pq.read_table(path).to_pylist()
        if number:  # one shard stays as the present version writes it
            for row in rows:
                row |= {"mean": row["values"], "squares": [0.0] * len(row["values"])}
        write_shard(old.child(shards_folder(config, manifest.root)), rows)
    again = extract(manifest, config, old, compute=_nothing)
    kinds = Counter(entry.mean.dtype for entry in again.index.values())
    assert sorted(kinds, key=str) == [np.float32, np.float64]
    expected, features = store.load(manifest, config), again.load(manifest, config)
    np.testing.assert_array_equal(features.frames, expected.frames)
    assert features.fingerprint == expected.fingerprint
    parts = {"all": expected.ids, "some": expected.ids[:20]}
    for theirs, ours in zip(
        store.statistics(parts).values(), again.statistics(parts).values(), strict=True
    ):
        np.testing.assert_array_equal(ours.mean, theirs.mean)
        np.testing.assert_array_equal(ours.deviation, theirs.deviation)


def _nothing(extractor: Extractor, batches: list, workers: int | None) -> Iterator[Status]:
    raise AssertionError(f"{len(batches)} batches are extracted again")


def test_a_node_whose_files_or_libraries_differ_from_the_drivers_is_refused(
    manifest: Manifest, tmp_path: Path
) -> None:
    encoder = tiny_encoder(tmp_path / "encoder")
    storage = Storage.open(str(tmp_path / "store"))
    driver = Extractor(EncoderLayersConfig(encoder=encoder), manifest.recordings(), storage)
    task = manifest.table.select(["id", "file", "start", "end", "speaker"]).slice(0, 1)
    batch = task.append_column("source", pa.array(["1:1"])).cast(TASK_SCHEMA)

    def failure(worker: Extractor) -> str | None:
        """The failure that a worker on another machine returns to the driver."""
        [row] = _Actor(copy.deepcopy(worker))(batch).to_pylist()
        assert bool(row["unready"]) == (row["failure"] is not None)
        return row["failure"]

    tiny_encoder(tmp_path / "encoder", seed=1)
    message = failure(driver)
    assert "would differ from those of the driver (other files): give every node" in message
    assert "\n" not in message
    assert storage.list(recursive=True) == []
    tiny_encoder(tmp_path / "encoder")
    *others, last = driver.identity
    driver.identity = (*others, "soxr 0.0.1")
    assert f"(driver: soxr 0.0.1; here: {last}): give every node" in failure(driver)
    driver.identity = (*others, last)
    assert failure(driver) is None
    assert len(list((tmp_path / "store").rglob("*.parquet"))) == 1


def test_a_full_gpu_ends_the_run_and_keeps_finished_batches(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed: the network raises torch's error in the second batch."""
    config = EncoderLayersConfig(encoder=shared_encoder())
    encoder = encoders.load(encoders.describe(shared_encoder()), "cpu")
    network, calls = encoder.network, []

    def full(*args: torch.Tensor, **options: bool) -> object:
        calls.append(args)
        if len(calls) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore")
        return network(*args, **options)

    monkeypatch.setattr(encoder, "network", full)
    storage = Storage.open(str(tmp_path / "store"))
    with pytest.raises(
        DeviceError, match=r"^features\.device: the memory of the GPU is too .*kept$"
    ):
        run_without_ray(manifest, storage, config)
    assert len(calls) == 21
    monkeypatch.undo()
    store = run_without_ray(manifest, storage, config)
    assert store.errors() == []
    assert len({entry.shard for entry in store.index.values()}) == 3


@pytest.mark.parametrize(
    ("message", "full"),
    [
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer", True),
        ("CUDA error: device-side assert triggered", False),
        ("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)", False),
    ],
)
def test_errors_of_a_full_gpu_are_known_by_their_text(message: str, full: bool) -> None:
    assert (full_gpu(RuntimeError(message)) is not None) == full


def test_an_encoder_that_cannot_be_loaded_is_no_fault_of_a_recording(
    manifest: Manifest, tmp_path: Path
) -> None:
    folder = Path(tiny_encoder(tmp_path / "cut"))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:5000])
    config = EncoderLayersConfig(encoder=str(folder))
    storage = Storage.open(str(tmp_path / "store"))
    with pytest.raises(FeatureError, match="cannot be loaded by transformers"):
        run_without_ray(manifest, storage, config)
    assert storage.list(recursive=True) == []


def test_actors_share_gpus_or_take_a_cpu_each() -> None:
    assert room({"CPU": 16.0, "GPU": 2.0}, 0.0) == 16
    assert room({"CPU": 16.0, "GPU": 2.0}, 0.25) == 8
    assert room({"CPU": 6.0, "GPU": 2.0}, 0.25) == 6
    assert room({"CPU": 16.0, "GPU": 2.0}, 0.4) == 4
    with pytest.raises(FeatureError, match=r"features\.device is cuda, but the cluster has no GPU"):
        room({"CPU": 16.0}, 0.25)
    assert EncoderLayersConfig(encoder=shared_encoder()).load().gpu == 0
    assert EncoderLayersConfig(encoder=shared_encoder(), device="cuda").load().gpu == 0.25
