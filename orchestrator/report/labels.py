"""Colours of the figures, and names of corpora and configurations as labels and cells.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart. Their yellow and
black are left out: each would disappear on one of the page's two backgrounds.
"""

import html
import re

PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C"]
SYMBOLS = ["circle", "square", "diamond", "cross"]
BLUE, ORANGE, GREY = PALETTE[0], PALETTE[1], PALETTE[6]
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def marker(number: int) -> dict[str, str]:
    """Colour and symbol of a series. After seven series the colours repeat with another symbol."""
    repeats, colour = divmod(number, len(PALETTE))
    return {"color": PALETTE[colour], "symbol": SYMBOLS[repeats % len(SYMBOLS)]}


def text(value: object) -> str:
    """`value` as a plotly label. Plotly reads some HTML tags in its labels."""
    return html.escape(str(value), quote=False)


def cell(value: str | None) -> str | None:
    """`value` as a text cell. Spreadsheets read a text that begins with = + - @ as a formula.

    Such a text gets an apostrophe before it. Numbers stay as they are.
    """
    if not value or value[0] not in "=+-@\t\r" or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"
