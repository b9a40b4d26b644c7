"""The manifest: one row an utterance, whatever the corpus.

`file`, `start` and `end` are audformat's segmented index, so an audformat table reads in as it
is. Rows keep their order.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from features.parquet import ParquetError, read_table
from features.storage import Storage

_REQUIRED = ("file", "speaker", "emotion")
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

`start` and `end` are seconds inside the file, `dialogue_start` and `dialogue_end` inside the
dialogue, where each utterance has a file of its own. `phrase` names what is said, for splits by
it; `text` has the words. `style` is how it came to be said (`improvised`, `scripted`).
"""

_ROOT = b"ser.root"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters that end lines and steer terminals: no part of a name."""
MOST_CHARACTERS = 1000
"""Of a name: it stands in tables, logs and reports."""
MOST_BYTES = 255
"""Of each part of a path, to the file systems."""
_DURATION = re.compile(
    r"(?:(?P<d>\d+) days?,? ?)?(?:(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?))?"
)


class ManifestError(ValueError):
    """A manifest that cannot be used. The message names rows (from 1, without the header)."""


class Problem(NamedTuple):
    """Something about a corpus that its user should know, and what to do about it.

    file : the file, or the folder, it is about, relative to the root that was read
    """

    file: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """Utterances and the folder (a path or a URI) that their `file`s are relative to.

    problems : what a reader met and read past; a manifest's own file does not keep them
    """

    table: pa.Table
    root: str
    problems: tuple[Problem, ...] = ()


def read_manifest(path: str) -> Manifest:
    """The manifest at `path`: CSV (UTF-8, a header line) or Parquet, local or a URI.

    `file` is relative to the manifest's folder, or to the one that a Parquet manifest keeps: read
    one only from those who may choose where audio is read. Links below the folder are followed,
    as corpora are often put together of them. Raises ManifestError where the table is not a
    manifest, FileNotFoundError where there is none.
    """
    root, name = _split(path)
    data = Storage.open(root).read(name)
    try:
        table = _read_csv(data) if _is_csv(name) else _read_parquet(data)
        return Manifest(normalise(table), _root(table) or root)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def write_manifest(manifest: Manifest, path: str) -> None:
    """Write a manifest to `path` as Parquet or CSV, by its suffix.

    Parquet remembers the root where `path` lies elsewhere; CSV cannot, so that is a
    ManifestError.
    """
    folder, name = _split(path)
    elsewhere = Storage.open(folder).root != Storage.open(manifest.root).root
    sink = pa.BufferOutputStream()
    if _is_csv(name):
        if elsewhere:
            raise ManifestError(f"{path}: a CSV manifest lies in its audio's root, {manifest.root}")
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, manifest.table.column_names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(manifest.table.to_pylist())
        sink.write(text.getvalue().encode())
    else:
        metadata = {_ROOT: manifest.root.encode()} if elsewhere else None
        pq.write_table(manifest.table.replace_schema_metadata(metadata), sink)
    Storage.open(folder).write(name, sink.getvalue())


def normalise(table: pa.Table) -> pa.Table:
    """`table` with exactly the columns of `SCHEMA`: defaults filled in, every row checked.

    Raises ManifestError, which lists the first rows that are wrong and says what would be right.
    """
    missing = [name for name in _REQUIRED if name not in table.column_names]
    if missing:
        raise ManifestError(
            f"no column {' or '.join(missing)}: a manifest has file, speaker and emotion; "
            f"this one has {', '.join(table.column_names) or 'none'}"
        )
    if table.num_rows == 0:
        raise ManifestError("no rows")
    columns: dict[str, list[Any]] = {}
    for field in SCHEMA:
        if field.name not in table.column_names:
            columns[field.name] = [None] * table.num_rows
        elif pa.types.is_string(field.type):
            columns[field.name] = [_text(v) for v in table[field.name].to_pylist()]
        elif field.name == "turn":
            columns["turn"] = _parse(table["turn"], _integer, "a whole number", "turn")
        else:
            columns[field.name] = _seconds(table[field.name], field.name)
    _check_rows(columns)
    columns["id"] = _ids(columns)
    columns["turn"] = _turns(columns)
    _check_unique(columns)
    return pa.table(columns, schema=SCHEMA)


def _split(path: str) -> tuple[str, str]:
    """Absolute folder, and name; a URI's query (`?region=…`) stays with the folder."""
    if "://" in path:
        path, _, query = path.partition("?")
        folder, _, name = path.rpartition("/")
        return (f"{folder}?{query}" if query else folder), name
    local = Path(path).expanduser().absolute()
    return str(local.parent), local.name


def _root(table: pa.Table) -> str | None:
    """The root that a Parquet manifest keeps."""
    kept = (table.schema.metadata or {}).get(_ROOT)
    if kept is None:
        return None
    try:
        root: str = kept.decode()
        Storage.open(root)
    except (ValueError, OSError) as error:
        raise ManifestError(f"the root that it keeps is not one: {kept!r}: {error}") from error
    return root


def _is_csv(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ManifestError(f"{name}: a manifest is a .csv or a .parquet file")
    return suffix == ".csv"


def _read_parquet(data: bytes) -> pa.Table:
    try:
        return read_table(data)
    except ParquetError as error:
        raise ManifestError(str(error)) from error


def _read_csv(data: bytes) -> pa.Table:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"not UTF-8 text: {error}") from error
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [[]]
    except csv.Error as error:
        raise ManifestError(f"not CSV: {error}") from error
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        raise ManifestError(f"a column name comes twice in the header: {', '.join(header)}")
    _fail(
        [(i, f"{len(row)} values") for i, row in enumerate(rows) if len(row) != len(header)],
        f"a row has as many values as the header, {len(header)}",
    )
    values = zip(*rows, strict=True) if rows else [()] * len(header)
    return pa.table({k: pa.array(v, pa.string()) for k, v in zip(header, values, strict=True)})


def _fail(found: Iterable[tuple[int, str]], remedy: str) -> None:
    """Raise ManifestError for the rows `found` (index from 0, what is there), if any."""
    found = list(found)
    if found:
        shown = "; ".join(f"row {index + 1}: {what}" for index, what in found[:5])
        more = f"; and {len(found) - 5} more, {len(found)} in all" if len(found) > 5 else ""
        raise ManifestError(f"{remedy}. {shown}{more}")


def _text(value: Any) -> str | None:
    """A string, or None for an empty one. pandas makes 1.0 of a session 1 beside a gap."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and not value.strip():
        return None
    number = float(value)
    if not number.is_integer() or abs(number) >= 2**53:  # beyond, floats are not exact
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
    _fail(wrong, f"{name} must be {kind}")
    return values


def _seconds(column: pa.ChunkedArray, name: str) -> list[float | None]:
    if pa.types.is_duration(column.type):
        nanoseconds = column.cast(pa.duration("ns")).cast(pa.int64()).to_pylist()
        return [None if value is None else value / 1e9 for value in nanoseconds]
    return _parse(column, _number, "seconds, or a duration such as 0 days 00:00:01.2", name)


def _check_rows(columns: dict[str, list[Any]]) -> None:
    for name in ("file", "speaker"):
        empty = [(i, f"{name} is empty") for i, v in enumerate(columns[name]) if v is None]
        _fail(empty, f"every utterance has a {name}")
    _check_names(columns)
    _fail(
        (
            (i, f"file {v!r}")
            for i, v in enumerate(columns["file"])
            if v.startswith("/") or ".." in (parts := PurePosixPath(v).parts) or not parts
        ),
        "file is a path inside the manifest's folder",
    )
    _fail(
        (
            (i, f"file {v[:50]!r}… has a part of {longest}")
            for i, v in enumerate(columns["file"])
            if (longest := max(len(part.encode()) for part in v.split("/"))) > MOST_BYTES
        ),
        f"file has parts of at most {MOST_BYTES} bytes",
    )
    for name in ("start", "end", "dialogue_start", "dialogue_end"):
        _fail(
            (
                (i, f"{name} {v}")
                for i, v in enumerate(columns[name])
                if v is not None and not (math.isfinite(v) and v >= 0)
            ),
            f"{name} is a finite number of seconds, not negative",
        )
    _fail(
        (
            (i, f"start {start or 0.0}, end {end}")
            for i, (start, end) in enumerate(zip(columns["start"], columns["end"], strict=True))
            if end is not None and end <= (start or 0.0)
        ),
        "end comes after start",
    )


def _check_names(columns: dict[str, list[Any]]) -> None:
    """Raise ManifestError for what is no name: too long, or with control characters."""
    for field in SCHEMA:
        if not pa.types.is_string(field.type) or field.name == "text":
            continue
        values = [(i, v) for i, v in enumerate(columns[field.name]) if v is not None]
        _fail(
            [(i, f"{field.name} {v[:50]!r}") for i, v in values if _CONTROL.search(v)],
            f"{field.name} holds no line ends, tabs or other control characters",
        )
        _fail(
            [
                (i, f"{field.name} {v[:50]!r}… has {len(v)}")
                for i, v in values
                if len(v) > MOST_CHARACTERS
            ],
            f"{field.name} has at most {MOST_CHARACTERS} characters",
        )


def _ids(columns: dict[str, list[Any]]) -> list[str]:
    """Given ids, and where there is none: the file's stem; all of `file`, where several files
    share a stem; with start and end, where one file holds several utterances."""
    files = columns["file"]
    stems: dict[str, set[str]] = defaultdict(set)
    count: dict[str, int] = defaultdict(int)
    for file in files:
        stems[PurePosixPath(file).stem].add(file)
        count[file] += 1
    ids = []
    for given, file, start, end in zip(
        columns["id"], files, columns["start"], columns["end"], strict=True
    ):
        stem = PurePosixPath(file).stem
        name = stem if len(stems[stem]) == 1 else file
        if count[file] > 1:
            name += f"_{start or 0.0:.3f}_{'end' if end is None else format(end, '.3f')}"
        ids.append(given or name)
    return ids


def _turns(columns: dict[str, list[Any]]) -> list[int | None]:
    """Given turns; of a dialogue without any, by start inside its one file, else by row."""
    turns = list(columns["turn"])
    dialogues: dict[str, list[int]] = defaultdict(list)
    for index, dialogue in enumerate(columns["dialogue"]):
        if dialogue is not None:
            dialogues[dialogue].append(index)
    for rows in dialogues.values():
        without = [i for i in rows if turns[i] is None]
        if len(without) < len(rows):
            _fail(
                [(i, "turn is empty") for i in without],
                "a dialogue gives the turn of every utterance, or of none",
            )
            continue
        starts = [columns["start"][i] for i in rows]
        # Starts in different files say nothing about their order.
        if None not in starts and len({columns["file"][i] for i in rows}) == 1:
            rows = sorted(rows, key=lambda i: columns["start"][i])
        for turn, index in enumerate(rows):
            turns[index] = turn
    return turns


def _check_unique(columns: dict[str, list[Any]]) -> None:
    def repeated(keys: list[Any], show: Callable[[Any], str]) -> list[tuple[int, str]]:
        first: dict[Any, int] = {}
        return [
            (i, f"{show(key)} is also row {first[key] + 1}'s")
            for i, key in enumerate(keys)
            if key is not None and first.setdefault(key, i) != i
        ]

    _fail(repeated(columns["id"], lambda key: f"id {key!r}"), "an id names one utterance")
    places = [
        None if dialogue is None else (dialogue, turn)
        for dialogue, turn in zip(columns["dialogue"], columns["turn"], strict=True)
    ]
    _fail(
        repeated(places, lambda key: f"dialogue {key[0]!r} turn {key[1]}"),
        "a turn of a dialogue is one utterance",
    )
