"""The manifest: a table with one row for each utterance, for every corpus.

`file`, `start` and `end` are audformat's segmented index, so an audformat table is a manifest.
Rows keep their order.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from features.errors import ManifestError
from features.manifest_rows import SCHEMA as SCHEMA
from features.manifest_rows import normalise as normalise
from features.manifest_rows import refuse, without_value
from features.names import shown
from features.parquet import ParquetError, read_table
from features.storage import Storage


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
    problems that a reader found."""

    table: pa.Table
    root: str
    problems: tuple[Problem, ...] = ()


def read_manifest(path: str) -> Manifest:
    """Read the manifest at `path`: CSV (UTF-8, with a header) or Parquet, local or a URI.

    `file` is relative to the manifest's folder. Links below the folder are followed, because many
    corpora consist of links.

    Raises ManifestError if the table is not a manifest, FileNotFoundError if there is no file.
    """
    root, name = _split(path)
    data = Storage.open(root).read(name)
    try:
        table = _read_csv(data) if _is_csv(name) else read_table(data)
        return Manifest(normalise(table), root, value_problems(table))
    except (ManifestError, ParquetError) as error:
        raise ManifestError(f"{path}: {error}") from error


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
        folder, _, name = path.rpartition("/")
        return (f"{folder}?{query}" if query else folder), name
    local = Path(path).expanduser().absolute()
    return str(local.parent), local.name


def _is_csv(name: str) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ManifestError(f"the suffix is {suffix!r}: a manifest is a .csv or a .parquet file")
    return suffix == ".csv"


def _read_csv(data: bytes) -> pa.Table:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"the text is not UTF-8 ({error}): save it as UTF-8") from error
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [[]]
    except csv.Error as error:
        raise ManifestError(f"the text is not CSV: {error}") from error
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        raise ManifestError(f"the header repeats a column name: {', '.join(header)}")
    refuse(
        [(i, f"{len(row)} values") for i, row in enumerate(rows) if len(row) != len(header)],
        f"each row must have as many values as the header, {len(header)}",
    )
    values = zip(*rows, strict=True) if rows else [()] * len(header)
    return pa.table({k: pa.array(v, pa.string()) for k, v in zip(header, values, strict=True)})
