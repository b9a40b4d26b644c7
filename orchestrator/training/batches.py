"""The batches of training and of evaluation."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from orchestrator.data.dataset import Dataset, Indices, Pieces
from ser_models.sequences import Padded

GROUP = 8
"""Batches in a group of training that is sorted by length. Larger groups save little more padding,
and leave less to chance: `benchmarks/padding.py` prints the shares of real frames."""


class Batch(NamedTuple):
    """The pieces of one step, the context turns of their utterances, and their classes (batch,)."""

    current: Padded
    own: Padded
    other: Padded
    labels: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return a copy on `device`."""
        current, own, other = (turns.to(device) for turns in self[:3])
        return Batch(current, own, other, self.labels.to(device, non_blocking=True))


def make_batch(dataset: Dataset, pieces: Pieces) -> Batch:
    """Return pieces with the context turns of their utterances. Context turns are never cut."""
    return Batch(
        dataset.padded(pieces),
        dataset.padded(dataset.whole(dataset.own[pieces.rows])),
        dataset.padded(dataset.whole(dataset.other[pieces.rows])),
        torch.from_numpy(dataset.labels[pieces.rows]),
    )


def longest_turns(dataset: Dataset, pieces: Pieces) -> Indices:
    """Return the frames of each piece or of its longer context turn, whichever is longest.

    A batch is padded three times: its pieces, and both kinds of context turns. If pieces are sorted
    by the longest of the three, a batch has less padding than if they are sorted by the sum, or by
    the piece alone. `benchmarks/padding.py` compares the three.
    """
    context = (dataset.whole(rows[pieces.rows]).lengths for rows in (dataset.own, dataset.other))
    return np.maximum.reduce([pieces.lengths, *context])


def training_batches(
    labels: Indices, lengths: Indices, size: int, balanced: bool, generator: np.random.Generator
) -> list[Indices]:
    """Return the positions of the pieces in each batch of one pass, in random order.

    The pass is shuffled and cut into groups of `GROUP` batches. Each group is sorted by length
    before it is cut into batches, to save padding. Then the batches of the pass are shuffled. Each
    class is sorted on its own: a batch has pieces of all classes, and each of them is as long among
    its class as the others are among theirs.

    labels, lengths : (pieces,). If all lengths are equal, nothing is sorted
    balanced : every batch has the same number of pieces of each class. The pass covers the most
        frequent class once, and a few of its pieces again to fill the last batch. Pieces of other
        classes repeat. If False, each piece comes once, and one batch may be smaller
    """
    if balanced:
        classes = np.unique(labels)
        share = size // len(classes)
        members = [np.flatnonzero(labels == name) for name in classes]
        sizes = np.full(-(-max(map(len, members)) // share), share)
        parts = [_parts(rows, lengths, sizes, generator) for rows in members]
        batches = [np.concatenate(batch) for batch in zip(*parts, strict=True)]
    else:
        # The smaller batch has a random place. At the end, it would have the longest pieces.
        sizes = np.full(-(-len(labels) // size), size)
        sizes[generator.integers(len(sizes))] -= sizes.sum() - len(labels)
        order = generator.permutation(len(labels))
        group = np.repeat(np.arange(len(sizes)) // GROUP, sizes)
        if np.ptp(lengths):
            order = order[np.lexsort((_quantiles(labels[order], lengths[order], group), group))]
        batches = np.split(order, np.cumsum(sizes)[:-1])
    return [batches[number] for number in generator.permutation(len(batches))]


def _quantiles(
    labels: Indices, lengths: Indices, group: Indices
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the rank of each piece by length in its class and group: above 0, below 1."""
    by_length = np.lexsort((lengths, labels, group))
    _, first, stratum, counts = np.unique(
        np.stack([group, labels])[:, by_length],
        axis=1,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    quantiles = np.empty(len(labels))
    quantiles[by_length] = (np.arange(len(labels)) - first[stratum] + 0.5) / counts[stratum]
    return quantiles


def _parts(
    rows: Indices, lengths: Indices, sizes: Indices, generator: np.random.Generator
) -> list[Indices]:
    """Return the part of each batch that has pieces of one class, `rows`.

    sizes : (batches,) pieces of this class in each batch
    """
    count = int(sizes.sum())
    order = np.concatenate([generator.permutation(rows) for _ in range(-(-count // len(rows)))])
    order = order[:count]
    group = np.arange(len(sizes)) // GROUP
    # Each permutation is sorted for itself. Otherwise the copies of a piece in a group would come
    # into the same batch.
    permutation = np.arange(count) // len(rows)
    order = order[np.lexsort((lengths[order], permutation, np.repeat(group, sizes)))]
    parts = np.split(order, np.cumsum(sizes)[:-1])
    # Parts of the same rank make a batch, so that its classes are alike in length.
    longest = [lengths[part].max() for part in parts]
    return [parts[number] for number in np.lexsort((longest, group))]


def evaluation_batches(pieces: Pieces, size: int) -> Iterator[Indices]:
    """Yield the positions of the pieces in each batch, sorted by length to save padding."""
    order = np.argsort(pieces.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]
