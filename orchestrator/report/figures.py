"""The figures of the page, as plotly JSON.

Colours of text, axes and grid are left to the page, which knows whether it is light or dark.
Series colours are Okabe and Ito's, which stay apart for colour-blind readers, without their
yellow and black, one of which would vanish on either background.
"""

import math
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from orchestrator.results.findings import Best, Findings, Trial, mapping
from orchestrator.report.interpretation import attention, embeddings
from orchestrator.report.labels import text

PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C"]
# Beyond seven folds colours come again, with another mark.
SYMBOLS = ["circle", "square", "diamond", "cross"]
BLUE, ORANGE, GREY = PALETTE[0], PALETTE[1], PALETTE[6]
# Recall 0 is the paper's colour, 1 a dark blue: lightness alone carries the number.
SHADES = [[0, "#f4f7fa"], [0.5, "#7fb0d6"], [1, "#0b4a83"]]


def figures(findings: Findings) -> dict[str, str]:
    """JSON of each figure that the sweep has data for, by name.

    `search`, `recalls`, `confusion`, `curves`, `attention`, `embeddings`. plotly escapes `<`, `>`
    and `/` in it, so it can stand inside a script element.
    """
    drawn = {}
    if any(_score(trial) is not None for trial in findings.trials):
        drawn["search"] = _search(findings)
    if findings.best is not None:
        drawn["recalls"] = _recalls(findings.best, findings.classes)
        drawn["confusion"] = _confusion(findings.best, findings.classes)
        drawn["curves"] = _curves(findings.best.trial, findings.optimistic)
        if (inspection := findings.best.inspection) is not None:
            features = mapping(mapping(findings.sweep, "configuration"), "features")
            pool = features.get("pool")
            pooling = pool if isinstance(pool, int) and pool > 0 else 1
            drawn["attention"] = attention(inspection, findings.classes, pooling, PALETTE)
            if (placed := embeddings(inspection, PALETTE, SYMBOLS)) is not None:
                drawn["embeddings"] = placed
    return {name: figure.to_json() for name, figure in drawn.items()}


def _figure(height: int, **layout: Any) -> go.Figure:
    # Without a template the JSON is small and the page decides the looks.
    return go.Figure(layout={"template": None, "height": height, **layout})


def _percent(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, "tickformat": ".0%", **more}


def _score(trial: Trial) -> float | None:
    score = trial.record.score
    return None if score is None or math.isnan(score) else score


def _search(findings: Findings) -> go.Figure:
    """Score of each trial in the order of the search, and the best so far."""
    part = "held out (optimistic)" if findings.optimistic else "validation part"
    figure = _figure(
        340,
        xaxis={"title": {"text": "trial"}, "tickformat": "d"},
        yaxis=_percent(f"mean {findings.metric.upper()}, {part}"),
        hovermode="closest",
    )
    scored = [(trial.record, _score(trial)) for trial in findings.trials]
    running: list[float] = []
    for _, score in scored:
        known = [value for value in (score, running[-1] if running else None) if value is not None]
        running.append(max(known, default=math.nan))
    figure.add_scatter(
        x=[record.number for record, _ in scored],
        y=running,
        name="best so far",
        mode="lines",
        line={"shape": "hv", "width": 2, "color": BLUE},
        hoverinfo="skip",
    )
    styles = {
        "complete": {"symbol": "circle", "size": 9, "color": BLUE},
        "pruned": {"symbol": "circle-open", "size": 8, "color": ORANGE, "line": {"width": 2}},
    }
    for status, marker in styles.items():
        chosen = [(r, s) for r, s in scored if r.status == status and s is not None]
        if chosen:
            figure.add_scatter(
                x=[record.number for record, _ in chosen],
                y=[score for _, score in chosen],
                name=status,
                mode="markers",
                marker=marker,
                text=[_hover(record.hyperparameters) for record, _ in chosen],
                hovertemplate="trial %{x}: %{y:.1%}<br>%{text}<extra></extra>",
            )
    if findings.best is not None:
        record = findings.best.trial.record
        figure.add_scatter(
            x=[record.number],
            y=[record.score],
            name="best",
            mode="markers",
            marker={"symbol": "circle-open", "size": 17, "color": BLUE, "line": {"width": 2}},
            hoverinfo="skip",
        )
    failed = [record for record, _ in scored if record.status == "failed"]
    if failed:
        known = [score for _, score in scored if score is not None]
        floor = min(known) - 0.06 * (max(known) - min(known) or 1)
        figure.add_scatter(
            x=[record.number for record in failed],
            y=[floor] * len(failed),
            name="failed (no score)",
            mode="markers",
            marker={"symbol": "x", "size": 9, "color": GREY},
            text=[_hover(record.hyperparameters) for record in failed],
            hovertemplate="trial %{x} failed<br>%{text}<extra></extra>",
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
    """Each row is a true class, in shares of it; the counts stand beneath."""
    labels = [text(name) for name in classes]
    shares: list[list[float | None]] = []
    cells: list[list[str]] = []
    for row in best.confusion.tolist():
        total = sum(row)
        shares.append([count / total if total else None for count in row])
        cells.append([f"{count / total:.1%}<br>{count}" if total else "0" for count in row])
    figure = _figure(
        max(320, 76 * len(classes) + 110),
        xaxis={"title": {"text": "predicted"}, "side": "top", "type": "category"},
        yaxis={"title": {"text": "true"}, "autorange": "reversed", "type": "category"},
    )
    figure.add_heatmap(
        x=labels,
        y=labels,
        z=shares,
        text=cells,
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
    """UA and loss by epoch for each fold; the selected epoch has a mark."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    figure.update_layout(template=None, height=400, hovermode="closest", meta="side by side")
    figure.update_xaxes(title_text="epoch", tickformat="d")
    figure.update_yaxes(_percent("UA"), row=1, col=1)
    figure.update_yaxes(title_text="loss", rangemode="tozero", row=1, col=2)
    rows = [] if trial.rows is None else trial.rows.to_pylist()
    part = "test" if optimistic else "validation"
    for number, fold in enumerate(trial.folds):
        name, colour = text(fold.fold), PALETTE[number % len(PALETTE)]
        symbol = SYMBOLS[number // len(PALETTE) % len(SYMBOLS)]
        for split, dash in (("train", "dot"), (part, "solid")):
            points = sorted(
                (row for row in rows if row["fold"] == fold.fold and row["split"] == split),
                key=lambda row: row["epoch"],
            )
            epochs = [row["epoch"] for row in points]
            for column, key, shape in ((1, "ua", ".1%"), (2, "loss", ".3f")):
                figure.add_scatter(
                    x=epochs,
                    y=[row.get(key) for row in points],
                    name=name,
                    legendgroup=name,
                    showlegend=split == part and column == 1,
                    mode="lines+markers",
                    line={"color": colour, "dash": dash, "width": 1 if split == "train" else 2},
                    # One epoch alone makes no line, so it is a dot.
                    marker={
                        "size": [
                            9 if split == part and epoch == fold.epoch else 4 * (len(epochs) == 1)
                            for epoch in epochs
                        ],
                        "color": colour,
                        "symbol": symbol,
                        "opacity": 1,
                    },
                    hovertemplate=f"{name}, {split}<br>epoch %{{x}}: %{{y:{shape}}}<extra></extra>",
                    row=1,
                    col=column,
                )
    return figure
