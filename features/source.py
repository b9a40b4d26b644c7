"""The frames of utterances as a run reads them, made one shard at a time.

A `Source` is small, and travels to the nodes. Each node makes its own frames from the shards.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.shards import read_values
from features.statistics import Statistics, normalise
from features.storage import Storage

_TOGETHER = 4
"""Shards that are read at the same time. A shard of 16 utterances of log-mel takes some megabytes
of memory."""


@dataclass(frozen=True)
class Source:
    """What the frames of some utterances are made from: `utterances` makes them.

    storage : of the shards
    extraction : `features.extract.extraction_hash`
    places : (utterances, 2) number of the shard in `shards`, and of the row in the shard
    offsets : (utterances + 1,) utterance i has the frames from offsets[i] to offsets[i + 1]
    dims : columns of a frame
    cap : frames that are kept of each utterance, before pooling; None keeps all
    pooling : frames that are averaged into one
    speakers : (utterances,) number of each utterance's speaker in `statistics`
    statistics : of each speaker, for z-scores; empty if frames stay as extracted
    """

    storage: Storage
    extraction: str
    shards: tuple[str, ...]
    places: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    dims: int
    cap: int | None
    pooling: int
    speakers: npt.NDArray[np.int64]
    statistics: tuple[Statistics, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the array of all frames."""
        return int(self.offsets[-1]), self.dims

    @property
    def nbytes(self) -> int:
        """Bytes of the array of all frames, in float32."""
        return int(self.offsets[-1]) * self.dims * 4

    def utterances(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield the number of each utterance and its frames, (frames, dims), shard by shard.

        Raises FeatureError if a shard is damaged, and StorageError if the storage fails.
        """
        members: dict[int, list[int]] = defaultdict(list)
        for i, shard in enumerate(self.places[:, 0].tolist()):
            members[shard].append(i)
        numbers = list(members)
        with ThreadPoolExecutor(_TOGETHER) as threads:
            for start in range(0, len(numbers), _TOGETHER):
                some = numbers[start : start + _TOGETHER]
                names = [self.shards[number] for number in some]
                of_shards = threads.map(lambda name: read_values(self.storage, name), names)
                for number, values in zip(some, of_shards, strict=True):
                    for i in members[number]:
                        row = values[int(self.places[i, 1])].values.to_numpy()
                        yield i, self._frames(i, row.reshape(-1, self.dims))

    def _frames(self, i: int, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        frames: npt.NDArray[np.floating] = values[: self.cap]
        if self.statistics:
            _, mean, deviation = self.statistics[self.speakers[i]]
            frames = normalise(frames, mean, deviation)
        return pool(frames, self.pooling).astype(np.float32, copy=False)

    def identity(self) -> str:
        """SHA-256 of everything that decides the bytes of the frames; equal on all machines.

        The names of shards contain the SHA-256 of their bytes. The code that makes the frames
        counts too.
        """
        options = (self.extraction, self.shape, self.cap, self.pooling)
        digest = hashlib.sha256(repr(options).encode())
        for file in ("source.py", "statistics.py"):
            digest.update(hashlib.sha256(Path(__file__).with_name(file).read_bytes()).digest())
        digest.update("\0".join(self.shards).encode())
        for numbers in (self.places, self.offsets, self.speakers):
            digest.update(numbers.astype("<i8").tobytes())
        for _, mean, deviation in self.statistics:
            digest.update(mean.astype("<f8").tobytes() + deviation.astype("<f8").tobytes())
        return digest.hexdigest()


def pool(frames: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.floating]:
    """Average each `size` frames: (n, dims) to (ceil(n / size), dims).

    The last group is averaged over the frames that it has. Size 1 returns `frames` itself.
    """
    if size == 1:
        return frames
    starts = np.arange(0, len(frames), size)
    counts = np.minimum(size, len(frames) - starts)
    return np.add.reduceat(frames, starts, axis=0, dtype=np.float64) / counts[:, None]
