"""CREMA-D: English, acted, 91 speakers, 7,442 utterances of twelve sentences in six emotions.

Cao, Cooper, Keutmann, Gur, Nenkova and Verma, "CREMA-D: Crowd-sourced Emotional Multimodal
Actors Dataset", IEEE Transactions on Affective Computing 5(4), 2014. Open Database License.
Layout: `AudioWAV/1001_DFA_ANG_XX.wav`, with actor, sentence, emotion and level. Beside it,
`VideoDemographics.csv` gives the gender of each actor.
"""

import csv
import re

from features.corpora.tree import Tree, base, by_name
from features.manifest import Manifest

_NAME = re.compile(
    r"(?P<speaker>1\d{3})_(?P<phrase>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}"
)
_ACTORS = [str(actor) for actor in range(1001, 1092)]
_WHOLE = 7442


def read_crema_d(root: str) -> Manifest:
    """Read the manifest of CREMA-D at `root` from its file names.

    The emotion is the emotion that the actor had to show, not the one that listeners heard.

    Columns: speaker (`1001`), gender (if `VideoDemographics.csv` exists), phrase (the sentence's
    code, `DFA`), emotion (`ANG`, `DIS`, `FEA`, `HAP`, `NEU`, `SAD`). No sessions or dialogues.
    """
    tree, rows = by_name(root, "CREMA-D", _NAME, "1001_DFA_ANG_XX.wav")
    genders = _genders(tree)
    for row in rows:
        row["gender"] = genders.get(row["speaker"])
    tree.expect("speaker", _ACTORS, (row["speaker"] for row in rows))
    tree.expect_count(len(rows), _WHOLE)
    return tree.manifest(rows)


def _genders(tree: Tree) -> dict[str, str | None]:
    """`male` or `female` by actor."""
    table = next((n for n in tree.walk() if base(n).lower() == "videodemographics.csv"), None)
    if table is None:
        remedy = "put it beside AudioWAV if you need genders"
        tree.add_problem("VideoDemographics.csv", "missing, so genders are unknown", remedy)
        return {}
    rows = csv.DictReader(tree.text(table).split("\n"))
    return {
        (row.get("ActorID") or "").strip(): (row.get("Sex") or "").strip().lower() or None
        for row in rows
    }
