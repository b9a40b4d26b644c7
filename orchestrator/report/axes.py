"""Axes, rows and legends that the drawings of a study's page share."""

import math
from collections.abc import Mapping, Sequence

from orchestrator.report.svg import NARROW, Drawing, shortened

WIDTH = 640
LABELS = 150
"""Width of the column of names."""
ROW = 30
BOTTOM = 44
"""Height of the axis below a figure."""


class Axis:
    """Maps values to places on a line, with ticks at round values."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        if high <= low:
            low, high = low - 0.5, high + 0.5
        rough = (high - low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        self.step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough)
        self.low = math.floor(low / self.step) * self.step
        self.high = math.ceil(high / self.step) * self.step
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        """The place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    @property
    def ticks(self) -> list[float]:
        """Round values from end to end."""
        count = round((self.high - self.low) / self.step)
        return [self.low + number * self.step for number in range(count + 1)]


def rows(
    title: str,
    names: Sequence[str],
    axis: Axis,
    label: str,
    below: float = 0,
    scale: float = 100,
) -> tuple[Drawing, list[float]]:
    """A drawing with a row for each name and an axis below; and the places of the rows.

    below : height of a legend below the axis
    scale : factor of the axis's numbers; by default they are per cent
    """
    height = 12 + ROW * len(names)
    drawing = Drawing(WIDTH, height + BOTTOM + below, title)
    for tick in axis.ticks:
        x = axis(tick)
        drawing.line((x, 8), (x, height), opacity=0.15)
        drawing.text((x, height + 16), f"{scale * tick:.4g}", "middle", 12)
    drawing.text(((axis(axis.low) + axis(axis.high)) / 2, height + 36), label, "middle")
    places = [12 + ROW * (number + 0.5) for number in range(len(names))]
    for name, y in zip(names, places, strict=True):
        drawing.text((LABELS - 10, y + 4), shortened(name, LABELS - 12), "end")
    return drawing, places


def _legend_places(labels: Sequence[str]) -> list[tuple[float, float]]:
    """Where each entry of a legend begins: x, and y from the legend's top."""
    places, x, y = [], 14.0, 14.0
    for label in labels:
        length = 34 + NARROW * 13 * len(label)
        if x > 14 and x + length > WIDTH:
            x, y = 14.0, y + 20
        places.append((x, y))
        x += length
    return places


def legend(
    drawing: Drawing, look: Mapping[str, Mapping[str, str]], labels: Sequence[str], top: float
) -> None:
    """The marker and the name of each series, below a figure.

    look : name -> `color` and `symbol`
    """
    for label, (x, y) in zip(labels, _legend_places(labels), strict=True):
        drawing.dot((x, top + y - 4), look[label]["color"], look[label]["symbol"])
        drawing.text((x + 10, top + y), shortened(label, WIDTH - 40))


def legend_height(labels: Sequence[str]) -> float:
    """Height of the legend of these names."""
    return _legend_places(labels)[-1][1] + 12
