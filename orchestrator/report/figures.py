"""Draws the figures of the page, as plotly JSON.

The page sets the colours of text, axes and grid, because only the page knows whether it is light or
dark.
"""

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.report.interpretation import attention, embeddings
from orchestrator.report.labels import BLUE, GREY, ORANGE, marker, text
from orchestrator.results.findings import Best, Findings, Trial

# Recall 0 has the colour of the background and 1 is dark blue: lightness alone shows the number.
SHADES = [[0, "#f4f7fa"], [0.5, "#7fb0d6"], [1, "#0b4a83"]]
MARKERS = {
    "complete": {"symbol": "circle", "size": 9, "color": BLUE},
    "pruned": {"symbol": "circle-open", "size": 8, "color": ORANGE, "line": {"width": 2}},
    "failed": {"symbol": "x", "size": 9, "color": GREY},
    "best": {"symbol": "circle-open", "size": 17, "color": BLUE, "line": {"width": 2}},
}


def figures(findings: Findings) -> dict[str, str]:
    """The JSON of each figure, by name, if the sweep has the data for the figure.

    Names: `search`, `recalls`, `confusion`, `curves`, `attention`, `embeddings`. plotly escapes
    `<`, `>` and `/` in the JSON, so a script element can hold it.
    """
    if findings.best is None:
        return {}
    classes, best = findings.sweep.classes, findings.best
    drawn = {
        "search": _search(findings, best),
        "recalls": _recalls(best, classes),
        "confusion": _confusion(best, classes),
        "curves": _curves(best.trial, findings.sweep.optimistic),
    }
    if best.inspection is not None:
        features = findings.sweep.features_of(best.trial.record.hyperparameters)
        drawn["attention"] = attention(best.inspection, classes, features.get("pool") or 1)
        if (placed := embeddings(best.inspection)) is not None:
            drawn["embeddings"] = placed
    return {name: figure.to_json() for name, figure in drawn.items()}


def _figure(height: int, **layout: Any) -> go.Figure:
    # Without a template the JSON is small, and the page sets the colours.
    return go.Figure(layout={"template": None, "height": height, **layout})


def _percent(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, "tickformat": "~p", **more}


def _search(findings: Findings, best: Best) -> go.Figure:
    """Score of each trial in the order of the search, and the best score so far."""
    sweep, records = findings.sweep, [trial.record for trial in findings.trials]
    part = "test part (optimistic)" if sweep.optimistic else "validation part"
    figure = _figure(
        340,
        xaxis={"title": {"text": "trial"}, "dtick": math.ceil(len(records) / 10)},
        yaxis=_percent(f"mean {sweep.metric.upper()}, {part}"),
        hovermode="closest",
    )
    scores = np.asarray([record.score for record in records], dtype=np.float64)  # NaN: no score
    figure.add_scatter(
        x=[record.number for record in records],
        y=np.fmax.accumulate(scores).tolist(),
        name="best so far",
        mode="lines",
        line={"shape": "hv", "width": 2, "color": BLUE},
        hoverinfo="skip",
    )
    lowest, highest = np.nanmin(scores), np.nanmax(scores)
    floor = float(lowest - 0.06 * (highest - lowest or 1))  # failed trials are drawn here
    names = {"complete": "complete", "pruned": "pruned", "failed": "failed (no score)"}
    for status, name in names.items():
        failed = status == "failed"
        chosen = [r for r in records if r.status == status and (r.score is None) == failed]
        if chosen:
            shown = "trial %{x} failed" if failed else "trial %{x}: %{y:.1%}"
            figure.add_scatter(
                x=[record.number for record in chosen],
                y=[floor if failed else record.score for record in chosen],
                name=name,
                mode="markers",
                marker=MARKERS[status],
                text=[_hover(record.hyperparameters) for record in chosen],
                hovertemplate=f"{shown}<br>%{{text}}<extra></extra>",
            )
    figure.add_scatter(
        x=[best.trial.record.number],
        y=[best.trial.record.score],
        name="best",
        mode="markers",
        marker=MARKERS["best"],
        hoverinfo="skip",
    )
    return figure


def _hover(hyperparameters: dict[str, Any]) -> str:
    return "<br>".join(f"{text(key)}: {text(value)}" for key, value in hyperparameters.items())


def _recalls(best: Best, classes: list[str]) -> go.Figure:
    """Pooled recall of each class with its interval, and a dot for each fold."""
    figure = _figure(340, yaxis=_percent("recall", range=[0, 1.02]), bargap=0.45)
    labels = [text(name) for name in classes]
    pooled = [best.pooled.recalls[name] for name in classes]
    figure.add_bar(
        x=labels,
        y=[recall.value for recall in pooled],
        name="pooled, 95% over speakers",
        marker={"color": "#6FACD5"},
        error_y={
            "array": [recall.high - recall.value for recall in pooled],
            "arrayminus": [recall.value - recall.low for recall in pooled],
            "thickness": 1.5,
            "width": 5,
        },
        hovertemplate="%{x}: %{y:.1%}<extra>pooled</extra>",
    )
    folds = best.trial.folds
    figure.add_scatter(
        x=[label for label in labels for _ in folds],
        y=[fold.test.recalls[name] for name in classes for fold in folds],
        name="each fold",
        mode="markers",
        marker={"color": ORANGE, "size": 7, "opacity": 0.85},
        text=[text(fold.fold) for _ in classes for fold in folds],
        hovertemplate="%{x}: %{y:.1%}<extra>fold %{text}</extra>",
    )
    figure.add_hline(y=best.chance_ua, line={"dash": "dot", "width": 1.5, "color": GREY})
    return figure


def _confusion(best: Best, classes: list[str]) -> go.Figure:
    """Shares of each true class (a row), with the counts below the shares."""
    labels = [text(name) for name in classes]
    rows = [(row, sum(row)) for row in best.confusion.tolist()]
    figure = _figure(
        max(320, 76 * len(classes) + 110),
        xaxis={"title": {"text": "predicted"}, "side": "top", "type": "category"},
        yaxis={"title": {"text": "true"}, "autorange": "reversed", "type": "category"},
    )
    figure.add_heatmap(
        x=labels,
        y=labels,
        z=[[count / total if total else None for count in row] for row, total in rows],
        text=[[f"{n / total:.1%}<br>{n}" if total else "0" for n in row] for row, total in rows],
        texttemplate="%{text}",
        zmin=0,
        zmax=1,
        colorscale=SHADES,
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="true %{y}, predicted %{x}<br>%{text}<extra></extra>",
    )
    return figure


def _curves(trial: Trial, optimistic: bool) -> go.Figure:
    """UA and loss by epoch for each fold. A large marker shows the selected epoch."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    figure.update_layout(template=None, height=400, hovermode="closest", meta="side by side")
    figure.update_xaxes(title_text="epoch", tickformat="d")
    figure.update_yaxes(_percent("UA"), row=1, col=1)
    figure.update_yaxes(title_text="loss", rangemode="tozero", row=1, col=2)
    rows = [] if trial.rows is None else trial.rows.sort_by("epoch").to_pylist()
    part = "test" if optimistic else "validation"
    for number, fold in enumerate(trial.folds):
        name, style = text(fold.fold), marker(number)
        for split, line in (
            ("train", {"dash": "dot", "width": 1}),
            (part, {"dash": "solid", "width": 2}),
        ):
            points = [row for row in rows if (row["fold"], row["split"]) == (fold.fold, split)]
            epochs = [row["epoch"] for row in points]
            # A single epoch is drawn as a dot, because it makes no line.
            sizes = [4 if len(epochs) == 1 else 0 for _ in epochs]
            if split == part:
                sizes[epochs.index(fold.epoch)] = 9
            for column, key, shape in ((1, "ua", ".1%"), (2, "loss", ".3f")):
                figure.add_scatter(
                    x=epochs,
                    y=[row[key] for row in points],
                    name=name,
                    legendgroup=name,
                    showlegend=split == part and column == 1,
                    mode="lines+markers",
                    line={"color": style["color"], **line},
                    marker={"size": sizes, "opacity": 1, **style},
                    hovertemplate=f"{name}, {split}<br>epoch %{{x}}: %{{y:{shape}}}<extra></extra>",
                    row=1,
                    col=column,
                )
    return figure
