"""Any database in audformat (audEERING), as `audb` fetches it or one makes it oneself.

Needs the package `audformat`: `pip install ser-orchestrator[audformat]`. Layout: `db.yaml`, a
table file for each of its tables, and the media. The database's header names its licence and
how to cite it.
"""

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from features.corpora.tree import Tree
from features.manifest import Manifest, ManifestError

_MORE = ("speaker", "gender", "sex", "session", "dialogue", "turn", "phrase", "text")
_TYPES = {"train": "train", "dev": "validation", "test": "test"}


def read_audformat(root: str) -> Manifest:
    """The manifest of the audformat database in the folder `root`, a row a labelled segment.

    What is read is the scheme `emotion`, or else the columns and labels of this name; and in the
    same way `speaker`, which must be there, gender (or sex), session, dialogue, turn, phrase,
    text. Tables of a split give the column split. A file without segments has neither start nor
    end. Pickled tables are never read, as they can run code. Raises ImportError where audformat is
    not installed.
    """
    try:
        audformat = import_module("audformat")
    except ImportError:
        raise ImportError(
            "corpus.name: audformat needs its package: pip install ser-orchestrator[audformat]"
        ) from None
    if "://" in root:
        raise ManifestError(f"{root}: an audformat database is read from a local folder")
    tree = Tree(root)
    if tree.find("db.yaml") is None:
        raise ManifestError(f"{root} is not an audformat database: no db.yaml in it")
    with TemporaryDirectory() as folder:
        _copy_harmless(tree, Path(folder))
        database = audformat.Database.load(folder, load_data=True)
    frame = _frame(tree, database)
    part_of = _splits(database)
    rows = []
    for place, values in zip(frame.index, frame.to_dict("records"), strict=True):
        file, start, end = place if isinstance(place, tuple) else (place, None, None)
        told = {name: values.get(name) for name in ("emotion", *_MORE)}
        sex = told.pop("sex")
        rows.append(
            {
                "file": file,
                "start": _seconds(start) or None,
                "end": _seconds(end),
                **told,
                "gender": told["gender"] or sex,
                "split": part_of.get((file, _seconds(start) or 0.0, _seconds(end))),
            }
        )
    tree.problems.add(
        tree.missing(row["file"] for row in rows),
        "named by the database, and not on the disk",
        "fetch the media too, or it fails at extraction",
    )
    return tree.manifest(rows)


def _copy_harmless(tree: Tree, folder: Path) -> None:
    """Copy what the package may read: it would run code from a header's tags and from pickles.

    The header is written anew from plain values; tables are CSV or Parquet. Raises ManifestError
    where the header holds other values, a table is there as pickle only, or its name is a path.
    """
    try:
        header = yaml.safe_load(tree.text("db.yaml"))
        text = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ManifestError(f"{tree.root}/db.yaml: not readable as plain YAML: {problem}") from None
    if not isinstance(header, dict):
        raise ManifestError(f"{tree.root}/db.yaml: a header is a mapping")
    (folder / "db.yaml").write_text(text, encoding="utf-8")
    names = [*(header.get("misc_tables") or ()), *(header.get("tables") or ())]
    for name in map(str, names):
        if "/" in name or "\0" in name:
            raise ManifestError(f"{tree.root}/db.yaml: {name!r} is not a table's name")
        there = [f"db.{name}.{form}" for form in ("parquet", "csv")]
        found = [file for file in there if tree.storage.exists(file)]
        if not found:
            raise ManifestError(
                f"{tree.root}: no {' and no '.join(there)}; a table that is there as .pkl is not "
                "read, as pickle can run code: save it as CSV with audformat where you trust it"
            )
        (folder / found[0]).write_bytes(tree.storage.read(found[0]))


def _frame(tree: Tree, database: Any) -> Any:
    """The labelled segments with what else is known of them, as a data frame."""
    more = []
    for name in _MORE:
        try:
            if name in database.get("emotion", [name]).columns:
                more.append(name)
        except ValueError as error:
            what = f"{name} is left out, as it has two values somewhere: {error}"
            tree.problems.add("db.yaml", what, "make the tables agree if it is needed", "database")
    try:
        frame = database.get("emotion", more)
    except ValueError as error:
        raise ManifestError(
            f"{tree.root}: a segment has two emotions ({error}); keep the table that is meant, or "
            "write a manifest of your own from it"
        ) from None
    if not len(frame) or "speaker" not in more or frame["speaker"].isna().all():
        missing = "emotion" if not len(frame) else "speaker"
        raise ManifestError(
            f"{tree.root}: no scheme, column or label named {missing} in its tables; name one so"
        )
    return frame.astype(object).where(frame.notna(), None)


def _splits(database: Any) -> dict[tuple[str, float, float | None], str]:
    """The split of each segment: file, start, end."""
    parts = {}
    for name, split in database.splits.items():
        for place in database.get("emotion", splits=[name]).index:
            file, start, end = place if isinstance(place, tuple) else (place, None, None)
            kind = _TYPES.get(split.type, split.type)
            parts[file, _seconds(start) or 0.0, _seconds(end)] = kind
    return parts


def _seconds(time: Any) -> float | None:
    """Of a pandas Timedelta; NaT, the end of the file, is None."""
    return None if time is None or time != time else float(time.total_seconds())
