"""A feature store of invented values, made without audio."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from features.manifest import Manifest, normalise
from features.sets import FeatureConfig
from features.sets.logmel3d import LogMelConfig
from features.shards import Key, read_index, write_shard
from features.source import Source
from features.storage import Storage
from features.store import FeatureStore

SPEAKERS = 3


def made_store(folder: Path, config: FeatureConfig, seed: int = 0) -> tuple[FeatureStore, Manifest]:
    """A store of four utterances for each speaker, of 3 to 36 frames, in no order of speakers."""
    rng = np.random.default_rng(seed)
    storage, dims = Storage.open(str(folder)), config.load().dims
    files = [f"s{n % SPEAKERS}_{n}.wav" for n in range(4 * SPEAKERS)]
    columns = {"file": files, "speaker": [f[:2] for f in files], "emotion": ["neu"] * len(files)}
    manifest = Manifest(normalise(pa.table(columns)), str(folder))
    rows = manifest.table.select(["id", "file", "start", "end", "speaker"]).to_pylist()
    for number, row in enumerate(rows):
        row["source"] = "1:1"
        values = (rng.normal(size=(3 * number + 3, dims)) * 9 + 100).astype(np.float32)
        exact = values.astype(np.float64)
        row["full"] = {
            **row,
            "audio": row["file"],
            "frames": len(values),
            "values": values.ravel(),
            "mean": exact.mean(axis=0),
            "squares": ((exact - exact.mean(axis=0)) ** 2).sum(axis=0),
            "error": None,
        }
    for speaker in range(SPEAKERS):
        write_shard(storage, [row.pop("full") for row in rows[speaker::SPEAKERS]])
    index = read_index(storage)
    assert all(Key.of(row) in index for row in rows)
    return FeatureStore(storage, config.name, "extraction", rows, index, {}), manifest


def made_source(folder: Path) -> tuple[Source, np.ndarray]:
    """The source of invented log-mel, normalised by speaker, and its frames in memory."""
    config = LogMelConfig()
    store, manifest = made_store(folder, config)
    return store.layout(manifest, config).source, store.load(manifest, config).frames
