"""EmoDB, the Berlin database of emotional speech: German, acted, 10 speakers, 535 utterances.

Burkhardt, Paeschke, Rolfes, Sendlmeier and Weiss, "A database of German emotional speech",
Interspeech 2005. Free to download; its page asks for a citation. Layout: `wav/03a01Fa.wav`, with
speaker (03, 08 to 16), text (a01), emotion (F) and version (a).
"""

import re

from features.corpora.tree import by_name
from features.manifest import Manifest

EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
"""By the sixth character of a name, which is the first letter of the German word."""

_NAME = re.compile(r"(?P<speaker>\d\d)(?P<phrase>[ab]\d\d)(?P<emotion>[WLEAFTN])[a-z]?")
_MEN, _WOMEN = ("03", "10", "11", "12", "15"), ("08", "09", "13", "14", "16")
_GENDERS = dict.fromkeys(_MEN, "male") | dict.fromkeys(_WOMEN, "female")
_WHOLE = 535


def read_emodb(root: str) -> Manifest:
    """Read the manifest of EmoDB at `root` from its file names.

    Columns: speaker (`03`), gender, phrase (the text's code, `a01`), emotion (a word of
    `EMOTIONS`). No sessions or dialogues: each utterance was spoken alone.
    """
    tree, rows = by_name(root, "EmoDB", _NAME, "03a01Fa.wav")
    for row in rows:
        row["gender"] = _GENDERS.get(row["speaker"])
        row["emotion"] = EMOTIONS[row["emotion"]]
    tree.expect("speaker", _GENDERS, (row["speaker"] for row in rows))
    tree.expect_count(len(rows), _WHOLE)
    return tree.manifest(rows)
