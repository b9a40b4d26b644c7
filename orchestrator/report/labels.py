"""Names from corpora and configurations, where something else than a page reads them."""

import html
import re

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def text(value: object) -> str:
    """`value` for a plotly label, which reads a little HTML of its own."""
    return html.escape(str(value), quote=False)


def cell(value: str | None) -> str | None:
    """A text cell for a spreadsheet, which takes what begins with = + - @ for a formula.

    Such text gets an apostrophe before it, as one types it there; a number stays as it is.
    """
    if not value or value[0] not in "=+-@\t\r" or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"
