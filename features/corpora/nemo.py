"""nEMO: Polish, acted, in six emotions (the whole corpus has 4,481 utterances of nine speakers).

Christop, "nEMO: Dataset of Emotional Speech in Polish", LREC-COLING 2024. CC BY-NC-SA 4.0.
Layout: `data.tsv` (file_id, emotion, sentence_id, speaker_id, gender, age, and in some releases
the text) beside `samples/`, WAV or FLAC.
"""

import csv
from pathlib import PurePosixPath

from features.corpora.tree import Tree, base, by_id, is_audio
from features.errors import ManifestError, shorten
from features.manifest import Manifest

_COLUMNS = ("file_id", "emotion", "sentence_id", "speaker_id", "gender")
_TEXT = ("normalized_text", "raw_text")


def read_nemo(root: str) -> Manifest:
    """Read the manifest of nEMO at `root`, one row for each row of its table.

    Columns: speaker (`EB0`), gender, phrase (the sentence's number), emotion, text (if the table
    has it). No sessions or dialogues: each sentence was read alone.
    """
    tree = Tree(root)
    table = next((n for n in tree.walk(depth=3) if base(n).lower() == "data.tsv"), None)
    if table is None:
        raise ManifestError(
            f"{root} is not nEMO: no data.tsv in it or three folders below. Give the folder that "
            f"holds data.tsv and samples/{tree.dead_links()}"
        )
    folder = tree.find(*table.split("/")[:-1], "samples")
    expected = f"{table.rpartition('/')[0]}/samples".lstrip("/")
    recordings: dict[str, str] = {}
    if folder is None:
        remedy = "unpack samples/ beside data.tsv, or the extraction fails"
        tree.add_problem(expected, "missing", remedy)
    else:
        recordings = by_id(tree, filter(is_audio, tree.walk(folder)), "nEMO")
    rows = []
    for record in _records(tree, table):
        stem = PurePosixPath(record["file_id"]).stem
        rows.append(
            {
                "id": stem,
                "file": recordings.pop(stem, f"{folder or expected}/{record['file_id']}"),
                "speaker": record["speaker_id"],
                "emotion": record["emotion"] or None,
                "gender": record["gender"] or None,
                "phrase": record["sentence_id"] or None,
                "text": next((record[name] for name in _TEXT if record.get(name)), None),
            }
        )
    if folder:
        remedy = "unpack the rest of samples/, or its utterance fails at extraction"
        tree.report_missing((str(row["file"]) for row in rows), table, remedy)
    problem = f"a recording that {table} does not name, skipped"
    tree.add_problem(recordings.values(), problem, "add a row for it, or ignore this")
    return tree.manifest(rows)


def _records(tree: Tree, table: str) -> list[dict[str, str]]:
    """The rows of the table. Raises ManifestError if a column is missing or an id is repeated."""
    reader = csv.DictReader(tree.text(table).split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
    absent = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
    if absent:
        raise ManifestError(
            f"{tree.root}/{table} is not nEMO's table: it has no column {', '.join(absent)} "
            f"(its columns: {', '.join(reader.fieldnames or [])})"
        )
    records: list[dict[str, str]] = []
    lines: dict[str, int] = {}
    repeated: list[str] = []
    for record in reader:
        if any(record[name] is None for name in _COLUMNS) or not record["file_id"]:
            place = f"{table}:{reader.line_num}"
            tree.add_problem(place, "an incomplete row, skipped", "unpack the table again", "row")
            continue
        stem = PurePosixPath(record["file_id"]).stem
        if lines.setdefault(stem, reader.line_num) != reader.line_num:
            repeated.append(f"{stem} in lines {lines[stem]} and {reader.line_num}")
        records.append(record)
    if repeated:
        raise ManifestError(
            f"{tree.root}/{table}: {len(repeated)} utterances have two rows "
            f"({shorten(repeated)}): delete one row of each"
        )
    return records
