"""Conversion and checks of a manifest's rows."""

import math
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from features.columns import arrow_table
from features.errors import ManifestError, shorten
from features.names import GROUPS, means_no_value, shown
from features.recordings import is_uri, leaves_folder

REQUIRED = ("file", "speaker", "emotion")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("emotion", pa.string()),
        pa.field("session", pa.string()),
        pa.field("dialogue", pa.string()),
        pa.field("turn", pa.int64()),
        pa.field("gender", pa.string()),
        pa.field("phrase", pa.string()),
        pa.field("split", pa.string()),
        pa.field("fold", pa.string()),
        pa.field("style", pa.string()),
        pa.field("text", pa.string()),
        pa.field("dialogue_start", pa.float64()),
        pa.field("dialogue_end", pa.float64()),
    ]
)
"""Columns of every manifest after `normalise`.

`start` and `end` are seconds in the file. `dialogue_start` and `dialogue_end` are seconds in the
dialogue, if each utterance has its own file. `phrase` identifies the spoken text, for splits by
phrase; `text` holds the words. `style` is the speaking style (`improvised`, `scripted`).
"""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Line ends and characters that control terminals. They are not allowed in names."""
MOST_CHARACTERS = 1000
"""Of a name, because names are printed in tables, logs and reports."""
MOST_BYTES = 255
"""Of each component of a path: the limit of file systems."""
_DURATION = re.compile(
    r"(?:(?P<d>\d+) days?,? ?)?(?:(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?))?"
)

Columns = dict[str, list[Any]]


def normalise(table: pa.Table, own: bool = False) -> pa.Table:
    """Return `table` with exactly the columns of `SCHEMA`, checked and with defaults.

    own : whether the user wrote the table, so that `file` may be any path or URI

    Raises ManifestError, which lists the first wrong rows and says how to correct them.
    """
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise ManifestError(
            f"no column {' or '.join(missing)}: a manifest needs file, speaker and emotion "
            f"(its columns: {', '.join(table.column_names)})"
        )
    if table.num_rows == 0:
        raise ManifestError("no rows: add a row for each utterance")
    columns: Columns = {}
    for field in SCHEMA:
        if field.name not in table.column_names:
            columns[field.name] = [None] * table.num_rows
        elif pa.types.is_string(field.type):
            columns[field.name] = _texts(table, field.name)
        elif field.name == "turn":
            columns["turn"] = _parse(table["turn"], _integer, "a whole number", "turn")
        else:
            columns[field.name] = _seconds(table[field.name], field.name)
    _check_rows(columns, own)
    columns["id"] = _ids(columns)
    columns["turn"] = _turns(columns)
    _check_unique(columns)
    return arrow_table(columns, SCHEMA)


def without_value(table: pa.Table) -> dict[str, Counter[str]]:
    """Column -> texts that mean "no value", with their number of rows.

    `normalise` makes such sessions, dialogues, phrases, splits and folds empty, and refuses such
    speakers. It keeps such labels, because an emotion may be called `none`.
    """
    found = {}
    for name in GROUPS:
        if name in table.column_names:
            texts = Counter(_text(v) for v in table[name].to_pylist())
            found[name] = Counter({t: n for t, n in texts.items() if t and means_no_value(t)})
    return {name: texts for name, texts in found.items() if texts}


def refuse(rows: Iterable[tuple[int, str]], rule: str) -> None:
    """Raise ManifestError if any of `rows`, (index from 0, the wrong value), breaks `rule`."""
    wrong = [f"row {index + 1}: {value}" for index, value in rows]
    if wrong:
        raise ManifestError(f"{rule}. {shorten(wrong, separator='; ')}")


def _text(value: Any) -> str | None:
    """A string, or None if empty. pandas turns session 1 into 1.0 if another row has a gap."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _texts(table: pa.Table, name: str) -> list[str | None]:
    """A column of texts. Raises ManifestError for a speaker that means "no value"."""
    values = [_text(value) for value in table[name].to_pylist()]
    if name not in GROUPS:
        return values
    empty = {i: value for i, value in enumerate(values) if value and means_no_value(value)}
    if name == "speaker":
        refuse(
            ((i, f"speaker {shown(value)}") for i, value in empty.items()),
            "every utterance needs a speaker, but some texts mean that there is no value. Fill in "
            "the column, or rename the speaker if the text is a name",
        )
    return [None if i in empty else value for i, value in enumerate(values)]


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and not value.strip():
        return None
    number = float(value)
    if not number.is_integer() or abs(number) >= 2**53:  # larger floats are not exact
        raise ValueError(value)
    return int(number)


def _number(value: Any) -> float | None:
    """Seconds from a number, a numeric string, or a duration such as `0 days 00:00:01.2`."""
    if isinstance(value, str):
        value = value.strip()
        if value in ("", "NaT"):
            return None
        match = _DURATION.fullmatch(value)
        if match:
            days, hours, minutes, seconds = (float(part or 0) for part in match.group(*"dhms"))
            return 86400 * days + 3600 * hours + 60 * minutes + seconds
    return float(value)


def _parse(
    column: pa.ChunkedArray, convert: Callable[[Any], Any], kind: str, name: str
) -> list[Any]:
    values: list[Any] = []
    wrong: list[tuple[int, str]] = []
    for index, value in enumerate(column.to_pylist()):
        try:
            values.append(None if value is None else convert(value))
        except (ValueError, TypeError, OverflowError):
            wrong.append((index, f"{name} {value!r}"))
    refuse(wrong, f"{name} must be {kind}")
    return values


def _seconds(column: pa.ChunkedArray, name: str) -> list[float | None]:
    if pa.types.is_duration(column.type):
        nanoseconds = column.cast(pa.duration("ns")).cast(pa.int64()).to_pylist()
        return [None if value is None else value / 1e9 for value in nanoseconds]
    kind = "seconds, or a duration such as 0 days 00:00:01.2, with a decimal point"
    return _parse(column, _number, kind, name)


def _names_no_file(file: str) -> bool:
    return PurePosixPath(file).name in ("", "..")


def _is_other_uri(file: str) -> bool:
    return is_uri(file) and file.partition("://")[0] not in _SCHEMES


def _has_long_component(file: str) -> bool:
    return max(len(part.encode()) for part in file.split("/")) > MOST_BYTES


_NAMES = [field.name for field in SCHEMA if pa.types.is_string(field.type) and field.name != "text"]
TIMES = ("start", "end", "dialogue_start", "dialogue_end")
_RULES: list[tuple[Sequence[str], Callable[[Any], Any], str]] = [
    (_NAMES, _CONTROL.search, "not contain line ends, tabs or other control characters"),
    (_NAMES, lambda v: len(v) > MOST_CHARACTERS, f"have at most {MOST_CHARACTERS} characters"),
    (["file"], _names_no_file, "be the path of a recording"),
    (["file"], _has_long_component, f"have at most {MOST_BYTES} bytes in each component"),
    (TIMES, lambda v: not 0 <= v < math.inf, "be a finite number of seconds, at least 0"),
]
"""Columns, the condition of a wrong value, and the rule that it breaks."""
_SCHEMES = ("s3", "gs", "gcs")
_OUTSIDE = (
    ["file"],
    leaves_folder,
    "be a path inside the corpus's folder: only a table of your own (corpus.name: manifest) may "
    "name other places",
)
_NO_STORAGE = (
    ["file"],
    _is_other_uri,
    f"be a path, or a URI of a storage ({'://, '.join(_SCHEMES)}://): download other recordings",
)


def _check_rows(columns: Columns, own: bool) -> None:
    for name in ("file", "speaker"):
        empty = [(i, f"{name} is empty") for i, v in enumerate(columns[name]) if v is None]
        refuse(empty, f"every utterance needs a {name}")
    for names, is_wrong, rule in [*_RULES, _NO_STORAGE if own else _OUTSIDE]:
        for name in names:
            values = ((i, v) for i, v in enumerate(columns[name]) if v is not None and is_wrong(v))
            refuse(((i, f"{name} {v!r:.50}") for i, v in values), f"{name} must {rule}")
    refuse(
        (
            (i, f"start {start or 0.0}, end {end}")
            for i, (start, end) in enumerate(zip(columns["start"], columns["end"], strict=True))
            if end is not None and end <= (start or 0.0)
        ),
        "end must be after start",
    )


def _ids(columns: Columns) -> list[str]:
    """The given ids. The default is the file's stem, or all of `file` if several files share the
    stem; with start and end if the file has several utterances.

    Absolute paths begin below the folder that they share, which may be another on each machine.
    """
    files = columns["file"]
    utterances = Counter(files)
    stem_of = {file: PurePosixPath(file).stem for file in utterances}
    stems = Counter(stem_of.values())
    absolute = [posixpath.dirname(file) for file in utterances if file.startswith("/")]
    shared = f"{posixpath.commonpath(absolute).rstrip('/')}/" if absolute else ""
    ids = []
    for given, file, start, end in zip(
        columns["id"], files, columns["start"], columns["end"], strict=True
    ):
        stem = stem_of[file]
        name = stem if stems[stem] == 1 else file.removeprefix(shared)
        if name != stem and name in utterances:  # a relative file has this name
            name = file
        if utterances[file] > 1:
            name += f"_{start or 0.0:.3f}_{'end' if end is None else format(end, '.3f')}"
        ids.append(given or name)
    return ids


def _turns(columns: Columns) -> list[int | None]:
    """The given turns. If a dialogue has no turns, they follow the start in its single file, or
    else the order of the rows."""
    turns = list(columns["turn"])
    dialogues: dict[str, list[int]] = defaultdict(list)
    for index, dialogue in enumerate(columns["dialogue"]):
        if dialogue is not None:
            dialogues[dialogue].append(index)
    for rows in dialogues.values():
        without = [i for i in rows if turns[i] is None]
        if len(without) < len(rows):
            refuse(
                [(i, "turn is empty") for i in without],
                "all utterances of a dialogue must have a turn, or all turns must be empty",
            )
            continue
        starts = [columns["start"][i] for i in rows]
        # Starts in different files cannot be compared.
        if None not in starts and len({columns["file"][i] for i in rows}) == 1:
            rows = sorted(rows, key=lambda i: columns["start"][i])
        for turn, index in enumerate(rows):
            turns[index] = turn
    return turns


def _check_unique(columns: Columns) -> None:
    ids = [f"id {name!r}" for name in columns["id"]]
    places = [
        None if dialogue is None else f"dialogue {dialogue!r} turn {turn}"
        for dialogue, turn in zip(columns["dialogue"], columns["turn"], strict=True)
    ]
    sessions = columns["session"]
    for keys, unit in ((ids, "id"), (places, "turn of a dialogue")):
        first: dict[str, int] = {}
        repeated = [(i, key) for i, key in enumerate(keys) if key and first.setdefault(key, i) != i]
        remedy = ""
        if keys is ids and any(means_no_value(columns["id"][i]) for i, _ in repeated):
            remedy = (
                ". Empty the cells without an id: the ids then come from the names of the files"
            )
        if keys is places and any(sessions[i] != sessions[first[key]] for i, key in repeated):
            remedy = (
                ". If each session numbers its dialogues anew, write the session into the name of "
                "the dialogue, as in Ses01_1"
            )
        wrong = ((i, f"{key} is also in row {first[key] + 1}") for i, key in repeated)
        refuse(wrong, f"each {unit} must occur once{remedy}")
