"""Draws the search of each sweep: parallel coordinates, slices, importances, and its time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.storage import safe_name
from orchestrator.ledger.records import TrialRecord
from orchestrator.report.axes import LABELS, WIDTH, Axis, legend, legend_height, rows
from orchestrator.report.labels import BLUE, DASH, GREY, ORANGE
from orchestrator.report.svg import Drawing, shortened
from orchestrator.report.tables import shown
from orchestrator.results.importance import Importances, importances
from orchestrator.results.searches import SearchCost
from orchestrator.results.study import Entry, Study

MOST_TRIALS = 150
"""Trials in a figure. More lines could not be told apart, and would make the page large."""
MOST_AXES = 12
COLOURS = {"complete": BLUE, "pruned": ORANGE, "failed": GREY}
CLOSED = -0.12
"""Place of a trial on the axis of a hyperparameter that it does not have."""


def search_figures(
    study: Study, costs: dict[str, SearchCost]
) -> tuple[dict[str, str], dict[str, Importances]]:
    """SVG of each figure by file name without suffix; and the importances of each sweep by label.

    Names: `time`, and for each sweep that has searched something `parallel-<sweep>`,
    `slices-<sweep>` and `importances-<sweep>`.
    """
    drawn: dict[str, str] = {}
    found: dict[str, Importances] = {}
    if any(sum(cost.seconds.values()) for cost in costs.values()):
        drawn["time"] = time(costs)
    for entry in study.entries:
        records, axes = shown_trials(entry), dimensions(entry)
        if len(records) < 2 or not axes:
            continue
        name = safe_name(entry.label)
        drawn[f"parallel-{name}"] = parallel(entry, records, axes)
        drawn[f"slices-{name}"] = slices(entry, records, axes)
        found[entry.label] = importances(entry.findings)
        if found[entry.label].shares:
            drawn[f"importances-{name}"] = importance(entry, found[entry.label])
    return drawn, found


def shown_trials(entry: Entry) -> list[TrialRecord]:
    """Trials with a score, the worst first. Of many, the best and others at even steps."""
    records = [trial.record for trial in entry.findings.trials if trial.record.score is not None]
    records.sort(key=lambda record: (record.score, -record.number))
    if len(records) > MOST_TRIALS:
        steps = np.linspace(0, len(records) - 1, MOST_TRIALS).round().astype(int)
        records = [records[step] for step in steps]
    return records


@dataclass(frozen=True)
class Dimension:
    """A hyperparameter as an axis.

    places : value, as `shown` writes it -> its place on the axis, 0..1
    ticks : texts and their places
    """

    key: str
    places: dict[str, float]
    ticks: list[tuple[str, float]]

    @property
    def name(self) -> str:
        """The key without its section."""
        return self.key.rpartition(".")[2]

    def place(self, record: TrialRecord) -> float:
        """The place of a trial."""
        if self.key not in record.hyperparameters:
            return CLOSED
        return self.places[_text(record.hyperparameters[self.key])]


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else shown(value)


def dimensions(entry: Entry) -> list[Dimension]:
    """The hyperparameters of which the trials with a score have at least two values."""
    records = [trial.record for trial in entry.findings.trials if trial.record.score is not None]
    found = []
    for key in entry.findings.searched[:MOST_AXES]:
        values = [r.hyperparameters[key] for r in records if key in r.hyperparameters]
        axis = _dimension(key, values, _is_log(entry.record.space, key))
        if len(axis.places) + (len(values) < len(records)) > 1:
            if len(values) < len(records):
                axis.ticks.append((DASH, CLOSED))
            found.append(axis)
    return found


def _is_log(space: dict[str, Any], key: str) -> bool:
    """Whether the search space of a sweep's record draws a hyperparameter on a log scale."""
    parameter = space.get("parameters", {}).get(key, {})
    return bool(parameter.get("log"))


def _dimension(key: str, values: list[Any], log: bool) -> Dimension:
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    distinct = {_text(value): value for value in values}
    if numeric and len(distinct) > 4:
        low, high = min(values), max(values)
        log = log and low > 0
        ends = np.log10([low, high]) if log else np.asarray([low, high], np.float64)

        def place(value: float) -> float:
            number = np.log10(value) if log else value
            return float((number - ends[0]) / (ends[1] - ends[0]))

        middle = float(10 ** ends.mean() if log else ends.mean())
        ticks = [(f"{value:.2g}", place(value)) for value in (low, middle, high)]
        return Dimension(key, {name: place(v) for name, v in distinct.items()}, ticks)
    ordered = sorted(distinct, key=distinct.__getitem__) if numeric else list(distinct)
    share = 1 / max(1, len(ordered) - 1)
    places = {name: number * share for number, name in enumerate(ordered)}
    if len(ordered) == 1:
        places = dict.fromkeys(ordered, 0.5)
    return Dimension(key, places, [(shown(distinct[name]), places[name]) for name in ordered])


def _hint(record: TrialRecord) -> str:
    chosen = ", ".join(f"{k}: {shown(v)}" for k, v in record.hyperparameters.items())
    return f"trial {record.number}, {record.score:.1%}, {record.status}; {chosen}"


def parallel(entry: Entry, records: Sequence[TrialRecord], axes: Sequence[Dimension]) -> str:
    """A line for each trial across one axis for each hyperparameter, and the score on the right."""
    top, bottom, left, right = 52, 300, 40, WIDTH - 44
    closed = any(place == CLOSED for axis in axes for _, place in axis.ticks)
    height = bottom + (44 if closed else 12)
    drawing = Drawing(WIDTH, height, f"Parallel coordinates of {entry.label}")
    step = (right - left) / len(axes)
    scores = [_score(record) for record in records]
    score = Axis(min(scores), max(scores), bottom, top)

    def y(share: float) -> float:
        return bottom - share * (bottom - top)

    for record in records:
        best = record is records[-1]
        points = [(left + step * n, y(axis.place(record))) for n, axis in enumerate(axes)]
        points.append((right, score(_score(record))))
        rise = (score(scores[0]) - score(_score(record))) / (bottom - top)
        drawing.path(
            points,
            ORANGE if best else BLUE,
            width=3 if best else 1.2,
            opacity=1 if best else round(0.12 + 0.6 * rise**2, 2),
            hint=_hint(record),
        )
    for number, axis in enumerate(axes):
        x = left + step * number
        drawing.line((x, top), (x, bottom), width=1.5)
        # Every second name is a line higher, so that neighbours do not touch.
        label = shortened(axis.name, 1.9 * step if len(axes) > 4 else step, 12)
        anchor = "start" if number == 0 else "middle"
        drawing.text((x if number else 4, 36 - 18 * (number % 2)), label, anchor, 12)
        for text, place in axis.ticks:
            drawing.text((x + 4, y(place) + 4), shortened(text, step - 6, 11), "start", 11)
    drawing.line((right, top), (right, bottom), width=1.5)
    drawing.text((WIDTH - 4, 36 - 18 * (len(axes) % 2)), "score in %", "end", 12)
    for tick in score.ticks:
        drawing.text((right + 6, score(tick) + 4), f"{100 * tick:.3g}", "start", 11)
    return drawing.svg()


def _score(record: TrialRecord) -> float:
    assert record.score is not None
    return record.score


PANELS = 3
PANEL_WIDTH, PANEL_HEIGHT = 206, 168


def slices(entry: Entry, records: Sequence[TrialRecord], axes: Sequence[Dimension]) -> str:
    """A panel for each hyperparameter: its value against the score of each trial."""
    lines = -(-len(axes) // PANELS)
    states = [s for s in ("complete", "pruned") if any(r.status == s for r in records)]
    look = {s: {"color": COLOURS[s], "symbol": "circle"} for s in states}
    foot = PANEL_HEIGHT * lines + 4
    height = foot + legend_height(states)
    drawing = Drawing(WIDTH, height, f"Score by hyperparameter of {entry.label}")
    scores = [_score(record) for record in records]
    for number, axis in enumerate(axes):
        left = 34 + PANEL_WIDTH * (number % PANELS)
        top = PANEL_HEIGHT * (number // PANELS) + 22
        bottom, width = top + PANEL_HEIGHT - 48, PANEL_WIDTH - 28
        y = Axis(min(scores), max(scores), bottom, top)
        drawing.text((left, top - 8), shortened(axis.name, width, 12), size=12)
        for tick in y.ticks[::2]:
            drawing.line((left, y(tick)), (left + width, y(tick)), opacity=0.15)
            if number % PANELS == 0:
                drawing.text((left - 6, y(tick) + 4), f"{100 * tick:.3g}", "end", 11)
        closed = any(place == CLOSED for _, place in axis.ticks)
        start, length = left + (26 if closed else 8), width - (34 if closed else 16)
        for text, place in axis.ticks:
            x = max(left, start + length * place)
            room = length / max(1, len(axis.ticks) - 1)
            drawing.text((x, bottom + 15), shortened(text, room, 11), "middle", 11)
        for record in records:
            x = max(left, start + length * axis.place(record))
            spot = (x, y(_score(record)))
            drawing.dot(spot, COLOURS[record.status], size=3, hint=_hint(record), opacity=0.7)
    legend(drawing, look, states, foot)
    return drawing.svg()


def importance(entry: Entry, found: Importances) -> str:
    """A bar for each hyperparameter: its share of the variance of the score."""
    keys = list(found.shares)[:MOST_AXES]
    axis = Axis(0.0, found.shares[keys[0]], LABELS, WIDTH - 60)
    drawing, places = rows(
        f"Importance of the hyperparameters of {entry.label}",
        [key.rpartition(".")[2] for key in keys],
        axis,
        f"share of the variance of the score in %, fANOVA, {found.trials} trials",
    )
    for key, y in zip(keys, places, strict=True):
        share = found.shares[key]
        size = (axis(share) - axis(0.0), 16)
        drawing.box((axis(0.0), y - 8), size, BLUE, hint=f"{key}: {share:.1%}")
        drawing.text((axis(share) + 6, y + 4), f"{100 * share:.1f}%", size=12)
    return drawing.svg()


def time(costs: dict[str, SearchCost]) -> str:
    """A bar for each sweep: the training time of its complete, pruned and failed trials."""
    totals = {label: sum(cost.seconds.values()) for label, cost in costs.items()}
    names = sorted(totals, key=lambda label: -totals[label])
    longest = totals[names[0]]
    unit, seconds = next((u, s) for u, s in UNITS if longest >= 2 * s or s == 1)
    axis = Axis(0.0, longest / seconds, LABELS, WIDTH - 14)
    states = [s for s in COLOURS if any(cost.seconds[s] for cost in costs.values())]
    drawing, places = rows(
        "Training time of each sweep",
        names,
        axis,
        f"training time of all trials in {unit}",
        legend_height(states),
        scale=1,
    )
    for label, y in zip(names, places, strict=True):
        x = axis(0.0)
        for state in states:
            value = costs[label].seconds[state] / seconds
            length = axis(value) - axis(0.0)
            hint = f"{label}, {state} trials: {value:.1f} {unit}"
            if length:
                drawing.box((x, y - 8), (length, 16), COLOURS[state], hint=hint)
            x += length
    look = {state: {"color": COLOURS[state], "symbol": "square"} for state in states}
    legend(drawing, look, states, drawing.height - legend_height(states))
    return drawing.svg()


UNITS = [("hours", 3600), ("minutes", 60), ("seconds", 1)]
