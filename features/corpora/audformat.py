"""Any database in audformat (audEERING), as `audb` fetches it or one makes it oneself.

Needs the package `audformat`: `pip install ser-orchestrator[audformat]`. Layout: `db.yaml`, a
table file for each of its tables, and the media. The database's header names its licence and
how to cite it.
"""

from importlib import import_module
from typing import Any

from features.corpora.tree import Tree
from features.manifest import Manifest, ManifestError

_MORE = ("speaker", "gender", "sex", "session", "dialogue", "turn", "phrase", "text")
_TYPES = {"train": "train", "dev": "validation", "test": "test"}


def read_audformat(root: str) -> Manifest:
    """The manifest of the audformat database in the folder `root`, a row a labelled segment.

    What is read is the scheme `emotion`, or else the columns and labels of this name; and in the
    same way `speaker`, which must be there, gender (or sex), session, dialogue, turn, phrase,
    text. Tables of a split give the column split. A file without segments has neither start nor
    end. Raises ImportError where audformat is not installed.
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
    database = audformat.Database.load(tree.root, load_data=True)
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
