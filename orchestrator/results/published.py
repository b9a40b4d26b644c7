"""Published scores, and what differs between their protocol and that of a sweep.

All numbers are per cent, as printed. They hold for their corpus only: `published` gives none for
another one.

Sources
-------
IAAN : Yeh, Lin and Lee, An Interaction-aware Attention Network for Speech Emotion Recognition in
    Spoken Dialogs, ICASSP 2019, tables 1 and 2
SSA-CRNN : Le Moine, Obin and Roebel, Speaker Attentive Speech Emotion Recognition, Interspeech
    2021, table 1
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.ledger.records import SweepRecord


class Protocol(NamedTuple):
    """The keys of a configuration that a published score depends on."""

    source: str
    corpus: Mapping[str, Any]
    folds: Mapping[str, Any]


class Published(NamedTuple):
    """A row of a paper's table, in per cent.

    ours : the model in `ser_models.MODELS`
    recalls : in the paper's order: anger, happiness, neutral, sadness
    half : half the width of the 95 % interval over folds
    cases : `both`, `one`, `none` -> WA and UA of the context case
    remark : what differs from the protocol of the table, for a number that the paper quotes
    """

    ours: str
    name: str
    protocol: Protocol
    wa: float | None = None
    ua: float | None = None
    half: float | None = None
    recalls: tuple[float, ...] = ()
    cases: Mapping[str, tuple[float, float]] = {}
    remark: str = ""


_IEMOCAP_CLASSES = ("ang", "hap", "neu", "sad")
IAAN = Protocol(
    "Yeh et al. 2019",
    {"name": "iemocap", "only": {}, "merge": {"exc": "hap"}, "classes": _IEMOCAP_CLASSES},
    {"scheme": "leave_one_session_out", "selection": "held_out"},
)
SSA_IEMOCAP = Protocol(
    "Le Moine et al. 2021",
    {
        "name": "iemocap",
        "only": {"style": ["improvised"]},
        "merge": {},
        "classes": _IEMOCAP_CLASSES,
    },
    {"scheme": "random_repeated", "folds": 10, "test_share": 0.2, "selection": "held_out"},
)
SSA_ATT_HACK = Protocol(
    "Le Moine et al. 2021",
    {
        "name": "att_hack",
        "only": {},
        "merge": {},
        "classes": ("friendly", "distant", "dominant", "seductive"),
    },
    {"scheme": "phrase_groups", "folds": 10, "selection": "held_out"},
)

PUBLISHED = (
    Published(
        "bigru_att",
        "BiGRU+ATT",
        IAAN,
        57.6,
        58.4,
        recalls=(56.6, 59.4, 48.4, 71.6),
        cases={"both": (72.3, 69.2), "one": (58.2, 60.2), "none": (42.0, 42.4)},
    ),
    Published("bigru_iaa", "BiGRU+IAA", IAAN, 60.7, 62.9, recalls=(65.3, 61.0, 51.7, 73.0)),
    Published("rand_iaan", "RandIAAN", IAAN, 62.0, 63.4, recalls=(66.0, 62.3, 53.5, 73.7)),
    Published(
        "iaan",
        "IAAN",
        IAAN,
        64.7,
        66.3,
        recalls=(72.1, 65.4, 53.1, 74.6),
        cases={"both": (76.0, 74.4), "one": (64.3, 66.6), "none": (53.6, 54.8)},
    ),
    Published(
        "svm_trees",
        "SVM Trees (Rozgić et al. 2012)",
        IAAN,
        60.8,
        60.9,
        remark="leave one person out, in ten folds",
    ),
    Published("bilstm_att", "BiLSTM+ATT (Mirsamadi et al. 2017)", IAAN, 63.5, 58.8),
    Published(
        "cmn",
        "CMN (Hazarika et al. 2018)",
        IAAN,
        65.3,
        remark="session 5 only; the authors' code validates on 60 % of the test utterances",
    ),
    Published(
        "mdnn",
        "MDNN (Zhou et al. 2018)",
        IAAN,
        61.8,
        62.7,
        remark="leave one person out",
    ),
    Published(
        "adrnn",
        "ADRNN (Meng et al. 2019)",
        SSA_IEMOCAP,
        ua=74.96,
        half=4.27,
        remark="as Le Moine et al. quote it; its interval is that of SSA-CRNN-r in the same table",
    ),
    Published("acrnn", "ACRNN", SSA_IEMOCAP, ua=63.86, half=2.23),
    Published("acrnn_r", "ACRNN-r", SSA_IEMOCAP, ua=68.26, half=2.57),
    Published("ssa_crnn_r", "SSA-CRNN-r", SSA_IEMOCAP, ua=77.22, half=4.27),
    Published("acrnn", "ACRNN", SSA_ATT_HACK, ua=36.97, half=2.01),
    Published("acrnn_r", "ACRNN-r", SSA_ATT_HACK, ua=67.15, half=9.10),
    Published("ssa_crnn_r", "SSA-CRNN-r", SSA_ATT_HACK, ua=70.25, half=4.36),
)
CORPORA = {"iemocap": "IEMOCAP", "att_hack": "Att-HACK"}


def published(record: SweepRecord) -> Published | None:
    """The published score of a sweep's model on its corpus; None if no paper has one."""
    for row in PUBLISHED:
        if (row.ours, row.protocol.corpus["name"]) == (record.model, record.corpus.corpus):
            return row
    return None


def differences(row: Published, record: SweepRecord) -> list[str]:
    """What differs between the protocol of a published score and a sweep; empty if nothing does.

    Corpus, classes, folds and selection count. Hyperparameters, features and libraries do not.
    """
    found = [row.remark] if row.remark else []
    ours = record.configuration
    for key, value in (*row.protocol.corpus.items(), *row.protocol.folds.items()):
        section = "corpus" if key in row.protocol.corpus else "folds"
        mine = record.corpus.corpus if key == "name" else ours[section].get(key)
        if key == "classes":
            value, mine = sorted(value), sorted(record.classes)
        if _plain(mine) != _plain(value):
            ours_shown, theirs = (_shown(each, _EMPTY.get(key, "")) for each in (mine, value))
            found.append(f"{_PHRASES[key]}: ours {ours_shown}, published {theirs}")
    return found


_PHRASES = {
    "name": "corpus",
    "only": "utterances",
    "merge": "merged labels",
    "classes": "classes",
    "scheme": "folds",
    "folds": "number of folds",
    "test_share": "share that tests",
    "selection": "selection on",
}


_EMPTY = {"only": "all", "merge": "none"}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _shown(value: Any, empty: str = "") -> str:
    if isinstance(value, Mapping):
        listed = "; ".join(f"{key} {_shown(item)}" for key, item in value.items())
        return listed or empty
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    named = {"held_out": "the test part", "validation": "a validation part"}
    return named.get(str(value), str(value).replace("_", " "))
