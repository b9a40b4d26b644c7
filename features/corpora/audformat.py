"""Any database in audformat (audEERING): fetched by `audb`, or your own.

Needs the package `audformat`: `pip install ser-orchestrator[audformat]`. Layout: `db.yaml`, a
file for each table, and the media. The header names the database's licence and citation.
"""

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from features.corpora.tree import Tree
from features.errors import DependencyError, ManifestError
from features.manifest import Manifest

_OPTIONAL = ("speaker", "gender", "sex", "session", "dialogue", "turn", "phrase", "text")
_TYPES = {"train": "train", "dev": "validation", "test": "test"}


def read_audformat(root: str) -> Manifest:
    """Read the manifest of the audformat database in the folder `root`, one row for each labelled
    segment.

    The emotion is the scheme `emotion`, or else the columns and labels of this name. The reader
    finds these columns in the same way: speaker (required), gender (or sex), session, dialogue,
    turn, phrase, text. Tables of a split give the column split. A file without segments has no
    start and no end. Pickled tables are never read, because pickle can run code.

    Raises DependencyError if audformat is not installed.
    """
    try:
        audformat = import_module("audformat")
    except ImportError:
        raise DependencyError(
            "corpus.name: audformat needs a package: pip install ser-orchestrator[audformat]"
        ) from None
    if "://" in root:
        raise ManifestError(f"{root}: an audformat database must be in a local folder")
    tree = Tree(root)
    if tree.find("db.yaml") is None:
        raise ManifestError(
            f"{root} is not an audformat database: it has no db.yaml{tree.dead_links()}"
        )
    with TemporaryDirectory() as folder:
        _copy_safe_files(tree, Path(folder))
        database = audformat.Database.load(folder, load_data=True)
    frame = _frame(tree, database)
    split_of = _splits(database)
    rows = []
    for index, values in zip(frame.index, frame.to_dict("records"), strict=True):
        segment = _segment(index)
        row = {name: values.get(name) for name in ("emotion", *_OPTIONAL)}
        sex = row.pop("sex")
        row["gender"] = row["gender"] or sex
        row["split"] = split_of.get(segment)
        rows.append(dict(zip(("file", "start", "end"), segment, strict=True)) | row)
    spelled = tree.spell((row["file"] for row in rows), "the database")
    for row in rows:
        row["file"] = spelled.get(row["file"], row["file"])
    remedy = "fetch the media too, or its utterances fail at extraction"
    tree.report_missing((row["file"] for row in rows), "the database", remedy)
    return tree.manifest(rows)


def _copy_safe_files(tree: Tree, folder: Path) -> None:
    """Copy the files that are safe to load: audformat runs code from YAML tags and pickles.

    The header is rewritten from plain values; tables are CSV or Parquet. Raises ManifestError if
    the header holds other values, or if a table exists only as pickle or its name is a path.
    """
    try:
        header = yaml.safe_load(tree.text("db.yaml"))
        text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ManifestError(f"{tree.root}/db.yaml: not plain YAML: {problem}") from None
    if not isinstance(header, dict):
        raise ManifestError(f"{tree.root}/db.yaml: the header must be a mapping")
    (folder / "db.yaml").write_text(text, encoding="utf-8")
    names = [*(header.get("misc_tables") or ()), *(header.get("tables") or ())]
    for name in map(str, names):
        if "/" in name or "\0" in name:
            raise ManifestError(f"{tree.root}/db.yaml: {name!r} cannot be the name of a table")
        allowed = [f"db.{name}.{suffix}" for suffix in ("parquet", "csv")]
        present = [file for file in allowed if tree.storage.exists(file)]
        if not present:
            raise ManifestError(
                f"{tree.root}: no {' and no '.join(allowed)}. A .pkl table is not read, because "
                "pickle can run code: if you trust it, save it as CSV with audformat"
                f"{tree.dead_links()}"
            )
        (folder / present[0]).write_bytes(tree.storage.read(present[0]))


def _frame(tree: Tree, database: Any) -> Any:
    """The labelled segments and their other columns, as a data frame."""
    available = []
    for name in _OPTIONAL:
        try:
            if name in database.get("emotion", [name]).columns:
                available.append(name)
        except ValueError as error:
            problem = f"a segment has two values of {name}, so {name} is skipped: {error}"
            tree.add_problem("db.yaml", problem, "correct the tables if you need it", "database")
    try:
        frame = database.get("emotion", available)
    except ValueError as error:
        raise ManifestError(
            f"{tree.root}: a segment has two emotions ({error}). Keep the table that you need, or "
            "write your own manifest from it"
        ) from None
    if not len(frame) or "speaker" not in available or frame["speaker"].isna().all():
        missing = "emotion" if not len(frame) else "speaker"
        raise ManifestError(
            f"{tree.root}: no scheme, column or label has the name {missing}: rename the one that "
            f"holds the {missing}"
        )
    return frame.astype(object).where(frame.notna(), None)


def _splits(database: Any) -> dict[tuple[str, float | None, float | None], str]:
    """The split of each segment: file, start, end."""
    return {
        _segment(index): _TYPES.get(split.type, split.type)
        for name, split in database.splits.items()
        for index in database.get("emotion", splits=[name]).index
    }


def _segment(index: Any) -> tuple[str, float | None, float | None]:
    """File, start and end (seconds) of an entry of an index; None for the limits of the file."""
    file, *times = index if isinstance(index, tuple) else (index, None, None)
    # NaT, pandas' missing time, is not equal to itself.
    start, end = (None if t is None or t != t else t.total_seconds() for t in times)
    return file, start or None, end
