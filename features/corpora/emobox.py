"""EmoBox's manifests: 32 corpora in 14 languages, with the folds that its benchmark uses.

Ma, Chen, Zhang, Zheng, Chen, Li, Ye, Chen and Hain, "EmoBox: Multilingual Multi-corpus Speech
Emotion Recognition Toolkit and Benchmark", Interspeech 2024. The manifests are under the MIT
licence; each corpus has its own. Layout, of which one corpus's folder in `data/` is the root:

    data/emodb/emodb.jsonl                       all utterances; some corpora have no such file
    data/emodb/fold_1/emodb_train_fold_1.jsonl   and _test_, and where it is official _valid_
    downloads/emodb/wav/03a01Wa.wav              the recordings, which one fetches oneself

A line is a JSON object: key, dataset, wav (relative to the folder of `data` and `downloads`),
sample_rate, length, task, emo, channel; in a long recording start_time and end_time.
"""

import csv
import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from features.corpora.tree import Tree, base, is_audio, shown
from features.manifest import Manifest, ManifestError

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
"""Where a recording's path, without its suffix, tells the speaker: the groups, joined."""

_FOLD = re.compile(r"(?P<name>.+)_(?P<part>train|valid|test)_fold_(?P<fold>\d+)\.jsonl")
_PARTS = {"train": "train", "valid": "validation", "test": "test"}
_NOT_READ = ("not one of EmoBox's manifests by its name, not read", "rename it if it is one")


class _Found(NamedTuple):
    record: dict[str, Any]
    place: str


def read_emobox(root: str) -> Manifest:
    """The manifest of the EmoBox corpus whose folder in `data/` is `root`.

    The recordings are looked for from the nearest folder above that holds the first component
    of their paths (`downloads`). The speaker is the line's own `speaker`, where there is one;
    else from a table `speakers.csv` (key, speaker) beside the manifests; else from the
    recording's name, for the corpora of `SPEAKERS`. Raises ManifestError where none of them
    tells it: normalisation and most schemes need speakers.

    Columns: id (the key), speaker, emotion (as EmoBox has it, before its label_map.json), start,
    end, and of the official folds, with several folds `fold` (the one that tests the utterance),
    with one `split` (`train`, `validation`, `test`). Folds that are not a partition, or have an
    utterance in two parts, are noted and left empty.
    """
    data = Tree(root)
    name, folds = _manifests(data)
    found: dict[str, _Found] = {}
    parts: dict[str, dict[str, set[str]]] = {}
    whole = data.find(f"{name}.jsonl")
    if whole:
        _read(data, whole, found)
    for fold in sorted(folds, key=int):
        for part in (p for p in _PARTS if p in folds[fold]):
            keys = _read(data, folds[fold][part], found)
            parts.setdefault(fold, {})[_PARTS[part]] = keys
    if not found:
        raise ManifestError(f"{root}: its manifests have no lines; take them from EmoBox again")
    speakers = _speakers(data, name, found)
    fold_of, split_of = _official(data, parts, found)
    rows = [
        {
            "id": key,
            "file": record["wav"],
            "start": record.get("start_time"),
            "end": record.get("end_time"),
            "speaker": speakers[key],
            "emotion": record["emo"],
            "split": split_of.get(key),
            "fold": fold_of.get(key),
        }
        for key, (record, _) in found.items()
    ]
    audio = _above(data, rows[0]["file"].partition("/")[0])
    files = [row["file"] for row in rows]
    data.problems.add(
        audio.missing(files),
        f"named by EmoBox, and not below {audio.root}",
        "put the corpus under downloads/ as EmoBox's README says, or it fails at extraction",
    )
    named = set(files)
    for folder in dict.fromkeys(file.rpartition("/")[0] for file in files):
        extra = [n for n in audio.entries(folder)[0] if is_audio(n) and n not in named]
        data.problems.add(
            extra, "a recording that EmoBox does not name, left out", "nothing to do: it chose"
        )
    problems = data.problems.as_tuple() + audio.problems.as_tuple()
    return Manifest(audio.manifest(rows).table, audio.root, problems)


def _manifests(data: Tree) -> tuple[str, dict[str, dict[str, str]]]:
    """The corpus's name; and by fold and part, the official folds' files."""
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
            f"{data.root} is not EmoBox's: no <name>.jsonl and no fold_1/<name>_train_fold_1.jsonl "
            "in it; give one corpus's folder, such as EmoBox/data/emodb"
        )
    if len(names) > 1:
        raise ManifestError(
            f"{data.root} holds {len(names)} corpora ({shown(sorted(names))}); give one's folder"
        )
    name = names.pop()
    read = {f"{name}.jsonl", *(file for fold in folds.values() for file in fold.values())}
    data.problems.add((n for n in files if n not in read), *_NOT_READ)
    return name, folds


def _read(data: Tree, file: str, found: dict[str, _Found]) -> set[str]:
    """Add the lines of one manifest to `found`; their keys. Raises ManifestError for a line that
    is none, and for a key of two different utterances."""
    keys: set[str] = set()
    for number, line in data.lines(file):
        place = f"{file}:{number}"
        try:
            record = json.loads(line)
            key, emotion = str(record["key"]), str(record["emo"])
            wav = str(record["wav"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ManifestError(
                f"{data.root}/{place}: a line is an object with key, wav and emo: {error!r}"
            ) from None
        first = found.setdefault(key, _Found({**record, "emo": emotion, "wav": wav}, place))
        if (first.record["wav"], first.record["emo"]) != (wav, emotion):
            raise ManifestError(
                f"{data.root}: {key} is two utterances, in {first.place} and {place}; rename one"
            )
        if key in keys:
            data.problems.add(
                place, "a line that is there twice", "nothing to do: it counts once", "line"
            )
        keys.add(key)
    return keys


def _speakers(data: Tree, name: str, found: dict[str, _Found]) -> dict[str, str]:
    """The speaker of each key. Raises ManifestError where one is not known."""
    table = data.find("speakers.csv")
    lines = csv.DictReader(data.text(table).split("\n")) if table else ()
    told = {line.get("key"): line.get("speaker") for line in lines}
    pattern = re.compile(SPEAKERS[name]) if name in SPEAKERS else None
    speakers: dict[str, str] = {}
    unknown: list[str] = []
    for key, (record, _) in found.items():
        speaker = record.get("speaker") or told.get(key)
        if not speaker and pattern and (match := pattern.search(record["wav"].rpartition(".")[0])):
            speaker = "".join(match.groups())
        if speaker:
            speakers[key] = str(speaker)
        else:
            unknown.append(key)
    if unknown:
        raise ManifestError(
            f"{data.root}: the speaker of {len(unknown)} of {len(found)} utterances is not known "
            f"({shown(unknown)}): EmoBox does not tell it, and the names of {name} do not, or not "
            f"in a way known here. Put a table speakers.csv with the columns key and speaker into "
            f"{data.root}"
        )
    return speakers


def _official(
    data: Tree, parts: dict[str, dict[str, set[str]]], keys: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The fold that tests each key, or the part of each key where there is one fold."""
    every = set(keys)
    wrong: list[str] = []
    for fold, sets in parts.items():
        train, valid, test = (sets.get(part, set()) for part in _PARTS.values())
        both = len(train & test) + len(train & valid) + len(valid & test)
        if both:
            wrong.append(f"fold {fold} has {both} utterances in two parts")
        elif len(parts) > 1 and (valid or train | test != every):
            wrong.append(f"fold {fold} does not train on all that it does not test")
    tested = [key for sets in parts.values() for key in sets.get("test", ())]
    if len(parts) > 1 and (len(set(tested)) < len(tested) or set(tested) != every):
        wrong.append(f"{len(set(tested))} of {len(every)} are tested, {len(tested)} times in all")
    if wrong:
        what = f"the official folds are not a partition ({'; '.join(wrong)}), and not used"
        data.problems.add(".", what, "choose another scheme than the corpus's own", "folder")
    elif len(parts) == 1:
        (sets,) = parts.values()
        return {}, {key: part for part, members in sets.items() for key in members}
    else:
        return {key: fold for fold, sets in parts.items() for key in sets.get("test", ())}, {}
    return {}, {}


def _above(data: Tree, first: str) -> Tree:
    """The nearest folder above the manifests' that holds `first`; where none does, EmoBox's."""
    trees = [data]
    while len(trees) < 5:
        head, mark, query = trees[-1].root.partition("?" if "://" in data.root else "\0")
        above = head.rstrip("/").rpartition("/")[0]
        if above.rpartition("/")[0].endswith((":", ":/")) or not above:
            break
        trees.append(Tree(above + mark + query))
    return next((tree for tree in trees if tree.find(first)), trees[min(2, len(trees) - 1)])
