"""Figures of the attention and of the embeddings of the best trial.

Both show the first fold only, because each fold is another network. Source of both figures: the
SSA-CRNN paper (Le Moine, Obin and Roebel, Interspeech 2021).
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from orchestrator.report.labels import GREY, PALETTE, marker, text

FRAME = 0.01
"""Seconds of a frame without pooling, for trials that did not record the time."""
MOST_POINTS = 1000
FEWEST_POINTS = 10
OF_THE_TURN = ("current", "emotion", "speaker", "speaker_pooling")
"""Attention over the current turn. `own` and `other` are attention over earlier turns."""


def first_fold(inspection: pa.Table) -> pa.Table:
    """The rows of the first fold."""
    return inspection.filter(pc.equal(inspection["fold"], inspection["fold"][0]))


def shown_utterances(inspection: pa.Table) -> list[dict[str, Any]]:
    """The utterances of the first fold whose attention was kept."""
    rows = first_fold(inspection).to_pylist()
    return [row for row in rows if row["attention"] is not None]


def over_turns(inspection: pa.Table) -> bool:
    """Whether the attention is over the turns before an utterance, and not over its frames."""
    names = {curve["name"] for row in shown_utterances(inspection) for curve in row["attention"]}
    return not names.intersection(OF_THE_TURN)


def picture_of(row: dict[str, Any], pooling: int) -> tuple[NDArray[np.float64], float]:
    """The picture of a shown utterance, (frames, bands), and the seconds of the utterance.

    A feature set without columns to draw gives an empty picture.

    pooling : frames of 10 ms in one frame, for trials that did not record the seconds
    """
    bands = row["bands"]
    values = np.asarray(row["picture"], np.float64)
    picture = values.reshape(-1, bands) if bands else np.empty((0, 0))
    seconds = row.get("seconds")
    return picture, FRAME * pooling * len(picture) if seconds is None else seconds


def attention(inspection: pa.Table, classes: list[str], pooling: int) -> go.Figure:
    """A panel for each class: one utterance and its attention.

    The panel shows the spectrogram or loudness of the utterance if the features have one, with a
    curve for each attention. If the attention is over the turns before, the panel has a bar for
    each turn instead.

    pooling : as `picture_of`
    """
    rows = sorted(shown_utterances(inspection), key=lambda row: classes.index(row["truth"]))
    if over_turns(inspection):
        return _attention_over_turns(rows)
    backed = rows[0]["bands"] > 0  # without a picture, the weights have the only axis
    figure = _panels(rows, specs=[[{"secondary_y": backed}]] * len(rows))
    for number, row in enumerate(rows, start=1):
        panel = {"row": number, "col": 1}
        picture, duration = picture_of(row, pooling)
        background = {"x": _middles(len(picture), duration), "hoverinfo": "skip", **panel}
        if row["bands"] > 1:
            figure.add_heatmap(z=_short(picture.T), showscale=False, **background)
        elif row["bands"] == 1:
            figure.add_scatter(
                y=_short(picture[:, 0]),
                mode="lines",
                line={"color": GREY, "width": 1},
                name="loudness",
                legendgroup="loudness",
                showlegend=number == 1,
                **background,
            )
        if row["bands"]:
            title = "mel band" if row["bands"] > 1 else "loudness"
            figure.update_yaxes(title_text=title, secondary_y=False, **panel)
        curves = [curve for curve in row["attention"] if curve["name"] in OF_THE_TURN]
        for curve, colour in zip(curves, PALETTE, strict=False):
            figure.add_scatter(
                x=_middles(len(curve["weights"]), duration),
                y=[float(f"{value:.4g}") for value in curve["weights"]],
                mode="lines",
                line={"color": colour, "width": 2},
                name=text(curve["name"].replace("_", " ")),
                legendgroup=curve["name"],
                showlegend=number == 1,
                secondary_y=backed,
                **panel,
            )
    # Without `tickmode`, plotly uses the ticks of the other axis.
    weight = {"title_text": "weight", "tickmode": "auto", "nticks": 4, "rangemode": "tozero"}
    figure.update_yaxes(**weight, secondary_y=backed)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_xaxes(title_text="seconds", row=len(rows), col=1)
    return figure


def _panels(rows: list[dict[str, Any]], **options: Any) -> go.Figure:
    """An empty panel for each utterance, with its class and name. `options` are plotly's."""
    figure = make_subplots(
        rows=len(rows),
        cols=1,
        vertical_spacing=0.28 / len(rows),
        subplot_titles=[text(f"{row['truth']}: {row['utterance']}") for row in rows],
        **options,
    )
    height = 60 + 210 * len(rows)
    legend = {"y": -80 / height, "yanchor": "top"}  # above, it would cover the first title
    figure.update_layout(template=None, height=height, hovermode="closest", legend=legend)
    return figure


def _attention_over_turns(rows: list[dict[str, Any]]) -> go.Figure:
    """A panel for each utterance: the weights of the turns before, by speaker."""
    figure = _panels(rows)
    for number, row in enumerate(rows, start=1):
        for curve, colour in zip(row["attention"], PALETTE, strict=False):
            weights = curve["weights"]
            figure.add_bar(
                x=list(range(-len(weights), 0)),  # -1 is the newest turn
                y=[float(f"{value:.4g}") for value in weights],
                marker={"color": colour},
                name=f"{text(curve['name'])} turns",
                legendgroup=curve["name"],
                showlegend=number == 1,
                row=number,
                col=1,
            )
    figure.update_yaxes(title_text="weight", nticks=4, rangemode="tozero")
    figure.update_xaxes(showgrid=False, tickformat="d")
    figure.update_xaxes(title_text="turn of this speaker, -1 is the last", row=len(rows), col=1)
    return figure


def _middles(steps: int, seconds: float) -> list[Any]:
    """The middle of each of so many equal steps of an utterance, in seconds."""
    return _short(seconds / max(1, steps) * (np.arange(steps) + 0.5))


def _short(values: NDArray[np.floating]) -> list[Any]:
    """Three decimals, which keep the page small."""
    rounded: list[Any] = np.round(values.astype(np.float64), 3).tolist()
    return rounded


def embeddings(inspection: pa.Table) -> go.Figure | None:
    """t-SNE of the embeddings, coloured by emotion and by speaker.

    Each embedding has a row of panels, with at most `MOST_POINTS` utterances, evenly spaced.
    Returns None if the fold has fewer than `FEWEST_POINTS` utterances.
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
    figure.update_annotations(font_size=12)  # the titles fit into the columns of a narrow page
    # Both columns use the same colours, so each has a legend, one below the other.
    height = 80 + 330 * len(kept)
    figure.update_layout(template=None, height=height, hovermode="closest")
    for number, (legend, label) in enumerate(zip(("legend", "legend2"), colourings, strict=True)):
        below = {"orientation": "h", "itemsizing": "constant", "x": 0, "yanchor": "top"}
        title = {"text": label}
        figure.update_layout({legend: {**below, "y": -(10 + 50 * number) / height, "title": title}})
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
                    marker={"size": 6, "opacity": 0.8, **marker(number)},
                    name=text(value),
                    legendgroup=f"{label} {value}",
                    showlegend=row == 1,
                    legend="legend" if column == 1 else "legend2",
                    text=[hover[index] for index in mine],
                    hovertemplate="%{text}<extra></extra>",
                    row=row,
                    col=column,
                )
    figure.update_xaxes(showticklabels=False, ticks="", showgrid=False)
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False)
    return figure


def tsne(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """From (n, size) to (n, 2). Starts at the first two principal components.

    One thread computes it, because several threads add the same numbers in another order, and wait
    for each other for long on a busy machine. Source: van der Maaten and Hinton 2008.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    embedded = TSNE(perplexity=perplexity, init="pca", random_state=0)
    # Each of the thousand short steps waits for all threads, which on a busy machine takes longer
    # than the step.
    with threadpool_limits(1):
        places: NDArray[np.floating] = embedded.fit_transform(vectors.astype(np.float64))
    return places
