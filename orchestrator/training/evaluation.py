"""The posteriors that a network gives utterances, in training and afterwards."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestrator.data.dataset import Dataset, Indices
from orchestrator.training.batches import evaluation_batches, make_batch
from ser_models.base import EmotionModel
from ser_models.sequences import Output

UTTERANCES, SEGMENTS = 256, 64  # in a batch of evaluation; segments of images take more memory


@torch.no_grad()
def outputs(
    model: EmotionModel,
    dataset: Dataset,
    rows: Indices,
    device: torch.device,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[tuple[Indices, Output]]:
    """Yield batches: positions in `dataset.pieces(rows)`, and the network's output for them.

    precision : makes the context in which the network computes; float32 by default
    """
    model.eval()
    pieces = dataset.pieces(rows)
    size = UTTERANCES if dataset.segment is None else SEGMENTS
    for positions in evaluation_batches(pieces, size):
        batch = make_batch(dataset, pieces.take(positions)).to(device)
        with precision():
            yield positions, model(batch.current, batch.own, batch.other)


def log_posteriors(
    dataset: Dataset, rows: Indices, batches: Iterable[tuple[Indices, Output]]
) -> Tensor:
    """Return log-posteriors of the utterances `rows`, (rows, classes) float64.

    The posterior of an utterance is the mean over its segments. The mean is ours: the SSA-CRNN
    paper does not say how segments are joined.

    batches : the network's `outputs` for `rows`
    """
    pieces = dataset.pieces(rows)
    logarithms = np.empty((len(pieces.rows), len(dataset.classes)))
    for positions, output in batches:
        logarithms[positions] = torch.log_softmax(output.logits.double().cpu(), dim=1).numpy()
    first = np.flatnonzero(np.diff(pieces.rows, prepend=-1))
    counts = np.diff(first, append=len(pieces.rows))
    summed = np.logaddexp.reduceat(logarithms, first, axis=0)
    return torch.from_numpy(summed - np.log(counts)[:, None])
