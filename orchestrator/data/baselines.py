"""Scores that the labels of the training part reach without any sound.

If the utterances of a dialogue mostly have one emotion, and other utterances of the dialogue train,
then a model that recognises the dialogue also knows the emotion. A label-only baseline measures how
far this goes: it guesses the class of a test utterance from the training labels alone, given the
speaker, the session, the dialogue or the phrase of the utterance.

Only the training part counts. A model does not learn from the labels of the validation part; these
labels only select the epoch and the configuration.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from features.context import Indices
from orchestrator.data.folds import Fold, codes
from orchestrator.ledger.records import FoldAudit
from orchestrator.metrics import Interval, corrected_resampled_t

NOTHING = "nothing"
BOTH = "dialogue and speaker"
UNITS = ("speaker", "session", "dialogue", BOTH, "phrase")
_TOLERANCE = 1e-9
"""Rounding errors of a mean of recalls are smaller, and no difference of interest is."""


def label_ua(labels: Indices, train: Indices, test: Indices, group: Indices, classes: int) -> float:
    """UA of the best guess of each test utterance's class, given its group and the training labels.

    The guess is the class with the largest share of its training utterances in the group: the
    class c with the highest n(group, c) / n(c). No other guess for the group gives a higher UA on
    the training part, because UA is the mean over classes of recall. (The most frequent class of
    the group maximises WA instead.) If several classes are equal, each of them is guessed equally
    often, and the result is the expected UA. All classes are equal for an utterance without a
    group, and for a group without training utterances. Without any group, the UA is therefore
    1 / `classes`.

    Shapes
    ------
    labels : (utterances,) class of each utterance
    train, test : rows of the two parts
    group : (utterances,) number of each utterance's group; negative without a group

    Source: Bayes' rule for equal costs of the classes, as in balanced accuracy (Brodersen, Ong,
    Stephan and Buhmann 2010).
    """
    groups = int(group.max(initial=-1)) + 1
    known = train[group[train] >= 0]
    cells = group[known] * classes + labels[known]
    counts = np.bincount(cells, minlength=(groups + 1) * classes).reshape(groups + 1, classes)
    of_class = np.bincount(labels[train], minlength=classes)
    shares = counts / np.maximum(of_class, 1)  # (group, class); the last row is for group -1
    guessed = shares == shares.max(axis=1, keepdims=True)
    chances = guessed / guessed.sum(axis=1, keepdims=True)
    hits = np.bincount(labels[test], chances[group[test], labels[test]], minlength=classes)
    tested = np.bincount(labels[test], minlength=classes)
    return float((hits[tested > 0] / tested[tested > 0]).mean())


def label_baselines(
    table: pa.Table, labels: Indices, classes: int, folds: Sequence[Fold]
) -> list[dict[str, float]]:
    """For each fold, `label_ua` by the known unit: `nothing`, and the columns that have values.

    table : the manifest, (utterances,) rows
    labels : (utterances,) class, negative without a class
    """
    columns = ("speaker", "session", "dialogue", "phrase")
    groups = {name: codes(table[name])[0] for name in columns}
    dialogue, speaker = groups["dialogue"], groups["speaker"]
    pairs = np.unique(np.stack([dialogue, speaker]), axis=1, return_inverse=True)[1].reshape(-1)
    groups[BOTH] = np.where(dialogue >= 0, pairs, -1)
    known = {NOTHING: np.full(len(labels), -1)}
    known |= {name: groups[name] for name in UNITS if (groups[name] >= 0).any()}
    return [
        {name: label_ua(labels, f.train, f.test, group, classes) for name, group in known.items()}
        for f in folds
    ]


class Baseline(NamedTuple):
    """A label-only baseline over all folds.

    given : the known unit, or `nothing`
    ua : mean over folds, with a 95 % interval
    leaks : whether the interval is above chance: the folds then leak the unit
    """

    given: str
    ua: Interval
    leaks: bool


def baselines_over_folds(folds: Sequence[FoldAudit]) -> list[Baseline]:
    """The label-only baselines of audited folds, `nothing` first.

    The list is empty if an older version audited the folds.

    The interval is Student's t over folds, corrected for overlapping training parts (Nadeau and
    Bengio 2003). Without the correction, about one of ten corpora with random labels would seem to
    leak under `random_repeated`. If there is one fold, the interval is the normal interval of a
    mean of recalls, from the number of test utterances of each class.
    """
    if not folds or not all(fold.label_baselines for fold in folds):
        return []
    train, test = (
        float(np.mean([fold.parts[part].utterances for fold in folds]))
        for part in ("train", "test")
    )
    values = {
        given: np.asarray([fold.label_baselines[given] for fold in folds])
        for given in (NOTHING, *UNITS)
        if given in folds[0].label_baselines
    }
    chance = float(values[NOTHING].mean())
    baselines = []
    for given, ua in values.items():
        mean = float(ua.mean())
        if len(folds) == 1:
            half = 1.96 * _deviation(mean, folds[0].parts["test"].classes)
            low, high = mean - half, mean + half
        else:
            above = corrected_resampled_t(ua - chance, train, test)
            low, high = chance + above.low, chance + above.high
        baselines.append(Baseline(given, Interval(mean, low, high), low > chance + _TOLERANCE))
    return baselines


def _deviation(ua: float, tested: Mapping[str, int]) -> float:
    """Standard deviation of the UA of guesses that are right with probability `ua`."""
    counts = [count for count in tested.values() if count]
    return math.sqrt(sum(ua * (1 - ua) / count for count in counts)) / len(counts)
