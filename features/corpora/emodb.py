"""EmoDB, the Berlin database of emotional speech: German, acted, 10 speakers, 535 utterances.

Burkhardt, Paeschke, Rolfes, Sendlmeier and Weiss, "A database of German emotional speech",
Interspeech 2005. Free to download; its page asks to be cited. Layout: `wav/03a01Fa.wav`, which
is speaker (03, 08 to 16), text (a01), emotion (F) and version (a).
"""

import re
from typing import Any

from features.corpora.tree import by_name, expect, expect_count
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
"""The sixth character of a name is the German word's first letter."""

_NAME = re.compile(r"(?P<speaker>\d\d)(?P<phrase>[ab]\d\d)(?P<emotion>[WLEAFTN])[a-z]?")
_MEN = ("03", "10", "11", "12", "15")
_WOMEN = ("08", "09", "13", "14", "16")
_WHOLE = 535


def read_emodb(root: str) -> Manifest:
    """The manifest of EmoDB at `root`, from its files' names.

    Columns: speaker (`03`), gender, phrase (the text's code, `a01`), emotion (a word of
    `EMOTIONS`). No sessions and no dialogues: every utterance was spoken alone.
    """
    tree, rows = by_name(root, "EmoDB", _parse, "03a01Fa.wav")
    speakers = [row["speaker"] for row in rows]
    expect(tree, "speaker", sorted(_MEN + _WOMEN), speakers)
    expect_count(tree, len(rows), _WHOLE)
    return tree.manifest(rows)


def _parse(stem: str) -> dict[str, Any] | None:
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    speaker = match["speaker"]
    gender = "male" if speaker in _MEN else "female" if speaker in _WOMEN else None
    emotion = EMOTIONS[match["emotion"]]
    return {"speaker": speaker, "gender": gender, "phrase": match["phrase"], "emotion": emotion}
