"""CREMA-D: English, acted, 91 speakers, 7,442 utterances of twelve sentences in six emotions.

Cao, Cooper, Keutmann, Gur, Nenkova and Verma, "CREMA-D: Crowd-sourced Emotional Multimodal
Actors Dataset", IEEE Transactions on Affective Computing 5(4), 2014. Open Database License.
Layout: `AudioWAV/1001_DFA_ANG_XX.wav`, which is actor, sentence, emotion and level, beside
`VideoDemographics.csv`, which tells who is a man and who a woman.
"""

import csv
import re
from typing import Any

from features.corpora.tree import Tree, base, by_name, expect, expect_count
from features.manifest import Manifest

_NAME = re.compile(
    r"(?P<speaker>1\d{3})_(?P<phrase>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}"
)
_ACTORS = [str(actor) for actor in range(1001, 1092)]
_WHOLE = 7442


def read_crema_d(root: str) -> Manifest:
    """The manifest of CREMA-D at `root`, from its files' names.

    The emotion is what the actor was asked for, not what listeners heard.

    Columns: speaker (`1001`), gender (where `VideoDemographics.csv` is there), phrase (the
    sentence's code, `DFA`), emotion (`ANG`, `DIS`, `FEA`, `HAP`, `NEU`, `SAD`). No sessions and
    no dialogues.
    """
    tree, rows = by_name(root, "CREMA-D", _parse, "1001_DFA_ANG_XX.wav")
    gender = _genders(tree)
    for row in rows:
        row["gender"] = gender.get(row["speaker"])
    expect(tree, "speaker", _ACTORS, (row["speaker"] for row in rows))
    expect_count(tree, len(rows), _WHOLE)
    return tree.manifest(rows)


def _parse(stem: str) -> dict[str, Any] | None:
    match = _NAME.fullmatch(stem)
    return match.groupdict() if match else None


def _genders(tree: Tree) -> dict[str, str]:
    """`male` or `female` by actor."""
    tables = [n for n in tree.walk() if base(n).lower() == "videodemographics.csv"]
    if not tables:
        tree.problems.add(
            "VideoDemographics.csv",
            "missing, so that no gender is known",
            "put it beside AudioWAV if something needs genders",
        )
        return {}
    rows = csv.DictReader(tree.text(tables[0]).split("\n"))
    return {
        (row.get("ActorID") or "").strip(): (row.get("Sex") or "").strip().lower()
        for row in rows
        if (row.get("Sex") or "").strip()
    }
