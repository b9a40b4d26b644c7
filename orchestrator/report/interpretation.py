"""Figures of what the best trial's network attends to, and of where it puts utterances.

Of one fold, the first: the folds are different networks. Source of both figures: the SSA-CRNN
paper (Le Moine, Obin and Roebel, Interspeech 2021).
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from orchestrator.report.labels import text

FRAME = 0.01
"""Seconds of a frame that is not pooled."""
MOST_POINTS = 1000
FEWEST_POINTS = 10
OF_THE_TURN = ("current", "emotion", "speaker", "speaker_pooling")
"""Attention over the turn itself; `own` and `other` are over the turns before it."""


def first_fold(inspection: pa.Table) -> pa.Table:
    """The rows of the fold that comes first."""
    return inspection.filter(pc.equal(inspection["fold"], inspection["fold"][0]))


def attention(
    inspection: pa.Table, classes: list[str], pooling: int, palette: list[str]
) -> go.Figure:
    """A panel for each class: one utterance, its spectrogram or loudness, and attention over it.

    pooling : frames of 10 ms that were averaged into one
    """
    rows = [row for row in first_fold(inspection).to_pylist() if row["attention"] is not None]
    rows.sort(key=lambda row: classes.index(row["truth"]))
    figure = make_subplots(
        rows=len(rows),
        cols=1,
        specs=[[{"secondary_y": True}]] * len(rows),
        vertical_spacing=0.28 / len(rows),
        subplot_titles=[text(f"{row['truth']}: {row['utterance']}") for row in rows],
    )
    figure.update_layout(template=None, height=60 + 210 * len(rows), hovermode="closest")
    for number, row in enumerate(rows, start=1):
        picture = np.reshape(row["picture"], (-1, row["bands"]))  # (frames, bands)
        seconds = FRAME * pooling * (np.arange(len(picture)) + 0.5)
        if row["bands"] > 1:
            figure.add_heatmap(
                x=_short(seconds),
                z=_short(picture.T),
                showscale=False,
                hoverinfo="skip",
                row=number,
                col=1,
            )
            figure.update_yaxes(title_text="mel band", showgrid=False, row=number, col=1)
        else:
            figure.add_scatter(
                x=_short(seconds),
                y=_short(picture[:, 0]),
                mode="lines",
                line={"color": "#8C8C8C", "width": 1},
                name="loudness",
                legendgroup="loudness",
                showlegend=number == 1,
                hoverinfo="skip",
                row=number,
                col=1,
            )
            figure.update_yaxes(title_text="loudness (z)", showgrid=False, row=number, col=1)
        curves = [curve for curve in row["attention"] if curve["name"] in OF_THE_TURN]
        for curve, colour in zip(curves, palette, strict=False):
            weights = np.asarray(curve["weights"])
            step = len(picture) / len(weights)
            figure.add_scatter(
                x=_short(FRAME * pooling * step * (np.arange(len(weights)) + 0.5)),
                y=[float(f"{value:.4g}") for value in weights],
                mode="lines",
                line={"color": colour, "width": 2},
                name=text(curve["name"].replace("_", " ")),
                legendgroup=curve["name"],
                showlegend=number == 1,
                row=number,
                col=1,
                secondary_y=True,
            )
        figure.update_yaxes(
            title_text="weight",
            tickmode="auto",  # and not at the other axis's ticks
            nticks=4,
            rangemode="tozero",
            showgrid=False,
            row=number,
            col=1,
            secondary_y=True,
        )
        figure.update_xaxes(showgrid=False, row=number, col=1)
    figure.update_xaxes(title_text="seconds", row=len(rows), col=1)
    return figure


def _short(values: NDArray[np.floating]) -> list[Any]:
    """Rounded: a figure needs no more digits, and a page is smaller with fewer."""
    found: list[Any] = np.round(values.astype(np.float64), 3).tolist()
    return found


def embeddings(inspection: pa.Table, palette: list[str], symbols: list[str]) -> go.Figure | None:
    """t-SNE of the embeddings, coloured by emotion and by speaker; None for very few utterances.

    A row of panels for each embedding; at most `MOST_POINTS` utterances, evenly taken.
    """
    table = first_fold(inspection)
    if len(table) < FEWEST_POINTS:
        return None
    table = table.take(np.unique(np.linspace(0, len(table) - 1, MOST_POINTS).astype(np.int64)))
    names = {"embedding": "embedding", "speaker_embedding": "speaker embedding"}
    kept = [name for name in names if table[name].null_count == 0]
    colourings = {"emotion": "truth", "speaker": "speaker"}
    figure = make_subplots(
        rows=len(kept),
        cols=2,
        horizontal_spacing=0.04,
        vertical_spacing=0.1,
        subplot_titles=[f"{names[name]}, by {label}" for name in kept for label in colourings],
    )
    figure.update_layout(template=None, height=80 + 330 * len(kept), hovermode="closest")
    legends = ("legend", "legend2")  # below their own columns, which use the same colours
    for name, x in zip(legends, (0, 0.52), strict=True):
        below = {"orientation": "h", "itemsizing": "constant", "y": -0.02, "yanchor": "top"}
        figure.update_layout({name: {**below, "x": x}})
    hover = [text(f"{row['utterance']}: {row['truth']}") for row in table.to_pylist()]
    for row, name in enumerate(kept, start=1):
        places = tsne(np.asarray(table[name].to_pylist()))
        for column, (label, key) in enumerate(colourings.items(), start=1):
            values = np.asarray(table[key].to_pylist())
            for number, value in enumerate(sorted(set(values.tolist()))):
                mine = np.flatnonzero(values == value)
                figure.add_scatter(
                    x=_short(places[mine, 0]),
                    y=_short(places[mine, 1]),
                    mode="markers",
                    marker={
                        "color": palette[number % len(palette)],
                        "symbol": symbols[number // len(palette) % len(symbols)],
                        "size": 6,
                        "opacity": 0.8,
                    },
                    name=text(value),
                    legendgroup=f"{label} {value}",
                    showlegend=row == 1,
                    legend=legends[column - 1],
                    text=[hover[index] for index in mine],
                    hovertemplate="%{text}<extra></extra>",
                    row=row,
                    col=column,
                )
    figure.update_xaxes(showticklabels=False, ticks="", showgrid=False)
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False)
    return figure


def tsne(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """(n, size) to (n, 2): van der Maaten and Hinton 2008, from the first two components."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    found: NDArray[np.floating] = TSNE(
        perplexity=perplexity, init="pca", random_state=0
    ).fit_transform(vectors.astype(np.float64))
    return found
