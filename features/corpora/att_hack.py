"""Att-HACK: French, acted social attitudes, 20 speakers, 100 phrases, 3 to 5 versions of each.

Le Moine and Obin, "Att-HACK: an expressive speech database with social attitudes", Speech
Prosody 2020 (OpenSLR 88). CC BY-NC-ND 4.0, for academic research. Layout: two archives that
unpack under a long path. Their last folders are `wav/F01_a1_s001_v01.wav` and
`txt/F01_a1_s001_v01.txt`, with speaker, attitude, phrase and version.
"""

import re
from pathlib import PurePosixPath

from features.corpora.tree import Tree, by_name
from features.manifest import Manifest

ATTITUDES = {"a1": "friendly", "a2": "distant", "a3": "dominant", "a4": "seductive"}

_NAME = re.compile(r"(?P<speaker>[FM]\d\d)_(?P<emotion>a[1-4])_(?P<phrase>s\d{3})_v\d\d")
_WHOLE = {"speaker": 20, "phrase": 100}


def read_att_hack(root: str) -> Manifest:
    """Read the manifest of Att-HACK at `root`, or any folder above, from its file names.

    Columns: speaker (`F01`), gender, phrase (`s001`), emotion (an attitude, a word of
    `ATTITUDES`), text (the phrase's words from the first of its files in `txt/`, if any: all
    versions have the same words). No sessions or dialogues.
    """
    tree, rows = by_name(root, "Att-HACK", _NAME, "F01_a1_s001_v01.wav")
    texts = _texts(tree)
    for row in rows:
        row["gender"] = "female" if row["speaker"].startswith("F") else "male"
        row["emotion"] = ATTITUDES[row["emotion"]]
        row["text"] = texts.get(row["phrase"])
    silent = sorted({row["phrase"] for row in rows if row["text"] is None})
    remedy = "unpack the second archive below the root if you need the words"
    tree.add_problem(silent, "no text in txt/", remedy, "phrase")
    for column, whole in _WHOLE.items():
        tree.expect_count(len({row[column] for row in rows}), whole, f"{column}s")
    return tree.manifest(rows)


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
