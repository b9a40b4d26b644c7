"""Extraction in tests: run it, and decode the recordings that it reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from features import audio
from features.extract import extract
from features.extractor import Extractor, Status
from features.manifest import Manifest
from features.sets import FeatureConfig
from features.sets.emobase_lld45 import EmobaseConfig
from features.shards import Row
from features.storage import Storage
from features.store import FeatureStore

CONFIG = EmobaseConfig()


def run(
    manifest: Manifest,
    folder: Path,
    workers: int | None = None,
    config: FeatureConfig = CONFIG,
    on_cluster: bool = False,
) -> tuple[FeatureStore, list]:
    """Extract into `folder`. Returns the store, and the calls of `progress`."""
    calls: list = []
    store = extract(
        manifest,
        config,
        Storage.open(str(folder)),
        lambda *args: calls.append(args),
        workers,
        on_cluster,
    )
    return store, calls


def samples_of(root: str, file: str) -> np.ndarray:
    """Samples of a recording, (n,) float32 at 16 kHz."""
    return audio.decode(audio.fetch(Storage.open(root), file))


def run_without_ray(manifest: Manifest, storage: Storage, config: FeatureConfig) -> FeatureStore:
    """As `features.extract.extract`, in this process instead of a pool."""

    def compute(extractor: Extractor, batches: list[list[Row]], _: object) -> Iterator[Status]:
        for batch in batches:
            yield from extractor(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.pool.compute", compute)
        return extract(manifest, config, storage)
