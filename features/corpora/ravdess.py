"""RAVDESS: English, acted, 24 speakers, 1,440 utterances of speech in eight emotions.

Livingstone and Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song",
PLoS ONE 13(5), 2018. CC BY-NC-SA 4.0. Layout: `Actor_12/03-01-06-01-02-01-12.wav`, seven
numbers: modality (03 is audio only), channel (01 speech, 02 song), emotion, intensity,
statement, repetition, actor (odd numbers are men).
"""

import re

from features.corpora.tree import by_name
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
"""By the third number of a name."""

_NAME = re.compile(
    r"03-(?P<channel>0[12])-(?P<emotion>0[1-8])-0[12]-(?P<phrase>0[12])-0[12]-(?P<speaker>\d\d)"
)
_ACTORS = [f"{actor:02d}" for actor in range(1, 25)]
_WHOLE = 1440
_SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".opus", ".m4a", ".mp3")


def read_ravdess(root: str) -> Manifest:
    """Read the manifest of RAVDESS's speech at `root` from its file names.

    Songs are skipped and counted. Videos are ignored.

    Columns: speaker (the actor, `12`), gender, phrase (the statement, `01` or `02`), emotion (a
    word of `EMOTIONS`). No sessions or dialogues.
    """
    tree, rows = by_name(root, "RAVDESS", _NAME, "03-01-06-01-02-01-12.wav", _SUFFIXES)
    songs = (row["file"] for row in rows if row["channel"] == "02")
    tree.add_problem(songs, "a song, skipped", "nothing to do: only speech is read")
    rows = [row for row in rows if row["channel"] == "01"]
    for row in rows:
        row["gender"] = "male" if int(row["speaker"]) % 2 else "female"
        row["emotion"] = EMOTIONS[row["emotion"]]
    tree.expect("speaker", _ACTORS, (row["speaker"] for row in rows))
    tree.expect_count(len(rows), _WHOLE)
    return tree.manifest(rows)
