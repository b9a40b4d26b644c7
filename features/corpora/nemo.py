"""nEMO: Polish, acted, in six emotions (4,481 utterances of nine speakers when whole).

Christop, "nEMO: Dataset of Emotional Speech in Polish", LREC-COLING 2024. CC BY-NC-SA 4.0.
Layout: `data.tsv` (file_id, emotion, sentence_id, speaker_id, gender, age, and in some releases
the text) beside `samples/`, WAV or FLAC.
"""

import csv
from pathlib import PurePosixPath

from features.corpora.tree import Tree, base, by_id, is_audio, shown
from features.manifest import Manifest, ManifestError

_COLUMNS = ("file_id", "emotion", "sentence_id", "speaker_id", "gender")
_TEXT = ("normalized_text", "raw_text")


def read_nemo(root: str) -> Manifest:
    """The manifest of nEMO at `root`, a row for each row of its table.

    Columns: speaker (`EB0`), gender, phrase (the sentence's number), emotion, text (where the
    table has it). No sessions and no dialogues: the sentences were read one by one.
    """
    tree = Tree(root)
    table = next((n for n in tree.walk(depth=3) if base(n).lower() == "data.tsv"), None)
    if table is None:
        raise ManifestError(
            f"{root} is not nEMO: no data.tsv in it or three folders below; give the folder that "
            "holds data.tsv and samples/"
        )
    folder = tree.find(*table.split("/")[:-1], "samples")
    expected = f"{table.rpartition('/')[0]}/samples".lstrip("/")
    if folder is None:
        tree.problems.add(
            expected, "missing", "unpack samples/ beside data.tsv, or nothing can be extracted"
        )
    disk = by_id(tree, (n for n in tree.walk(folder) if is_audio(n)), "nEMO") if folder else {}
    rows = []
    for record in _records(tree, table):
        stem = PurePosixPath(record["file_id"]).stem
        text = next((record[name] for name in _TEXT if record.get(name)), None)
        rows.append(
            {
                "id": stem,
                "file": disk.pop(stem, f"{folder or expected}/{record['file_id']}"),
                "speaker": record["speaker_id"],
                "emotion": record["emotion"] or None,
                "gender": record["gender"] or None,
                "phrase": record["sentence_id"] or None,
                "text": text,
            }
        )
    tree.problems.add(
        tree.missing(str(row["file"]) for row in rows) if folder else (),
        f"named in {table}, and not on the disk",
        "unpack the rest of samples/, or its utterance fails at extraction",
    )
    tree.problems.add(
        disk.values(),
        f"a recording that {table} does not name, left out",
        "add its row to the table, or leave it",
    )
    return tree.manifest(rows)


def _records(tree: Tree, table: str) -> list[dict[str, str]]:
    """The table's rows. Raises ManifestError where a column is missing or two share a file."""
    reader = csv.DictReader(tree.text(table).split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
    absent = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
    if absent:
        raise ManifestError(
            f"{tree.root}/{table} is not nEMO's: it has no column {', '.join(absent)}; its columns "
            f"are {', '.join(reader.fieldnames or [])}"
        )
    records: list[dict[str, str]] = []
    lines: dict[str, int] = {}
    twice: list[str] = []
    for record in reader:
        if any(record[name] is None for name in _COLUMNS) or not record["file_id"]:
            tree.problems.add(
                f"{table}:{reader.line_num}",
                "a row that is cut short, left out",
                "take the table from the archive again",
                "row",
            )
            continue
        stem = PurePosixPath(record["file_id"]).stem
        if lines.setdefault(stem, reader.line_num) != reader.line_num:
            twice.append(f"{stem} in lines {lines[stem]} and {reader.line_num}")
        records.append(record)
    if twice:
        raise ManifestError(
            f"{tree.root}/{table}: {len(twice)} utterances have two rows ({shown(twice)}); "
            "delete one of each"
        )
    return records
