"""Extraction in tests: run it, and decode the recordings that it reads."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from features import audio, pool
from features.extract import Compute, extract
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
    compute: Compute = pool.compute,
) -> tuple[FeatureStore, list]:
    """Extract into `folder`. Returns the store, and the calls of `progress`."""
    calls: list = []
    store = extract(
        manifest,
        config,
        Storage.open(str(folder)),
        lambda *args: calls.append(args),
        workers,
        compute,
    )
    return store, calls


def samples_of(root: str, file: str) -> np.ndarray:
    """Samples of a recording, (n,) float32 at 16 kHz."""
    return audio.decode(audio.fetch(Storage.open(root), file))


def here(
    extractor: Extractor, batches: list[list[Row]], workers: int | None = None
) -> Iterator[Status]:
    """Extract in this process: to start others takes longer than a small corpus."""
    for batch in batches:
        yield from extractor(batch)


def run_without_ray(manifest: Manifest, storage: Storage, config: FeatureConfig) -> FeatureStore:
    """As `features.extract.extract`, in this process instead of a pool."""
    return extract(manifest, config, storage, compute=here)


class Crashing(Extractor):
    """Kills its process when it gets a file, as the kernel does if memory is short.

    The file `crash` beside the recordings has the name of this recording and the number of
    crashes. `crashes` has one letter for each crash.
    """

    def __call__(self, batch: list[Row]) -> list[Status]:
        folder = Path(self.recordings.root)
        name, times = (folder / "crash").read_text().split()
        path = folder / "crashes"
        crashes = len(path.read_text()) if path.exists() else 0
        if crashes < int(times) and any(row["file"] == name for row in batch):
            path.write_text("x" * (crashes + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


class Failing(Extractor):
    """Has an error in its code, for one recording."""

    def __call__(self, batch: list[Row]) -> list[Status]:
        if any(row["file"] == "d3.wav" for row in batch):
            raise ZeroDivisionError("d3.wav")
        return super().__call__(batch)


class Slow(Extractor):
    """Says that it works, and then works for a long time."""

    def __call__(self, batch: list[Row]) -> list[Status]:
        Path("store").mkdir(exist_ok=True)
        Path("store", f"busy-{os.getpid()}").touch()
        time.sleep(600)
        return super().__call__(batch)
