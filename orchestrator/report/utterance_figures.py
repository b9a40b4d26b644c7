"""Draws attention over a few utterances, and t-SNE of embeddings, for a study's page.

The values come from the best trial's inspection (`orchestrator.training.inspection`). Both figures
show the first fold only, because each fold is another network.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.storage import safe_name
from orchestrator.report.axes import WIDTH, Axis, legend, legend_height
from orchestrator.report.interpretation import (
    FEWEST_POINTS,
    OF_THE_TURN,
    first_fold,
    over_turns,
    picture_of,
    shown_utterances,
    tsne,
)
from orchestrator.report.labels import GREY, PALETTE, marker
from orchestrator.report.svg import Drawing, shortened
from orchestrator.results.study import Entry, Study

MOST_COLUMNS = 240
"""Columns of a picture: more would not be seen, and would make the page large."""
MOST_POINTS = 300
"""Utterances in a picture of embeddings. The page of a single sweep shows up to 1,000."""
MOST_NAMES = 14
"""Longest legend of speakers."""
LEFT, RIGHT, HEIGHT, GAP = 50, WIDTH - 50, 96, 62


def utterance_figures(study: Study) -> dict[str, str]:
    """SVG of each figure by file name without suffix.

    Names: `attention-<sweep>` and `embeddings-<sweep>`, for sweeps whose models have them.
    """
    drawn: dict[str, str] = {}
    for entry in study.ranking:
        inspection = inspection_of(entry)
        if inspection is None:
            continue
        name = safe_name(entry.label)
        if shown_utterances(inspection):
            drawn[f"attention-{name}"] = attention(entry, inspection)
        if (placed := embeddings(entry, inspection)) is not None:
            drawn[f"embeddings-{name}"] = placed
    return drawn


def inspection_of(entry: Entry) -> pa.Table | None:
    """The inspection of a sweep's best trial; None for models without attention."""
    return None if entry.findings.best is None else entry.findings.best.inspection


def examples(study: Study) -> dict[str, str]:
    """Utterance -> class, for the figures of attention. Those of the best models come first."""
    found: dict[str, str] = {}
    for entry in study.ranking:
        inspection = inspection_of(entry)
        for row in [] if inspection is None else _ordered(entry, inspection):
            found.setdefault(row["utterance"], row["truth"])
    return found


def _ordered(entry: Entry, inspection: pa.Table) -> list[dict[str, Any]]:
    """The utterances whose attention was kept, by class."""
    classes = entry.record.classes
    return sorted(shown_utterances(inspection), key=lambda row: classes.index(row["truth"]))


def attention(entry: Entry, inspection: pa.Table) -> str:
    """A panel for each class: one utterance and its attention, as `interpretation.attention`."""
    rows = _ordered(entry, inspection)
    turns = over_turns(inspection)
    kept = [
        [curve for curve in row["attention"] if turns or curve["name"] in OF_THE_TURN]
        for row in rows
    ]
    names = list(dict.fromkeys(curve["name"] for curves in kept for curve in curves))
    look = {
        name.replace("_", " "): {"color": colour, "symbol": "square"}
        for name, colour in zip(names, PALETTE[1:], strict=False)
    }
    foot = (HEIGHT + GAP) * len(rows) + 10
    height = foot + legend_height(list(look))
    drawing = Drawing(WIDTH, height, f"Attention of {entry.label}")
    colours = dict(zip(names, PALETTE[1:], strict=False))
    pooling = entry.record.feature_set.get("pool") or 1
    for number, (row, curves) in enumerate(zip(rows, kept, strict=True)):
        top = (HEIGHT + GAP) * number + 24
        title = shortened(f"{row['truth']}: {row['utterance']}", WIDTH - LEFT, 12)
        drawing.text((LEFT, top - 8), title, size=12)
        weights = [weight for curve in curves for weight in curve["weights"]]
        y = Axis(0.0, max(weights, default=0.0), top + HEIGHT, top)
        if turns:
            _turns(drawing, curves, colours, y, top)
        else:
            _frames(drawing, row, curves, colours, y, top, pooling)
        for tick in (0.0, y.high):
            drawing.text((RIGHT + 4, y(tick) + 4), f"{tick:.3g}", "start", 11)
    legend(drawing, look, list(look), foot)
    return drawing.svg()


def _frames(
    drawing: Drawing,
    row: dict[str, Any],
    curves: Sequence[dict[str, Any]],
    colours: dict[str, str],
    y: Axis,
    top: float,
    pooling: int,
) -> None:
    """The spectrogram or loudness of an utterance, if any, with its curves, over seconds."""
    picture, seconds = picture_of(row, pooling)
    x = Axis(0.0, seconds, LEFT, RIGHT)
    end = x(seconds)
    reduced = averaged(picture, MOST_COLUMNS)
    if row["bands"] > 1:
        drawing.image((LEFT, top), (end - LEFT, HEIGHT), grey_png(reduced.T[::-1]))
        drawing.text((LEFT - 30, top + HEIGHT / 2), "mel band", "middle", 11, upright=True)
    elif len(reduced):
        level = Axis(float(reduced.min()), float(reduced.max()), top + HEIGHT, top)
        step = seconds / len(reduced)
        points = [(x(step * (n + 0.5)), level(float(v))) for n, v in enumerate(reduced[:, 0])]
        drawing.path(points, GREY, width=1)
        drawing.text((LEFT - 30, top + HEIGHT / 2), "loudness", "middle", 11, upright=True)
    for curve in curves:
        weights = averaged(np.asarray(curve["weights"], np.float64)[:, None], MOST_COLUMNS)[:, 0]
        step = seconds / max(1, len(weights))
        points = [(x(step * (n + 0.5)), y(float(weight))) for n, weight in enumerate(weights)]
        drawing.path(points, colours[curve["name"]])
    drawing.line((LEFT, top + HEIGHT), (RIGHT, top + HEIGHT), opacity=0.4)
    for tick in x.ticks:
        if tick <= seconds:
            drawing.text((x(tick), top + HEIGHT + 15), f"{tick:.3g} s", "middle", 11)


def _turns(
    drawing: Drawing,
    curves: Sequence[dict[str, Any]],
    colours: dict[str, str],
    y: Axis,
    top: float,
) -> None:
    """A bar for each turn before an utterance; -1 is the newest turn of its speaker."""
    longest = max((len(curve["weights"]) for curve in curves), default=0)
    room = (RIGHT - LEFT) / max(1, longest)
    width = room * 0.8 / max(1, len(curves))
    for number, curve in enumerate(curves):
        first = longest - len(curve["weights"])
        for turn, weight in enumerate(curve["weights"], start=first):
            x = LEFT + room * turn + width * number
            hint = f"{curve['name']}, turn {turn - longest}: {weight:.3f}"
            size = (width, top + HEIGHT - y(weight))
            drawing.box((x, y(weight)), size, colours[curve["name"]], hint=hint)
    drawing.line((LEFT, top + HEIGHT), (RIGHT, top + HEIGHT), opacity=0.4)
    for turn in range(0, longest, max(1, longest // 8)):
        middle = LEFT + room * (turn + 0.4)
        drawing.text((middle, top + HEIGHT + 15), str(turn - longest), "middle", 11)


def averaged(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """At most `most` rows: means over groups of neighbouring rows, (rows, columns)."""
    if len(values) <= most:
        return values
    edges = np.linspace(0, len(values), most + 1).astype(np.int64)
    sums: NDArray[np.float64] = np.add.reduceat(values, edges[:-1], axis=0)
    return sums / np.diff(edges)[:, None]


def grey_png(values: NDArray[np.float64]) -> bytes:
    """An array (rows, columns) as a grey PNG: the largest value is black, the smallest white."""
    low, high = float(values.min()), float(values.max())
    shades = np.round(255 * (high - values) / ((high - low) or 1.0)).astype(np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in shades)  # 0: no filter
    header = struct.pack(">IIBBBBB", shades.shape[1], shades.shape[0], 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def embeddings(entry: Entry, inspection: pa.Table) -> str | None:
    """t-SNE of z_em, and of z_sp if the model has it: by emotion on the left, by speaker right.

    Returns None if the fold has too few utterances, or if all of them have the same embedding.
    """
    table = first_fold(inspection)
    if len(table) < FEWEST_POINTS:
        return None
    table = table.take(np.unique(np.linspace(0, len(table) - 1, MOST_POINTS).astype(np.int64)))
    titles = {"embedding": "embedding z_em", "speaker_embedding": "speaker embedding z_sp"}
    vectors = {
        name: np.asarray(table[name].to_pylist(), np.float64)
        for name in titles
        if table[name].null_count == 0
    }
    vectors = {name: values for name, values in vectors.items() if np.ptp(values, axis=0).any()}
    if not vectors:
        return None
    colourings = {"emotion": table["truth"].to_pylist(), "speaker": table["speaker"].to_pylist()}
    looks = {
        label: {name: marker(number) for number, name in enumerate(sorted(set(values)))}
        for label, values in colourings.items()
    }
    legends = {label: list(look)[:MOST_NAMES] for label, look in looks.items()}
    side = WIDTH / 2 - 10
    foot = (side + 24) * len(vectors)
    height = foot + sum(legend_height(names) + 20 for names in legends.values())
    drawing = Drawing(WIDTH, height, f"Embeddings of {entry.label}")
    for number, (name, values) in enumerate(vectors.items()):
        top = (side + 24) * number + 20
        places = tsne(values)
        low, size = places.min(axis=0), np.ptp(places, axis=0)
        places = (places - low) / np.where(size == 0, 1, size)
        for column, (label, names) in enumerate(colourings.items()):
            left = (side + 20) * column
            drawing.text((left + 4, top - 6), f"{titles[name]}, by {label}", size=12)
            drawing.frame((left, top), (side, side))
            for (x, y), value in zip(places, names, strict=True):
                look = looks[label][value]
                spot = (left + 8 + (side - 16) * float(x), top + 8 + (side - 16) * float(y))
                drawing.dot(spot, look["color"], look["symbol"], 3, opacity=0.8)
    for label, names in legends.items():
        more = len(looks[label]) - len(names)
        title = f"{label}:" + (f" (and {more} more)" if more else "")
        drawing.text((4, foot + 14), title, size=12)
        legend(drawing, looks[label], names, foot + 18)
        foot += legend_height(names) + 20
    return drawing.svg()
