"""Draws the figures of a study's page, as SVG."""

import itertools
import math
from collections.abc import Callable, Sequence

from features.storage import safe_name
from orchestrator.metrics import Interval
from orchestrator.report.axes import BOTTOM, LABELS, ROW, WIDTH, Axis, legend, legend_height, rows
from orchestrator.report.labels import BLUE, DASH, GREY, ORANGE, marker
from orchestrator.report.svg import Drawing, shortened
from orchestrator.results.searches import SearchCost
from orchestrator.results.study import Entry, Study

MOST_SPEAKERS = 40


def study_figures(study: Study, costs: dict[str, SearchCost]) -> dict[str, str]:
    """SVG of each figure by file name without suffix, for the data that the study has.

    Names: `scores`, `confusion-<sweep>`, `speakers`, `search-trials`, `search-fold-epochs`,
    `seeds`.
    """
    drawn: dict[str, str] = {}
    if study.ranking:
        drawn["scores"] = scores(study)
        drawn |= {confusion_name(entry): confusion(entry) for entry in study.ranking}
        drawn["speakers"] = speakers(study)
        for name, title, place in (
            ("search-trials", "trial", lambda step: step.number + 1),
            ("search-fold-epochs", "fold-epochs", lambda step: step.fold_epochs),
        ):
            drawn[name] = search(study, costs, title, place)
    if study.seeds:
        drawn["seeds"] = seeds(study)
    return drawn


def confusion_name(entry: Entry) -> str:
    """The file name of a sweep's confusion matrix, without suffix."""
    return f"confusion-{safe_name(entry.label)}"


def styles(study: Study) -> dict[str, dict[str, str]]:
    """Colour and symbol of each sweep: the same in all figures."""
    return {entry.label: marker(number) for number, entry in enumerate(study.entries)}


def _axis(intervals: Sequence[Interval], end: float) -> Axis:
    values = [value for each in intervals for value in each if not math.isnan(value)]
    return Axis(max(0.0, min(values)), min(1.0, max(values)), LABELS, end)


def scores(study: Study) -> str:
    """UA and interval of each model, best first; a bar joins models that do not differ.

    Groups as in the critical difference diagrams of Demšar 2006; the tests here are pairwise.
    """
    ranked, groups = study.ranking, study.groups
    room = 14 * len(groups) + 10
    axis = _axis([entry.score.headline for entry in ranked], WIDTH - room - 12)
    drawing, places = rows(
        "UA of each model with its 95 % interval; bars join those that do not differ",
        [entry.label for entry in ranked],
        axis,
        "UA in %, selected on the test part (optimistic)"
        if study.record.optimistic
        else "nested UA in %",
    )
    look = styles(study)
    for entry, y in zip(ranked, places, strict=True):
        style, ua = look[entry.label], entry.score.headline
        if not math.isnan(ua.low):
            low, high = (axis(min(1.0, max(0.0, end))) for end in (ua.low, ua.high))
            drawing.line((low, y), (high, y), style["color"], 2)
            for end in (low, high):
                drawing.line((end, y - 5), (end, y + 5), style["color"], 2)
        hint = f"{entry.label}: {ua.value:.1%}"
        drawing.dot((axis(ua.value), y), style["color"], style["symbol"], 6, hint)
    row = {entry.label: y for entry, y in zip(ranked, places, strict=True)}
    for number, group in enumerate(groups):
        x = WIDTH - room + 10 + 14 * number
        drawing.line((x, row[group[0]] - 8), (x, row[group[-1]] + 8), width=4)
    return drawing.svg()


def confusion(entry: Entry) -> str:
    """Shares of each true class (a row), with the counts below the shares."""
    classes, counts = entry.record.classes, entry.score.confusion
    cell, left, top = max(46, min(72, 300 // len(classes))), 84, 58
    side = cell * len(classes)
    drawing = Drawing(left + side + 8, top + side + 8, f"Confusion matrix of {entry.label}")
    drawing.text((left + side / 2, 16), shortened(entry.label, left + side), "middle", 14)
    drawing.text((left + side / 2, 34), "predicted", "middle", 11)
    drawing.text((12, top + side / 2), "true", "middle", 11, upright=True)
    for number, name in enumerate(classes):
        middle = cell * (number + 0.5)
        drawing.text((left + middle, top - 6), shortened(name, cell, 12), "middle", 12)
        drawing.text((left - 6, top + middle + 4), shortened(name, left - 26, 12), "end", 12)
        total = int(counts[number].sum())
        for column, other in enumerate(classes):
            corner = (left + cell * column + 1, top + cell * number + 1)
            count = int(counts[number, column])
            share = count / total if total else 0.0
            hint = f"true {name}, predicted {other}: {share:.1%} ({count})"
            # A little colour also at 0, so that every cell can be seen.
            drawing.box(corner, (cell - 2, cell - 2), BLUE, 0.05 + 0.95 * share, hint)
            ink = "#ffffff" if share > 0.6 else "currentColor"
            x, y = corner[0] + cell / 2 - 1, corner[1] + cell / 2
            drawing.text((x, y), f"{100 * share:.0f}%" if total else DASH, "middle", 13, ink)
            drawing.text((x, y + 15), str(count), "middle", 10, ink)
    return drawing.svg()


def speakers(study: Study) -> str:
    """UA of each speaker for all models; with many speakers those with most test utterances."""
    first = study.ranking[0].score.by_speaker
    names = sorted(study.speakers, key=lambda name: (-first[name][0], name))[:MOST_SPEAKERS]
    names.sort(key=lambda name: -first[name][1].ua)
    values = [entry.score.by_speaker[name][1].ua for entry in study.ranking for name in names]
    axis = Axis(min(values), max(values), LABELS, WIDTH - 14)
    labels = [entry.label for entry in study.ranking]
    drawing, places = rows(
        "UA by speaker for all models",
        names,
        axis,
        "UA of the speaker in %",
        legend_height(labels),
    )
    legend(drawing, styles(study), labels, 12 + ROW * len(names) + BOTTOM)
    look = styles(study)
    for name, y in zip(names, places, strict=True):
        for entry in reversed(study.ranking):  # the best model is drawn last, on top
            style, ua = look[entry.label], entry.score.by_speaker[name][1].ua
            hint = f"{name}, {entry.label}: {ua:.1%}"
            drawing.dot((axis(ua), y), style["color"], style["symbol"], hint=hint)
    return drawing.svg()


def search(
    study: Study, costs: dict[str, SearchCost], title: str, place: Callable[..., float]
) -> str:
    """Best score so far of each search, over trials or over fold-epochs."""
    lines = {
        label: [(float(place(step)), step.best) for step in cost.steps if step.best is not None]
        for label, cost in costs.items()
    }
    lines = {label: points for label, points in lines.items() if points}
    across = max(points[-1][0] for points in lines.values())
    scored = [best for points in lines.values() for _, best in points]
    x = Axis(0.0, across, 64, WIDTH - 14)
    y = Axis(min(scored), max(scored), 300, 14)
    labels = list(lines)
    height = 300 + BOTTOM + legend_height(labels)
    drawing = Drawing(WIDTH, height, f"Best score so far, by {title}")
    legend(drawing, styles(study), labels, 300 + BOTTOM)
    for tick in y.ticks:
        drawing.line((64, y(tick)), (WIDTH - 14, y(tick)), opacity=0.15)
        drawing.text((56, y(tick) + 4), f"{100 * tick:.3g}", "end", 12)
    for tick in x.ticks:
        if tick.is_integer():
            drawing.text((x(tick), 318), f"{tick:.0f}", "middle", 12)
    part = "test part, optimistic" if study.record.optimistic else "validation part"
    drawing.text((16, 157), f"best score so far in % ({part})", "middle", upright=True)
    drawing.text(((64 + WIDTH - 14) / 2, 338), title, "middle")
    look = styles(study)
    for number, (label, points) in enumerate(lines.items()):
        stairs = [(x(points[0][0]), y(points[0][1]))]
        for (_, before), (now, best) in itertools.pairwise(points):
            if best != before:  # only the steps, so that 2,000 trials make a short line
                stairs += [(x(now), y(before)), (x(now), y(best))]
        stairs.append((x(points[-1][0]), y(points[-1][1])))
        dash = ("", "7 4", "2 3")[number % 3]
        drawing.path(stairs, look[label]["color"], dash)
        drawing.dot(stairs[-1], look[label]["color"], look[label]["symbol"], hint=label)
    return drawing.svg()


def seeds(study: Study) -> str:
    """For each configuration: a dot for each seed, and below it a dot for each fold."""
    bars: list[tuple[str, list[tuple[str, float]], str]] = []
    for label, spread in study.seeds.items():
        by_seed = [(f"seed {seed}", ua) for seed, ua in sorted(spread.ua.items())]
        bars.append((f"{label}: seeds", by_seed, BLUE))
        by_fold = [(f"fold {fold}", ua) for fold, ua in spread.folds.items()]
        bars.append((f"{label}: folds", by_fold, ORANGE))
    values = [ua for _, points, _ in bars for _, ua in points]
    axis = Axis(min(values), max(values), LABELS, WIDTH - 14)
    drawing, places = rows(
        "UA by training seed, and by fold",
        [name for name, *_ in bars],
        axis,
        "UA of the best configuration in %",
    )
    for (name, points, colour), y in zip(bars, places, strict=True):
        low, high = (axis(end(ua for _, ua in points)) for end in (min, max))
        drawing.line((low, y), (high, y), GREY, 1)
        for what, ua in points:
            drawing.dot((axis(ua), y), colour, hint=f"{name}, {what}: {ua:.1%}")
    return drawing.svg()
