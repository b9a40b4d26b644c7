"""From the feature store's arrays to padded batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from features.context import ABSENT
from ser_models.sequences import Padded

Indices = NDArray[np.int64]


class Pieces(NamedTuple):
    """What a network sees at a time: whole utterances, or segments of them. All (pieces,).

    rows : the utterance of each; an utterance's pieces are neighbours
    starts, lengths : its frames in the dataset's array
    """

    rows: Indices
    starts: Indices
    lengths: Indices

    def take(self, chosen: Indices) -> "Pieces":
        """Some of them, in that order."""
        return Pieces(*(part[chosen] for part in self))


@dataclass(frozen=True)
class Dataset:
    """All that training reads, in arrays that workers of one node share.

    frames : (frames, dims) float32, utterance after utterance
    offsets : (utterances + 1,) int64; utterance i is frames[offsets[i]:offsets[i + 1]]
    segment : frames of a segment, of which an utterance's last may be shorter; None: not cut
    labels : (utterances,) int64 class; negative for one that serves as context only
    own, other : (utterances,) int64 context rows of the model, or ABSENT
    previous : (2, utterances) int64 classes of the last turns of the same and of the other
        speaker, whatever the model; negative where there is none, or it has no class. For the
        analysis of results, and never an input
    ids, speakers : (utterances,) str
    classes : names of the classes
    """

    frames: NDArray[np.float32]
    offsets: Indices
    segment: int | None
    labels: Indices
    own: Indices
    other: Indices
    previous: Indices
    ids: list[str]
    speakers: list[str]
    classes: tuple[str, ...]

    @property
    def dims(self) -> int:
        """Descriptors a frame."""
        return int(self.frames.shape[1])

    def whole(self, rows: Indices) -> Pieces:
        """The utterances `rows`, not cut; ABSENT is a piece of no frames."""
        present = rows != ABSENT
        starts = np.where(present, self.offsets[rows], 0)
        return Pieces(rows, starts, np.where(present, self.offsets[rows + 1] - starts, 0))

    def pieces(self, rows: Indices) -> Pieces:
        """The utterances `rows` as networks see them: cut into segments where there are."""
        rows, starts, lengths = self.whole(rows)
        if self.segment is None:
            return Pieces(rows, starts, lengths)
        counts = -(-lengths // self.segment)
        owner = np.repeat(np.arange(len(rows)), counts)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = number * self.segment
        return Pieces(
            rows[owner],
            starts[owner] + begins,
            np.minimum(lengths[owner] - begins, self.segment),
        )

    def padded(self, pieces: Pieces) -> Padded:
        """Pieces as one batch, zeros after each one's frames."""
        _, starts, lengths = pieces
        values = np.zeros((len(starts), max(int(lengths.max(initial=0)), 1), self.dims), np.float32)
        for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            values[i, :length] = self.frames[start : start + length]
        return Padded(torch.from_numpy(values), torch.from_numpy(lengths))


@dataclass(frozen=True)
class Batch:
    """One step's pieces, the context turns of their utterances, and their classes (batch,)."""

    current: Padded
    own: Padded
    other: Padded
    labels: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return Batch(
            self.current.to(device),
            self.own.to(device),
            self.other.to(device),
            self.labels.to(device, non_blocking=True),
        )


def make_batch(dataset: Dataset, pieces: Pieces) -> Batch:
    """Pieces with the context turns of their utterances, which are whole."""
    return Batch(
        dataset.padded(pieces),
        dataset.padded(dataset.whole(dataset.own[pieces.rows])),
        dataset.padded(dataset.whole(dataset.other[pieces.rows])),
        torch.from_numpy(dataset.labels[pieces.rows]),
    )


def training_batches(
    labels: Indices, size: int, balanced: bool, generator: np.random.Generator
) -> list[Indices]:
    """Which pieces each step of a pass takes, in a new order for each generator.

    labels : (pieces,)
    balanced : each batch has as many of each class; the most frequent class is passed once (its
        last few repeat where they do not fill a batch) and the rarer ones are repeated. Without,
        each piece comes once, and the last batch is what is left
    """
    if not balanced:
        order = generator.permutation(len(labels))
        return [order[start : start + size] for start in range(0, len(order), size)]
    classes = np.unique(labels)
    share = size // len(classes)
    members = [np.flatnonzero(labels == name) for name in classes]
    steps = -(-max(map(len, members)) // share)
    columns = []
    for rows in members:
        passes = -(-steps * share // len(rows))
        order = np.concatenate([generator.permutation(rows) for _ in range(passes)])
        columns.append(order[: steps * share].reshape(steps, share))
    return list(np.concatenate(columns, axis=1))


def evaluation_batches(pieces: Pieces, size: int) -> Iterator[Indices]:
    """Which pieces each batch takes: sorted by length, so that little of it is padding."""
    order = np.argsort(pieces.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]
