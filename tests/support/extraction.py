"""Extraction in tests: run it, and decode the recordings that it reads."""

from pathlib import Path

import numpy as np

from features import audio
from features.extract import extract
from features.manifest import Manifest
from features.sets import FeatureConfig
from features.sets.emobase_lld45 import EmobaseConfig
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
