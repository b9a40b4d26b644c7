"""Draws SVG: lines, boxes, dots and text, without any library.

Text, axes and grid have the colour of the surrounding text (`currentColor`), so a drawing fits a
light and a dark page, and is black in a file of its own. Numbers have at most two decimals. The
same calls give the same text.
"""

import base64
import html
from collections.abc import Sequence

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
NARROW = 0.56
"""Estimated width of a letter, as a share of the font size."""


class Drawing:
    """A drawing of `width` times `height` units. (0, 0) is the upper left corner."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: str = "currentColor",
        width: float = 1,
        opacity: float = 1,
    ) -> None:
        """A straight line."""
        (x1, y1), (x2, y2) = start, end
        self._add(
            "line",
            x1=x1,
            y1=y1,
            x2=x2,
            y2=y2,
            stroke=colour,
            stroke_width=width,
            stroke_opacity=opacity,
        )

    def path(
        self,
        points: Sequence[tuple[float, float]],
        colour: str,
        dash: str = "",
        width: float = 2,
        opacity: float = 1,
        hint: str = "",
    ) -> None:
        """A line through points."""
        listed = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        dashes: dict[str, object] = {"stroke_dasharray": dash} if dash else {}
        if opacity < 1:
            dashes["stroke_opacity"] = opacity
        self._add(
            "polyline",
            hint,
            points=listed,
            fill="none",
            stroke=colour,
            stroke_width=width,
            stroke_linejoin="round",
            **dashes,
        )

    def box(
        self,
        corner: tuple[float, float],
        size: tuple[float, float],
        colour: str,
        opacity: float = 1,
        hint: str = "",
    ) -> None:
        """A filled rectangle. `hint` shows when the pointer is over it."""
        (x, y), (width, height) = corner, size
        self._add(
            "rect",
            hint,
            x=x,
            y=y,
            width=width,
            height=height,
            fill=colour,
            fill_opacity=opacity,
        )

    def frame(self, corner: tuple[float, float], size: tuple[float, float]) -> None:
        """An empty rectangle with a faint edge."""
        (x, y), (width, height) = corner, size
        self._add(
            "rect",
            x=x,
            y=y,
            width=width,
            height=height,
            fill="none",
            stroke="currentColor",
            stroke_opacity=0.3,
        )

    def image(self, corner: tuple[float, float], size: tuple[float, float], png: bytes) -> None:
        """A PNG picture, stretched to `size`. The drawing contains it."""
        (x, y), (width, height) = corner, size
        self._add(
            "image",
            x=x,
            y=y,
            width=width,
            height=height,
            preserveAspectRatio="none",
            href=f"data:image/png;base64,{base64.b64encode(png).decode()}",
        )

    def dot(
        self,
        place: tuple[float, float],
        colour: str,
        symbol: str = "circle",
        size: float = 4.5,
        hint: str = "",
        opacity: float = 1,
    ) -> None:
        """A marker: `circle`, `square`, `diamond` or `cross`."""
        x, y = place
        clear = {"opacity": opacity} if opacity < 1 else {}
        if symbol == "circle":
            self._add("circle", hint, cx=x, cy=y, r=size, fill=colour, **clear)
        elif symbol == "cross":
            arms = f"M{_number(x - size)} {_number(y)}h{_number(2 * size)}"
            arms += f"M{_number(x)} {_number(y - size)}v{_number(2 * size)}"
            self._add("path", hint, d=arms, stroke=colour, stroke_width=2.5, fill="none", **clear)
        else:
            side = 0.9 * size
            turn = f"rotate(45 {_number(x)} {_number(y)})" if symbol == "diamond" else ""
            self._add(
                "rect",
                hint,
                x=x - side,
                y=y - side,
                width=2 * side,
                height=2 * side,
                fill=colour,
                **({"transform": turn} if turn else {}),
                **clear,
            )

    def text(
        self,
        place: tuple[float, float],
        content: str,
        anchor: str = "start",
        size: float = 13,
        colour: str = "currentColor",
        upright: bool = False,
    ) -> None:
        """A line of text whose baseline is at `place`; `upright` turns it to read upwards."""
        x, y = place
        turn = {"transform": f"rotate(-90 {_number(x)} {_number(y)})"} if upright else {}
        attributes = _attributes(
            {"x": x, "y": y, "text_anchor": anchor, "font_size": size, "fill": colour, **turn}
        )
        self._parts.append(f"<text {attributes}>{html.escape(_clean(content))}</text>")

    def _add(self, name: str, hint: str = "", **attributes: object) -> None:
        opened = f"<{name} {_attributes(attributes)}"
        if hint:
            title = f"<title>{html.escape(_clean(hint))}</title>"
            self._parts.append(f"{opened}>{title}</{name}>")
        else:
            self._parts.append(f"{opened}/>")

    def svg(self) -> str:
        """The drawing as an SVG document, which a page may also contain."""
        title = html.escape(_clean(self.title), quote=True)
        size = f"{_number(self.width)} {_number(self.height)}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
            f'width="{_number(self.width)}" height="{_number(self.height)}" role="img" '
            f'aria-label="{title}" font-family="{FONT}">\n' + "\n".join(self._parts) + "\n</svg>\n"
        )


def shortened(content: str, width: float, size: float = 13) -> str:
    """A text that is cut with an ellipsis if it is probably wider than `width`."""
    letters = max(1, int(width / (NARROW * size)))
    return content if len(content) <= letters else f"{content[: letters - 1]}…"


def _clean(content: str) -> str:
    """Without the control characters that XML forbids."""
    return "".join(letter for letter in content if letter >= " " or letter in "\t\n")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _attributes(values: dict[str, object]) -> str:
    return " ".join(f'{name.replace("_", "-")}="{_value(value)}"' for name, value in values.items())


def _value(value: object) -> str:
    if isinstance(value, int | float):
        return _number(value)
    return html.escape(str(value), quote=True)
