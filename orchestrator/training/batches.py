"""The batches of training and of evaluation."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from orchestrator.data.dataset import Dataset, Indices, Pieces
from ser_models.sequences import Padded


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
        dataset.context(dataset.own, pieces.rows),
        dataset.context(dataset.other, pieces.rows),
        torch.from_numpy(dataset.labels[pieces.rows]),
    )


def balanced_weights(labels: Indices, classes: int) -> torch.Tensor:
    """Return the weight of each class in the loss, (classes,) float32: n / (k n_c).

    This is scikit-learn's `balanced`, for n labels of k classes, and n_c > 0 labels of class c. The
    mean weight of the labels is 1, and all classes have the same total weight.

    labels : (n,) number of each piece's class
    """
    weights = len(labels) / (classes * np.bincount(labels, minlength=classes))
    return torch.from_numpy(weights.astype(np.float32))


def training_batches(
    labels: Indices, size: int, balanced: bool, generator: np.random.Generator
) -> list[Indices]:
    """Return the positions of the pieces in each batch of one pass, in random order.

    labels : (pieces,)
    balanced : every batch has the same number of pieces of each class. The pass covers the most
        frequent class once, and a few of its pieces again to fill the last batch. Pieces of other
        classes repeat. If False, each piece comes once, and the last batch may be smaller
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
    """Yield the positions of the pieces in each batch, sorted by length to save padding."""
    order = np.argsort(pieces.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]
