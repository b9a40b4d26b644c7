"""What a model made of its test part: embeddings of all of it, attention for a few utterances.

Taken from the same forward passes as the predictions. Folds are different networks, so what they
say may be set side by side and never mixed.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.training.batches import Dataset, Pieces
from ser_models.sequences import Output

Indices = NDArray[np.int64]
Outputs = list[tuple[Indices, Output]]
"""Positions among the pieces of some utterances, and what the network made of those pieces."""


def samples(labels: Indices, lengths: Indices) -> Indices:
    """Positions of one utterance of each class, of the median length: neither short nor long."""
    chosen = []
    for name in np.unique(labels):
        mine = np.flatnonzero(labels == name)
        chosen.append(mine[np.argsort(lengths[mine], kind="stable")[(len(mine) - 1) // 2]])
    return np.asarray(chosen, dtype=np.int64)


def check(table: pa.Table, classes: list[str]) -> None:
    """Raise ValueError where a table is not one of rows of `inspect`."""
    names = {"embedding", "speaker_embedding", "attention", "picture", "bands"}
    if missing := sorted(names - set(table.column_names)):
        raise ValueError(f"no column {', '.join(missing)}")
    if odd := sorted(set(table["truth"].to_pylist()) - set(classes)):
        raise ValueError(f"{odd[0]!r} is no class of the sweep")
    for name in ("embedding", "speaker_embedding"):
        column = table[name]
        if name == "embedding" or column.null_count < len(column):
            _check_vectors(name, column)
    drawn = table.select(["fold", "attention", "picture", "bands"]).to_pylist()
    drawn = [row for row in drawn if row["attention"] is not None]
    if table["fold"][0].as_py() not in {row["fold"] for row in drawn}:
        raise ValueError("no utterance of the first fold has attention")
    for row in drawn:
        bands, picture = row["bands"], row["picture"]
        if not isinstance(bands, int) or bands < 1 or not _numbers(picture) or len(picture) % bands:
            raise ValueError("a picture has not as many values as its bands ask for")
        for curve in row["attention"]:
            if not isinstance(curve, dict) or not isinstance(curve.get("name"), str):
                raise ValueError("attention has no names")
            # Over a turn before, weights may be none: there was no such turn.
            empty = curve["name"] in ("own", "other") and curve.get("weights") == []
            if not empty and not _numbers(curve.get("weights")):
                raise ValueError(f"the weights of attention {curve['name']} are none")


def _numbers(values: Any) -> bool:
    return (
        isinstance(values, list) and len(values) > 0 and all(isinstance(v, float) for v in values)
    )


def _check_vectors(name: str, column: pa.ChunkedArray) -> None:
    """Raise ValueError where a column is not of vectors of one size and finite numbers."""
    kind = column.type
    if not pa.types.is_list(kind) or not pa.types.is_floating(kind.value_type):
        raise ValueError(f"{name} is {kind}")
    sizes = pc.unique(pc.list_value_length(column)).to_pylist()
    values = pc.list_flatten(column)
    if None in sizes or len(sizes) != 1 or sizes[0] < 1 or values.null_count:
        raise ValueError(f"{name} has vectors of several sizes, or without values")
    if not pc.all(pc.is_finite(values)).as_py():
        raise ValueError(f"{name} has values that are not finite")


def inspect(
    fold: str, dataset: Dataset, rows: Indices, outputs: Outputs, picture: slice
) -> list[dict[str, Any]]:
    """A row for each of `rows`; none where the model has no attention to look at.

    picture : columns of the features that show an utterance

    `embedding` and `speaker_embedding` are means over an utterance's segments. The utterances of
    `samples` have besides, else null: `attention`, a list of (name, weights), each segment's
    weights summing to 1; and `picture`, (frames * bands) row by row, with `bands`.
    """
    if not outputs[0][1].attention:
        return []
    pieces = dataset.pieces(rows)
    owner = np.cumsum(np.diff(pieces.rows, prepend=-1) != 0) - 1  # of each piece, in `rows`
    vectors = {
        name: _embeddings(name, owner, outputs) for name in ("embedding", "speaker_embedding")
    }
    lengths = dataset.offsets[rows + 1] - dataset.offsets[rows]
    shown = {}
    for position in samples(dataset.labels[rows], lengths):
        begins, ends = dataset.offsets[rows[position]], dataset.offsets[rows[position] + 1]
        frames = dataset.frames[begins:ends, picture]
        shown[position] = {
            "attention": _curves(np.flatnonzero(owner == position), pieces, outputs),
            "picture": frames.ravel().tolist(),
            "bands": frames.shape[1],
        }
    nothing = {"attention": None, "picture": None, "bands": None}
    return [
        {
            "fold": fold,
            "utterance": dataset.ids[row],
            "speaker": dataset.speakers[row],
            "truth": dataset.classes[dataset.labels[row]],
            **{name: found[position] for name, found in vectors.items()},
            **shown.get(position, nothing),
        }
        for position, row in enumerate(rows)
    ]


def _embeddings(name: str, owner: Indices, outputs: Outputs) -> list[list[float] | None]:
    """Of each utterance, the mean over its pieces; None where the model has no such embedding."""
    first = getattr(outputs[0][1], name)
    count = int(owner[-1]) + 1
    if first is None:
        return [None] * count
    summed = np.zeros((count, first.shape[1]))
    for part, output in outputs:
        np.add.at(summed, owner[part], getattr(output, name).float().cpu().numpy())
    means = summed / np.bincount(owner)[:, None]
    return [vector.tolist() for vector in means.astype(np.float32)]


def _curves(mine: Indices, pieces: Pieces, outputs: Outputs) -> list[dict[str, Any]]:
    """Each attention of one utterance, its pieces laid end to end."""
    found: dict[str, dict[int, list[float]]] = {}
    for part, output in outputs:
        for place in np.flatnonzero(np.isin(part, mine)):
            for name, values in output.attention.items():
                weights = values[place].float().cpu().numpy()
                if name in ("own", "other"):  # over another turn, as long as its weights go
                    weights = np.trim_zeros(weights, "b")
                else:  # a step is a frame, or two
                    frames = -(-int(pieces.lengths[part].max()) // len(weights))
                    weights = weights[: -(-int(pieces.lengths[part[place]]) // frames)]
                found.setdefault(name, {})[int(part[place])] = weights.tolist()
    return [
        {"name": name, "weights": [w for piece in sorted(of) for w in of[piece]]}
        for name, of in found.items()
    ]
