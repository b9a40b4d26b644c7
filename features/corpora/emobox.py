"""EmoBox's manifests: 32 corpora in 14 languages, with the folds of its benchmark.

Ma, Chen, Zhang, Zheng, Chen, Li, Ye, Chen and Hain, "EmoBox: Multilingual Multi-corpus Speech
Emotion Recognition Toolkit and Benchmark", Interspeech 2024. The manifests are under the MIT
licence; each corpus has its own. The root is the folder of one corpus in `data/`. Layout:

    data/emodb/emodb.jsonl                       all utterances; some corpora have no such file
    data/emodb/fold_1/emodb_train_fold_1.jsonl   also _test_, and in official splits _valid_
    downloads/emodb/wav/03a01Wa.wav              the recordings, which you download yourself

A line is a JSON object: key, dataset, wav (relative to the folder of `data` and `downloads`),
sample_rate, length, task, emo, channel; for a segment also start_time and end_time.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from features.corpora.tree import Tree, base
from features.errors import ManifestError, shorten
from features.manifest import Manifest
from features.recordings import leaves_folder
from features.text_table import read_text_table

SPEAKERS = {
    "aesdd": r"\((\d+)\)$",
    "cafe": r"(?:^|/)(\d\d)-[^/]+$",
    "casia": r"([^/]+)/[^/]+/[^/]+$",
    "cremad": r"(?:^|/)(1\d{3})_[^/]+$",
    "emodb": r"(?:^|/)(\d\d)[ab]\d\d[^/]+$",
    "emovdb": r"([^/_]+)_[^/]+/[^/]+$",
    "emovo": r"(?:^|/)[a-z]+-([fm]\d)-[^/]+$",
    "enterface": r"(?:^|/)(s\d+)_[^/]+$",
    "esd": r"(?:^|/)(\d{4})_\d+$",
    "iemocap": r"(?:^|/)(Ses\d\d)[FM]_\w+_([FM])[^/_]+$",
    "jlcorpus": r"(?:^|/)((?:fe)?male\d)_[^/]+$",
    "mead": r"(?:^|/)([MW]\d{3})/audio/",
    "oreau": r"(?:^|/)(\d\d)a\d\d[^/]+$",
    "polish": r"(?:^|/)([fkm]\d)\.[^/]+$",
    "ravdess": r"(?:^|/)(?:\d\d-){6}(\d\d)$",
    "savee": r"(?:^|/)(DC|JE|JK|KL)[_/][^/]+$",
    "shemo": r"(?:^|/)([FM]\d\d)[A-Z]\d+$",
    "subesco": r"(?:^|/)([FM]_\d\d)_[^/]+$",
    "tess": r"(?:^|/)(OAF|YAF)_[^/]+$",
    "turevdb": r"(?:^|/)\d+_([a-z]+)_[^/]+$",
    "urdu": r"(?:^|/)(S[FM]\d+)_[^/]+$",
}
"""The speaker in a recording's path without its suffix: all groups of the pattern, joined."""

_FOLD = re.compile(r"(?P<name>.+)_(?P<part>train|valid|test)_fold_(?P<fold>\d+)\.jsonl")
_PARTS = {"train": "train", "valid": "validation", "test": "test"}


_Rows = dict[str, dict[str, Any]]
"""By key; `place` is the file and the number of the line."""


def read_emobox(root: str) -> Manifest:
    """Read the manifest of the EmoBox corpus whose folder in `data/` is `root`.

    The root of the recordings is the nearest folder above that holds the first component of
    their paths (`downloads`). The speaker is the `speaker` of the line. If there is no such key,
    the table `speakers.csv` (key, speaker) beside the manifests gives the speaker, or else the
    name of the recording, for the corpora of `SPEAKERS`. An unknown speaker is a ManifestError:
    normalisation and most schemes need speakers.

    Columns: id (the key), speaker, emotion (as in EmoBox, before its label_map.json), start, end.
    Several official folds give the column fold (the fold that tests the utterance), and one gives
    split (`train`, `validation`, `test`). Folds that are not a partition, or that put an
    utterance into two parts, are a problem and stay empty.
    """
    data = Tree(root)
    name, folds = _manifests(data)
    rows: _Rows = {}
    parts: dict[str, dict[str, set[str]]] = {}
    whole = data.find(f"{name}.jsonl")
    if whole:
        _read(data, whole, rows)
    for fold in sorted(folds, key=int):
        for part in (p for p in _PARTS if p in folds[fold]):
            keys = _read(data, folds[fold][part], rows)
            parts.setdefault(fold, {})[_PARTS[part]] = keys
    if not rows:
        raise ManifestError(f"{root}: its manifests are empty: download them from EmoBox again")
    _add_speakers(data, name, rows)
    column, values = _official(data, parts, rows)
    for key, row in rows.items():
        row[column] = values.get(key)
    _check_inside(data, rows)
    first = next(iter(rows.values()))["file"]
    audio = _above(data, re.split(r"[/\\]", first)[0])
    spelled = audio.spell((row["file"] for row in rows.values()), "EmoBox")
    for row in rows.values():
        row["file"] = spelled.get(row["file"], row["file"])
    files = [row["file"] for row in rows.values()]
    audio.compare(
        files,
        "EmoBox",
        f"put the corpus under downloads/ in {audio.root} as EmoBox's README says, or its "
        "utterances fail at extraction",
        "nothing to do: EmoBox uses a part of the corpus",
    )
    manifest = audio.manifest(list(rows.values()))
    return replace(manifest, problems=data.problems + manifest.problems)


def _check_inside(data: Tree, rows: _Rows) -> None:
    """Raise ManifestError if a recording is not below EmoBox's folder."""
    outside = [f"{r['place']}: {r['file']!r}" for r in rows.values() if leaves_folder(r["file"])]
    if outside:
        raise ManifestError(
            f"{data.root}: wav must be relative to EmoBox's folder, such as "
            f"downloads/emodb/wav/03a01Wa.wav. {len(outside)} lines name another place, the first "
            f"is {outside[0]}"
        )


def _manifests(data: Tree) -> tuple[str, dict[str, dict[str, str]]]:
    """The corpus's name, and the files of the official folds by fold and part."""
    names: set[str] = set()
    folds: dict[str, dict[str, str]] = {}
    files = [n for n in data.walk(depth=2) if n.lower().endswith(".jsonl")]
    for file in files:
        if match := _FOLD.fullmatch(base(file)):
            names.add(match["name"])
            folds.setdefault(match["fold"], {})[match["part"]] = file
    names = names or {base(n).removesuffix(".jsonl") for n in files if "/" not in n}
    if not names:
        raise ManifestError(
            f"{data.root} is not EmoBox's: it has no <name>.jsonl and no "
            "fold_1/<name>_train_fold_1.jsonl. Give the folder of one corpus, such as "
            f"EmoBox/data/emodb{data.dead_links()}"
        )
    if len(names) > 1:
        raise ManifestError(
            f"{data.root} holds {len(names)} corpora ({shorten(sorted(names))}): give the folder "
            "of one of them"
        )
    name = names.pop()
    read = {f"{name}.jsonl", *(file for fold in folds.values() for file in fold.values())}
    others = (n for n in files if n not in read)
    problem = "not the name of an EmoBox manifest, skipped"
    data.add_problem(others, problem, "rename it if it is a manifest")
    return name, folds


def _read(data: Tree, file: str, rows: _Rows) -> set[str]:
    """Add the lines of one manifest to `rows`; return their keys.

    Raises ManifestError for an invalid line, and for a key of two different utterances.
    """
    keys: set[str] = set()
    for number, line in data.lines(file):
        place = f"{file}:{number}"
        try:
            record = json.loads(line)
            key, wav, emotion = (str(record[name]) for name in ("key", "wav", "emo"))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ManifestError(
                f"{data.root}/{place}: the line must be an object with key, wav and emo: {error!r}"
            ) from None
        row = {
            "id": key,
            "file": wav,
            "emotion": emotion,
            "speaker": record.get("speaker"),
            "start": record.get("start_time"),
            "end": record.get("end_time"),
            "place": place,
        }
        first = rows.setdefault(key, row)
        if (first["file"], first["emotion"]) != (wav, emotion):
            raise ManifestError(
                f"{data.root}: {first['place']} and {place} are different utterances with the key "
                f"{key}: rename one of them"
            )
        if key in keys:
            remedy = "nothing to do: the utterance counts once"
            data.add_problem(place, "a repeated line", remedy, "line")
        keys.add(key)
    return keys


def _add_speakers(data: Tree, name: str, rows: _Rows) -> None:
    """Add the unknown speakers. Raises ManifestError if a speaker stays unknown."""
    table = data.find("speakers.csv")
    listed = _listed_speakers(data, table) if table else {}
    pattern = re.compile(SPEAKERS[name]) if name in SPEAKERS else None
    for key, row in rows.items():
        speaker = row["speaker"] or listed.get(key)
        if not speaker and pattern and (match := pattern.search(_stem(row["file"]))):
            speaker = "".join(match.groups())
        row["speaker"] = str(speaker or "")
    unknown = [key for key, row in rows.items() if not row["speaker"]]
    if unknown:
        raise ManifestError(
            f"{data.root}: the speaker of {len(unknown)} of {len(rows)} utterances is unknown "
            f"({shorten(unknown)}), because neither EmoBox nor the file names of {name} give it. "
            f"Put a table speakers.csv with the columns key and speaker into {data.root}"
        )


def _listed_speakers(data: Tree, table: str) -> dict[str, str]:
    """The speakers of `speakers.csv` by key."""
    try:
        columns = read_text_table(data.storage.read(table), ("key", "speaker")).columns
    except ManifestError as error:
        raise ManifestError(f"{data.root}/{table}: {error}") from error
    keys, speakers = columns.get("key", []), columns.get("speaker", [])
    return {key.strip(): name.strip() for key, name in zip(keys, speakers, strict=False)}


def _stem(file: str) -> str:
    """The path without its suffix, with `/` only."""
    return file.replace("\\", "/").rpartition(".")[0]


def _official(
    data: Tree, parts: dict[str, dict[str, set[str]]], keys: Iterable[str]
) -> tuple[str, dict[str, str]]:
    """The column `fold`, or `split` if there is one fold, and its value for each key."""
    every = set(keys)
    wrong: list[str] = []
    for fold, sets in parts.items():
        train, valid, test = (sets.get(part, set()) for part in _PARTS.values())
        both = len(train & test) + len(train & valid) + len(valid & test)
        if both:
            wrong.append(f"fold {fold} has {both} utterances in two parts")
        elif len(parts) > 1 and (valid or train | test != every):
            wrong.append(f"fold {fold} does not train on all utterances outside its test part")
    tested = [key for sets in parts.values() for key in sets.get("test", ())]
    if len(parts) > 1 and (len(set(tested)) < len(tested) or set(tested) != every):
        times = f"{len(tested)} times in total"
        wrong.append(f"{len(set(tested))} of {len(every)} utterances are tested, {times}")
    if wrong:
        problem = f"the official folds are not a partition ({'; '.join(wrong)}), skipped"
        data.add_problem(".", problem, "choose another folds.scheme than corpus", "folder")
        return "fold", {}
    if len(parts) == 1:
        (sets,) = parts.values()
        return "split", {key: part for part, members in sets.items() for key in members}
    return "fold", {key: fold for fold, sets in parts.items() for key in sets.get("test", ())}


def _above(data: Tree, first: str) -> Tree:
    """The nearest folder above the manifests that holds `first`, or else EmoBox's folder."""
    trees = [data]
    while len(trees) < 5:
        head, mark, query = trees[-1].root.partition("?" if "://" in data.root else "\0")
        above = head.rstrip("/").rpartition("/")[0]
        if above.rpartition("/")[0].endswith((":", ":/")) or not above:
            break
        trees.append(Tree(above + mark + query))
    return next((tree for tree in trees if tree.find(first)), trees[min(2, len(trees) - 1)])
