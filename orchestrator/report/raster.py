"""Turns SVG drawings into PNG files, with resvg, which needs neither a browser nor a display."""

from functools import cache

import resvg_py

from orchestrator.report.svg import Drawing

ZOOM = 2
"""Pixels of a unit of a drawing: about 200 dots per inch in a column of a paper."""
FONTS = (
    "DejaVu Sans",
    "Liberation Sans",
    "Noto Sans",
    "Roboto",
    "Arial",
    "Helvetica",
    "Segoe UI",
    "Open Sans",
    "Ubuntu",
    "Cantarell",
)
"""Font families to try, in this order. resvg leaves out a text whose font is not installed."""
NO_FONT = (
    "There are no PNG files, because this machine has no font that the program knows "
    f"({', '.join(FONTS)}). Install one (Debian: fonts-dejavu-core), and write the page again."
)


def png(svg: str, font: str) -> bytes:
    """A drawing as PNG, in twice its size on white. The same machine gives the same bytes.

    font : the family of all texts, from `installed_font`
    """
    drawn: bytes = resvg_py.svg_to_bytes(
        svg_string=svg, background="#ffffff", zoom=ZOOM, sans_serif_family=font
    )
    return drawn


@cache
def installed_font() -> str | None:
    """The first of `FONTS` that draws a letter on this machine, or None."""
    letter, empty = Drawing(20, 20, ""), Drawing(20, 20, "")
    letter.text((2, 16), "M")
    return next((font for font in FONTS if png(letter.svg(), font) != png(empty.svg(), font)), None)
