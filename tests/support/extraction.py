"""Extraction in tests: run it, and decode the recordings that it reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features import audio
from features import extract as module
from features.extract import extract
from features.manifest import Manifest
from features.recordings import Recordings
from features.sets import FeatureConfig
from features.sets.emobase_lld45 import EmobaseConfig
from features.shards import TASK_SCHEMA, Row
from features.storage import Storage
from features.store import FeatureStore

CONFIG = EmobaseConfig()


def run(
    manifest: Manifest,
    folder: Path,
    workers: int | None = None,
    config: FeatureConfig = CONFIG,
) -> tuple[FeatureStore, list]:
    """Extract into `folder`. Returns the store, and the calls of `progress`."""
    calls: list = []
    store = extract(
        manifest, config, Storage.open(str(folder)), lambda *args: calls.append(args), workers
    )
    return store, calls


def samples_of(root: str, file: str) -> np.ndarray:
    """Samples of a recording, (n,) float32 at 16 kHz."""
    return audio.decode(audio.fetch(Storage.open(root), file))


def run_without_ray(manifest: Manifest, storage: Storage, config: FeatureConfig) -> FeatureStore:
    """As `features.extract.extract`, with its actor in this process instead of Ray Data."""

    def compute(
        name: str,
        batches: list[list[Row]],
        recordings: Recordings,
        shards: Storage,
        workers: int | None,
    ) -> Iterator[tuple[str, str | None, bool]]:
        actor = module._Extractor(name, recordings, shards)
        for batch in batches:
            for row in actor(pa.Table.from_pylist(batch, schema=TASK_SCHEMA)).to_pylist():
                assert row["failure"] is None
                yield row["id"], row["error"], row["stored"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_compute", compute)
        return extract(manifest, config, storage)
