"""A look into a fold's network: embeddings of all test utterances, and attention for a few.

The values come from the same forward passes as the predictions. The folds are different networks,
so their values may be shown side by side, but never mixed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.dataset import Dataset, Indices, Pieces
from ser_models.sequences import Output

Outputs = list[tuple[Indices, Output]]
"""Batches: positions among the pieces of some utterances, and the network's output for them."""


OF_CONTEXT = ("own", "other")
"""Attention over the context turns: over their frames, or over turns that are one vector each."""


def samples(labels: Indices, lengths: Indices) -> Indices:
    """Return positions of one utterance of each class: the one of median length.

    lengths : frames of each utterance. For utterances of one frame each: context turns
    """
    positions = []
    for name in np.unique(labels):
        mine = np.flatnonzero(labels == name)
        positions.append(mine[np.argsort(lengths[mine], kind="stable")[(len(mine) - 1) // 2]])
    return np.asarray(positions, dtype=np.int64)


def inspect(fold: str, dataset: Dataset, rows: Indices, outputs: Outputs) -> list[dict[str, Any]]:
    """Return a row for each utterance of `rows`, or no rows if the model has no attention.

    `embedding` and `speaker_embedding`, or None, are means over an utterance's segments. Only the
    utterances of `samples` have `attention`, a list of (name, weights), in which the weights of
    each segment sum to 1 (if two segments overlap, their weights are added), `picture`, (frames
    * bands) row by row, with `bands`, and the `seconds` of all frames. Without columns to draw,
    `bands` is 0.
    """
    if not outputs[0][1].attention:
        return []
    pieces = dataset.pieces(rows)
    owner = np.cumsum(np.diff(pieces.rows, prepend=-1) != 0) - 1  # position of each piece in `rows`
    names = ("embedding", "speaker_embedding")
    vectors = {name: _embeddings(name, owner, outputs) for name in names}
    lengths = dataset.offsets[rows + 1] - dataset.offsets[rows]
    if (lengths == 1).all():  # vectors: the attention is over their context turns
        lengths = dataset.own.counts[rows] + dataset.other.counts[rows]
    picture = dataset.picture or slice(0, 0)
    shown = {}
    for position in samples(dataset.labels[rows], lengths):
        first, end = dataset.offsets[rows[position]], dataset.offsets[rows[position] + 1]
        frames = dataset.frames[first:end, picture]
        shown[position] = {
            "attention": _curves(np.flatnonzero(owner == position), pieces, outputs),
            "picture": frames.ravel().tolist(),
            "bands": frames.shape[1],
            "seconds": len(frames) * dataset.frame,
        }
    hidden = dict.fromkeys(("attention", "picture", "bands", "seconds"))
    return [
        {
            "fold": fold,
            "utterance": dataset.ids[row],
            "speaker": dataset.speakers[row],
            "truth": dataset.classes[dataset.labels[row]],
            **{name: values[position] for name, values in vectors.items()},
            **shown.get(position, hidden),
        }
        for position, row in enumerate(rows)
    ]


def _embeddings(name: str, owner: Indices, outputs: Outputs) -> list[list[float] | None]:
    """Return the mean over the pieces of each utterance, or None for each without embeddings."""
    first = getattr(outputs[0][1], name)
    count = int(owner[-1]) + 1
    if first is None:
        return [None] * count
    sums = np.zeros((count, first.shape[1]))
    for positions, output in outputs:
        np.add.at(sums, owner[positions], getattr(output, name).float().cpu().numpy())
    means = sums / np.bincount(owner)[:, None]
    return [vector.tolist() for vector in means.astype(np.float32)]


def _curves(mine: Indices, pieces: Pieces, outputs: Outputs) -> list[dict[str, Any]]:
    """Return each attention of one utterance, with the sum of the weights if segments overlap.

    mine : positions of the utterance's pieces
    """
    curves: dict[str, NDArray[np.float32]] = {}
    begin = pieces.starts[mine].min()
    span = int((pieces.starts + pieces.lengths)[mine].max() - begin)  # frames of the utterance
    for positions, output in outputs:
        for place in np.flatnonzero(np.isin(positions, mine)):
            piece = positions[place]
            for name, values in output.attention.items():
                weights = values[place].float().cpu().numpy()
                if name in OF_CONTEXT:  # over context turns, whose lengths are not in `pieces`
                    curves[name] = np.trim_zeros(weights, "b")
                    continue
                frames = -(-int(pieces.lengths[positions].max()) // len(weights))  # of a weight
                first, steps, count = (
                    -(-int(length) // frames)
                    for length in (pieces.starts[piece] - begin, span, pieces.lengths[piece])
                )
                curve = curves.setdefault(name, np.zeros(steps, np.float32))
                curve[first : first + count] += weights[:count]
    return [{"name": name, "weights": weights.tolist()} for name, weights in curves.items()]
