"""Names in a manifest: texts that mean "no value", and texts that look alike."""

import re
import unicodedata

import pyarrow.csv as pacsv

GROUPS = ("speaker", "session", "dialogue", "phrase", "split", "fold")
"""Columns of names that divide the utterances: a wrong name is a group, and a fold, of its own."""

NO_VALUE = frozenset(
    (
        *pacsv.ConvertOptions().null_values,  # "", NA, NaN, nan, NULL, null, N/A, n/a, #N/A, …
        *("<NA>", "NaT", "None", "none", "NONE", "NAN", "Null"),  # pandas, Python, databases
        *("#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"),  # spreadsheets
    )
)
"""Texts that programs write for a missing value. `Na` and `Nan` are not here: people have them as
names."""

_INVISIBLE = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))
"""Unicode categories of control and format characters (zero-width space, byte order mark) and of
spaces."""
_FILLERS = frozenset("\u034f\u115f\u1160\ufe0e\ufe0f")
"""Invisible characters of other categories: a joiner, Hangul fillers, variation selectors."""
_WHOLE_NUMBER = re.compile(r"([0-9]+)(?:\.0*)?", re.ASCII)


def means_no_value(text: str) -> bool:
    """Whether a text stands for a missing value, or shows nothing."""
    return text in NO_VALUE or not _visible(text)


def spelling(text: str) -> str:
    """The same text for all names that only a mistake tells apart.

    Such names differ in upper and lower case, in spaces, in invisible characters, in composed and
    decomposed characters, or as `1`, `01` and `1.0` do.

    >>> spelling("Anger") == spelling("anger\\u200b ")
    True
    """
    folded = _visible(unicodedata.normalize("NFKC", _visible(text).casefold()))
    number = _WHOLE_NUMBER.fullmatch(folded)
    return number[1].lstrip("0") or "0" if number else folded


def shown(text: str) -> str:
    """The text in quotes, with an escape for each character that could not be seen."""
    return repr(text) if unicodedata.normalize("NFC", text) == text else ascii(text)


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():  # nearly all names, and ten times as fast
        return text.replace(" ", "")
    return "".join(
        c for c in text if unicodedata.category(c) not in _INVISIBLE and c not in _FILLERS
    )
