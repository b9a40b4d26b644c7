"""Att-HACK: French, acted social attitudes, 20 speakers, 100 phrases, 3 to 5 versions of each.

Le Moine and Obin, "Att-HACK: an expressive speech database with social attitudes", Speech
Prosody 2020 (OpenSLR 88). CC BY-NC-ND 4.0, for academic research. Layout: two archives that
unpack under a long path, one ending in `wav/F01_a1_s001_v01.wav`, one in
`txt/F01_a1_s001_v01.txt`: speaker, attitude, phrase, version.
"""

import re
from pathlib import PurePosixPath
from typing import Any

from features.corpora.tree import Tree, by_name
from features.manifest import Manifest

ATTITUDES = {"a1": "friendly", "a2": "distant", "a3": "dominant", "a4": "seductive"}

_NAME = re.compile(
    r"(?P<speaker>(?P<gender>[FM])\d\d)_(?P<attitude>a[1-4])_(?P<phrase>s\d{3})_v\d\d"
)
_SPEAKERS = 20
_PHRASES = 100


def read_att_hack(root: str) -> Manifest:
    """The manifest of Att-HACK at `root`, from its files' names, wherever it was unpacked.

    Columns: speaker (`F01`), gender, phrase (`s001`), emotion (an attitude, a word of
    `ATTITUDES`), text (the phrase's words, from the first of its files in `txt/`, where there
    are any: every version says the same). No sessions and no dialogues.
    """
    tree, rows = by_name(root, "Att-HACK", _parse, "F01_a1_s001_v01.wav")
    texts = _texts(tree)
    without = {row["phrase"] for row in rows if row["phrase"] not in texts}
    for row in rows:
        row["text"] = texts.get(row["phrase"])
    if without:
        tree.problems.add(
            sorted(without),
            "no text in txt/",
            "unpack the second archive below the root if something needs the words",
            "phrase",
        )
    for column, whole in (("speaker", _SPEAKERS), ("phrase", _PHRASES)):
        found = {row[column] for row in rows}
        if len(found) < whole:
            tree.problems.add(
                ".", f"{len(found)} of {whole} {column}s", "unpack the rest", "folder"
            )
    return tree.manifest(rows)


def _parse(stem: str) -> dict[str, Any] | None:
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    return {
        "speaker": match["speaker"],
        "gender": "female" if match["gender"] == "F" else "male",
        "phrase": match["phrase"],
        "emotion": ATTITUDES[match["attitude"]],
    }


def _texts(tree: Tree) -> dict[str, str]:
    """The words of each phrase."""
    first: dict[str, str] = {}
    for name in tree.walk():
        path = PurePosixPath(name)
        match = _NAME.fullmatch(path.stem)
        if match and path.suffix.lower() == ".txt":
            first.setdefault(match["phrase"], name)
    texts = {phrase: " ".join(tree.text(name).split()) for phrase, name in sorted(first.items())}
    return {phrase: text for phrase, text in texts.items() if text}
