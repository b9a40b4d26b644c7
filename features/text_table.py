"""Text tables as people have them: any common separator and encoding, empty columns."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from features.errors import ManifestError, shorten

_SEPARATORS = (",", ";", "\t", "|")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose mark is the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_HEAD = 4096
"""Bytes in which the header must be."""
_SEP_LINE = re.compile(r'\s*"?sep=([^\r\n])"?[ \t,;]*(?:\r\n?|\n)', re.IGNORECASE)
"""The first line with which Excel learns the separator."""
_END = "\x1eend"
"""A line that is added to find a quote that is never closed. No table holds this line."""


class TextTable(NamedTuple):
    """A table of texts.

    columns : the values of each column that has a name; equal lengths
    encoding : `UTF-8`, `UTF-16`, `UTF-32` or `Windows-1252`
    """

    columns: dict[str, list[str]]
    separator: str
    encoding: str


def decode(data: bytes, names: Sequence[str] = (), errors: str = "strict") -> tuple[str, str]:
    """The text of `data`, and its encoding: UTF-16 or UTF-32 by its mark, UTF-8, or Windows-1252.

    names : words of the first line; they tell UTF-16 without a byte order mark from UTF-8
    errors : `strict` or `replace`, for bytes that the encoding does not define

    Raises ManifestError if `errors` is `strict` and the bytes are not text of this encoding.
    """
    codec, encoding = "cp1252", "Windows-1252"
    marked = [(c, e) for mark, c, e in _MARKS if data.startswith(mark)]
    unmarked = [c for c in ("utf-16-le", "utf-16-be") if names and _holds(data, c, names)]
    if marked:
        codec, encoding = marked[0]
    elif unmarked:
        codec, encoding = unmarked[0], "UTF-16"
    else:
        try:
            return data.decode("utf-8-sig"), "UTF-8"
        except UnicodeDecodeError:
            if data.startswith(codecs.BOM_UTF8) and errors == "strict":
                codec, encoding = "utf-8-sig", "UTF-8"  # part of it is in another encoding
    try:
        return data.decode(codec, errors), encoding
    except UnicodeDecodeError as error:
        wrong = "neither UTF-8 nor Windows-1252" if codec == "cp1252" else f"not {encoding}"
        raise ManifestError(f"the text is {wrong} ({error}): save it as UTF-8") from error


def _holds(data: bytes, codec: str, names: Sequence[str]) -> bool:
    head = data[:_HEAD].decode(codec, "ignore")
    return all(name in head for name in names)


def read_text_table(data: bytes, required: Sequence[str]) -> TextTable:
    """Read a table of text with a header.

    The separator is the one that a first line `sep=;` names, else the one that divides the header
    into the `required` columns: comma, semicolon, tab or vertical bar. Columns without a name,
    rows without a value and empty values behind the last column are skipped.

    Raises ManifestError if the text is no table, or if a row has too many or too few values.
    """
    text, encoding = decode(data, required)
    mark = _SEP_LINE.match(text)
    if mark:
        text = text[mark.end() :]
    separator = mark[1] if mark else _separator(text, required)
    header, *rows = _records(text, separator) or [[]]
    header = [name.strip() for name in header]
    named = [place for place, name in enumerate(header) if name]
    repeated = {header[place] for place in named if header.count(header[place]) > 1}
    if repeated:
        raise ManifestError(f"the header repeats a column name: {', '.join(header)}")
    least, width = max(named, default=-1) + 1, len(header)
    fitted = [_fitted(row, least, width) for row in rows]
    wrong = [
        f"row {number}: {len(rows[number - 1])} values"
        for number, row in enumerate(fitted, start=1)
        if row is None
    ]
    if wrong:
        raise ManifestError(
            f"each row must have as many values as the header, {width}; put a value that contains "
            f"{separator!r} into quotes. {shorten(wrong, separator='; ')}"
        )
    columns = {header[place]: [row[place] for row in fitted if row] for place in named}
    return TextTable(columns, separator, encoding)


def _separator(text: str, required: Iterable[str]) -> str:
    """The separator that finds most of the `required` columns, then most columns."""

    def columns(separator: str) -> tuple[int, int]:
        try:
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            names = [name.strip() for name in next(filter(any, rows), [])]
        except csv.Error:
            return 0, 0
        return len({*required} & {*names}), len(names)

    return max(_SEPARATORS, key=columns)


def _records(text: str, separator: str) -> list[list[str]]:
    """The rows that have a value. Raises ManifestError for a quote that is never closed."""
    try:
        *rows, last = csv.reader(io.StringIO(f"{text}\n{_END}", newline=""), delimiter=separator)
    except csv.Error as error:
        raise ManifestError(f"the text is not CSV: {error}") from error
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if last != [_END]:
        raise ManifestError(
            f'a quote (") in row {len(rows)} is never closed, so the rest of the table would be '
            f"one value: close it, or write it twice inside quotes"
        )
    return rows


def _fitted(row: list[str], least: int, width: int) -> list[str] | None:
    """The row with `width` values, if only empty ones are added or cut; else None."""
    if len(row) < least or any(cell.strip() for cell in row[width:]):
        return None
    return row[:width] + [""] * (width - len(row))
