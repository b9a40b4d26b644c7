"""RAVDESS: English, acted, 24 speakers, 1,440 utterances of speech in eight emotions.

Livingstone and Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song",
PLoS ONE 13(5), 2018. CC BY-NC-SA 4.0. Layout: `Actor_12/03-01-06-01-02-01-12.wav`, seven
numbers: modality (03 is audio alone), channel (01 speech, 02 song), emotion, intensity,
statement, repetition, actor (odd ones are men).
"""

import re
from typing import Any

from features.corpora.tree import by_name, expect, expect_count
from features.manifest import Manifest

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
"""The third number of a name."""

_NAME = re.compile(
    r"03-(?P<channel>0[12])-(?P<emotion>0[1-8])-0[12]-(?P<phrase>0[12])-0[12]-(?P<actor>\d\d)"
)
_ACTORS = [f"{actor:02d}" for actor in range(1, 25)]
_WHOLE = 1440
_SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".opus", ".m4a", ".mp3")


def read_ravdess(root: str) -> Manifest:
    """The manifest of RAVDESS's speech at `root`, from its files' names.

    Songs are left out and counted. Films are not looked at.

    Columns: speaker (the actor, `12`), gender, phrase (the statement, `01` or `02`), emotion (a
    word of `EMOTIONS`). No sessions and no dialogues.
    """
    tree, rows = by_name(root, "RAVDESS", _parse, "03-01-06-01-02-01-12.wav", _SUFFIXES)
    songs = [row["file"] for row in rows if row.pop("channel") == "02"]
    tree.problems.add(songs, "a song, left out", "nothing to do: only speech is read")
    sung = set(songs)
    rows = [row for row in rows if row["file"] not in sung]
    expect(tree, "speaker", _ACTORS, (row["speaker"] for row in rows))
    expect_count(tree, len(rows), _WHOLE)
    return tree.manifest(rows)


def _parse(stem: str) -> dict[str, Any] | None:
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    return {
        "speaker": match["actor"],
        "gender": "male" if int(match["actor"]) % 2 else "female",
        "phrase": match["phrase"],
        "emotion": EMOTIONS[match["emotion"]],
        "channel": match["channel"],
    }
