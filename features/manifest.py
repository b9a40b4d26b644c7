"""The manifest: a table with one row for each utterance, for every corpus.

`file`, `start` and `end` are audformat's segmented index, so an audformat table is a manifest.
Rows keep their order.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs

from features.absences import nearest, pointer
from features.columns import arrow_column
from features.errors import ManifestError, shorten
from features.manifest_rows import REQUIRED, TIMES, refuse, without_value
from features.manifest_rows import SCHEMA as SCHEMA
from features.manifest_rows import normalise as normalise
from features.names import shown
from features.parquet import ParquetError, read_table
from features.recordings import Recordings
from features.storage import Storage
from features.text_table import read_text_table

_TEXT = (".csv", ".tsv", ".txt")
_SUFFIXES = (*_TEXT, ".parquet")
_TABLES = (".csv", ".tsv", ".parquet")
"""Suffixes that only tables have."""
_COMMA = re.compile(r"\s*\d+,\d+\s*")
_POINT = re.compile(r"\s*\d+\.\d+\s*")


class Problem(NamedTuple):
    """A problem that a reader found in a corpus.

    file : the file or folder, relative to the corpus's root; or the column, or the key of the
        configuration
    reason : the problem and its remedy
    """

    file: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """Utterances, the folder (a path or a URI) that their `file`s are relative to, and the
    problems that a reader found.

    own : whether the user wrote the table; only then may `file`s be outside the folder
    """

    table: pa.Table
    root: str
    problems: tuple[Problem, ...] = ()
    own: bool = False

    def recordings(self) -> Recordings:
        """Access to the files. Raises StorageError for a root that pyarrow cannot open."""
        return Recordings.open(self.root, self.own)


class Rows(NamedTuple):
    """A user's own table before `normalise`, its folder, and the problems of its text."""

    table: pa.Table
    root: str
    problems: tuple[Problem, ...] = ()


def read_manifest(path: str) -> Manifest:
    """Read the manifest at `path`, local or a URI: a text table with a header, or Parquet.

    `file` is a path relative to the manifest's folder, an absolute path, a path that starts with
    `~`, or a URI. Links below the folder are followed, because many corpora consist of links.

    Raises ManifestError if there is no manifest at `path`.
    """
    table, root, problems = read_rows(path)
    try:
        return Manifest(
            normalise(table, own=True), root, problems + value_problems(table), own=True
        )
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error


def read_rows(path: str) -> Rows:
    """Read a manifest as `read_manifest` does, but do not check its rows."""
    root, name = _split(path)
    storage = Storage.open(root)
    _check_place(path, storage, name)
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ManifestError(
            f"{path}: the suffix is {suffix!r}: a manifest is a {', a '.join(_TEXT)} or a "
            ".parquet file. Save a spreadsheet as CSV"
        )
    data = storage.read(name)
    if reason := pointer(data):
        raise ManifestError(f"{path}: {reason}")
    try:
        table, problem = (read_table(data), None) if suffix == ".parquet" else _read_text(data)
    except (ManifestError, ParquetError) as error:
        raise ManifestError(f"{path}: {error}") from error
    if "file" in table.column_names:
        given = table["file"].to_pylist()
        files = [value.strip() if isinstance(value, str) else value for value in given]
        texts = dict.fromkeys(value for value in files if isinstance(value, str))
        names = Recordings(storage, root, own=True).expand(texts)
        if any(file != name for file, name in names.items()):
            table = with_files(table, [names.get(file, file) for file in files])
    return Rows(table, root, (Problem(name, problem),) if problem else ())


def with_files(table: pa.Table, files: Sequence[str | None]) -> pa.Table:
    """`table` with another column `file`."""
    place = table.column_names.index("file")
    return table.set_column(place, "file", arrow_column(files, pa.string()))


def value_problems(table: pa.Table) -> tuple[Problem, ...]:
    """Problems of a table before `normalise`: names whose text means that there is no name."""
    problems = []
    for name, texts in without_value(table).items():
        listed = ", ".join(map(shown, sorted(texts)))
        reason = (
            f"{texts.total()} rows have a text that means no value ({listed}): they count as rows "
            f"without a {name}. Fill in the column, or rename the {name} if the text is a name"
        )
        problems.append(Problem(f"column {name}", reason))
    return tuple(problems)


def _split(path: str) -> tuple[str, str]:
    """Absolute folder, and name; a URI's query (`?region=…`) stays with the folder."""
    if "://" in path:
        path, _, query = path.partition("?")
        folder, _, name = path.rstrip("/").rpartition("/")
        return (f"{folder}?{query}" if query else folder), name
    local = Path(path).expanduser().absolute()
    return (str(local), "") if local.name == ".." else (str(local.parent), local.name)


def _check_place(path: str, storage: Storage, name: str) -> None:
    """Raise ManifestError if `path` is no file; the message names the tables that are near."""
    kind = storage.inspect([name])[0].type
    if kind == pafs.FileType.Directory:
        tables = _tables(storage.child(name))
        remedy = f"give one of its tables ({shorten(tables)})"
        if not tables:
            remedy = "write a table into it, or set corpus.name to the reader of this corpus"
        raise ManifestError(f"{path} is a folder, but a manifest is a table: {remedy}")
    if kind == pafs.FileType.NotFound:
        raise ManifestError(f"{path} does not exist: {nearest(storage, name)}")
    if kind != pafs.FileType.File:
        raise ManifestError(f"{path} is not a regular file: give a table")


def _tables(folder: Storage) -> list[str]:
    """The tables in a folder, or else in the folders in it."""
    found: list[str] = []
    below = [""]
    for _ in range(2):
        names = [name for parent in below for name in folder.list(parent)]
        found = [name for name in names if PurePosixPath(name).suffix.lower() in _TABLES]
        if found:
            break
        infos = folder.inspect(names)
        below = [
            name
            for name, info in zip(names, infos, strict=True)
            if info.type == pafs.FileType.Directory
        ]
    return found


def _read_text(data: bytes) -> tuple[pa.Table, str | None]:
    """The table, and the problem of its encoding, if any."""
    columns, separator, encoding = read_text_table(data, REQUIRED)
    if separator == ";":
        columns |= _with_points(columns)
    table = pa.table({name: arrow_column(values, pa.string()) for name, values in columns.items()})
    if encoding != "Windows-1252":
        return table, None
    other = ((i, v) for values in columns.values() for i, v in enumerate(values, 1))
    first = min(((i, v) for i, v in other if not v.isascii()), default=None)
    example = f", such as {first[1]!r:.50} in row {first[0]}" if first else ""
    return (
        table,
        f"not UTF-8, read as Windows-1252: check its letters{example}, or save it as UTF-8",
    )


def _with_points(columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """The times that have a decimal comma, with a point: a table from Excel in most of Europe.

    Raises ManifestError if other times have a point, because a comma may then group thousands.
    """
    times = {name: columns[name] for name in TIMES if name in columns}
    if any(_POINT.fullmatch(value) for values in times.values() for value in values):
        for name, values in times.items():
            refuse(
                [(i, f"{name} {v!r}") for i, v in enumerate(values) if _COMMA.fullmatch(v)],
                "times must all have a decimal point, or all a decimal comma",
            )
        return {}
    return {
        name: [v.replace(",", ".") if _COMMA.fullmatch(v) else v for v in values]
        for name, values in times.items()
    }
