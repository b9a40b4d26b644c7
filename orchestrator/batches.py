"""From the feature store's arrays to padded batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features.context import ABSENT
from ser_models.sequences import Padded

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """All that training reads, in arrays that workers of one node share.

    frames : (frames, dims) float32, utterance after utterance
    offsets : (utterances + 1,) int64; utterance i is frames[offsets[i]:offsets[i + 1]]
    labels : (utterances,) int64 class; negative for one that serves as context only
    own, other : (utterances,) int64 context rows, or ABSENT
    ids, speakers : (utterances,) str
    classes : names of the classes
    """

    frames: NDArray[np.float32]
    offsets: Indices
    labels: Indices
    own: Indices
    other: Indices
    ids: list[str]
    speakers: list[str]
    classes: tuple[str, ...]

    @property
    def dims(self) -> int:
        """Descriptors a frame."""
        return int(self.frames.shape[1])

    def padded(self, rows: Indices) -> Padded:
        """The utterances `rows` as one batch; ABSENT gives an empty sequence."""
        present = rows != ABSENT
        starts = np.where(present, self.offsets[rows], 0)
        lengths = np.where(present, self.offsets[rows + 1] - starts, 0)
        values = np.zeros((len(rows), max(int(lengths.max(initial=0)), 1), self.dims), np.float32)
        for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            values[i, :length] = self.frames[start : start + length]
        return Padded(torch.from_numpy(values), torch.from_numpy(lengths))


@dataclass(frozen=True)
class Batch:
    """One step's utterances: current turns, their context turns, and their classes (batch,)."""

    rows: Indices
    current: Padded
    own: Padded
    other: Padded
    labels: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return Batch(
            self.rows,
            self.current.to(device),
            self.own.to(device),
            self.other.to(device),
            self.labels.to(device, non_blocking=True),
        )


def make_batch(dataset: Dataset, rows: Indices) -> Batch:
    """The utterances `rows` with their context."""
    return Batch(
        rows,
        dataset.padded(rows),
        dataset.padded(dataset.own[rows]),
        dataset.padded(dataset.other[rows]),
        torch.from_numpy(dataset.labels[rows]),
    )


def training_batches(
    dataset: Dataset, rows: Indices, size: int, generator: np.random.Generator
) -> Iterator[Indices]:
    """Rows of each step of an epoch: a new order each time, the last batch what is left."""
    order = generator.permutation(rows)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def evaluation_batches(dataset: Dataset, rows: Indices, size: int = 256) -> Iterator[Indices]:
    """Rows sorted by length, so that little of a batch is padding."""
    lengths = dataset.offsets[rows + 1] - dataset.offsets[rows]
    order = rows[np.argsort(lengths, kind="stable")]
    for start in range(0, len(order), size):
        yield order[start : start + size]
