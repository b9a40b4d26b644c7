"""Scores, intervals and tests, as pure functions of labels. No Ray, no files.

UA and UAR are one number: the mean over classes of recall. WA is accuracy. Scores come from
scikit-learn and distributions from scipy; what is ours is how they are put together.

Labels are elements of `classes`. Integer labels beside named classes are positions in
`classes`, which is how a training loop holds them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# scikit-learn and scipy.stats take seconds to import and every process of a trial reads this
# file, though only some of them score: they are imported where they are used.

Label = str | int


class Interval(NamedTuple):
    """An estimate and its interval; `low` and `high` are NaN where none can be given."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """`ua` (= UAR), `wa` (accuracy) and the recall of each class, all in 0..1."""

    ua: float
    wa: float
    recalls: dict[Label, float]


@dataclass(frozen=True)
class Bootstrap:
    """Pooled scores with percentile intervals from resampled speakers."""

    ua: Interval
    wa: Interval
    recalls: dict[Label, Interval]
    speakers: int


class TTest(NamedTuple):
    """Mean difference with its interval, the statistic, and the two-sided p-value."""

    mean: float
    low: float
    high: float
    t: float
    p_value: float


class McNemar(NamedTuple):
    """Cases that only the first, only the second got right, and the two-sided p-value."""

    first_only: int
    second_only: int
    p_value: float


def positions(labels: ArrayLike, classes: Sequence[Label]) -> NDArray[np.int64]:
    """Position of each label in `classes`, (n,). Raises ValueError for a label that is not there.

    scikit-learn leaves such a label out of a confusion matrix without a word, which would
    raise the score; hence the check.
    """
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"labels must be one-dimensional, not of shape {values.shape}")
    named = any(isinstance(name, str) for name in classes)
    if values.dtype.kind in "iu" and named:
        outside = values[(values < 0) | (values >= len(classes))]
        if outside.size:
            raise ValueError(f"label {outside[0]} is no position among {len(classes)} classes")
        return values.astype(np.int64)
    place = {name: position for position, name in enumerate(classes)}
    try:
        return np.fromiter((place[value] for value in values.tolist()), np.int64, len(values))
    except KeyError as error:
        raise ValueError(
            f"label {error.args[0]!r} is none of the classes {list(classes)}"
        ) from None


def _pair(
    truth: ArrayLike, prediction: ArrayLike, classes: Sequence[Label]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    true, predicted = positions(truth, classes), positions(prediction, classes)
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} true labels but {len(predicted)} predicted ones")
    if len(true) == 0:
        raise ValueError("there are no utterances to score")
    return true, predicted


def scores(truth: ArrayLike, prediction: ArrayLike, classes: Sequence[Label]) -> Scores:
    """UA, WA and the recall of each class.

    A class that no utterance truly has gets recall NaN and is left out of UA: its recall is
    0/0, and counting it as 0 or 1 would make UA depend on which classes happen to fall into a
    fold rather than on the model. So UA is the mean over the classes that occur, as in
    scikit-learn's `balanced_accuracy_score`. Utterances wrongly given the absent class still
    count, as misses of their own classes.

    Raises ValueError for no utterances, unequal lengths or unknown labels.
    """
    from sklearn.metrics import accuracy_score, recall_score

    true, predicted = _pair(truth, prediction, classes)
    recalls = recall_score(
        true, predicted, labels=range(len(classes)), average=None, zero_division=np.nan
    )
    return Scores(
        ua=float(np.nanmean(recalls)),
        wa=float(accuracy_score(true, predicted)),
        recalls={name: float(recall) for name, recall in zip(classes, recalls, strict=True)},
    )


def confusion(
    truth: ArrayLike, prediction: ArrayLike, classes: Sequence[Label]
) -> NDArray[np.int64]:
    """Counts, (class, class): row = truth, column = prediction, in the order of `classes`."""
    from sklearn.metrics import confusion_matrix

    true, predicted = _pair(truth, prediction, classes)
    matrix = confusion_matrix(true, predicted, labels=range(len(classes)))
    return np.asarray(matrix, dtype=np.int64)


def fold_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean over folds with Student's t interval, n - 1 degrees of freedom.

    One fold has a mean and no interval (NaN). A NaN among the values makes all three NaN: a
    fold is never dropped from a mean in silence. Raises ValueError for no folds.

    Folds share training data, so their scores are not independent and the interval tends to
    be too narrow (Nadeau & Bengio 2003); it is what the literature reports.
    """
    from scipy import stats

    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"expected the scores of at least one fold, not shape {sample.shape}")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, np.nan, np.nan)
    half = float(stats.t.ppf((1 + confidence) / 2, sample.size - 1) * stats.sem(sample))
    return Interval(mean, mean - half, mean + half)


def speaker_resamples(speakers: int, samples: int, seed: int) -> NDArray[np.int64]:
    """Which speakers each bootstrap sample draws, with replacement: (samples, speakers)."""
    return np.random.default_rng(seed).integers(speakers, size=(samples, speakers))


def speaker_bootstrap(
    truth: ArrayLike,
    prediction: ArrayLike,
    speakers: Iterable[Any],
    classes: Sequence[Label],
    seed: int,
    samples: int = 2000,
    confidence: float = 0.95,
) -> Bootstrap:
    """Pooled UA, WA and recalls with percentile intervals over resampled speakers.

    Utterances of one speaker resemble each other, so speakers are drawn, not utterances (the
    cluster bootstrap: Davison & Hinkley 1997, section 3.8). A sample in which a class does not
    occur takes its UA over the others, as `scores` does; a recall's interval is over the
    samples in which its class occurs. One speaker gives no interval (NaN); a handful gives one
    that is too narrow.
    """
    true, predicted = _pair(truth, prediction, classes)
    _, speaker = np.unique([str(name) for name in speakers], return_inverse=True)
    if len(speaker) != len(true):
        raise ValueError(f"{len(true)} utterances but {len(speaker)} speakers")
    n_classes, n_speakers = len(classes), int(speaker.max()) + 1
    cells = (speaker * n_classes + true) * n_classes + predicted
    counts = np.bincount(cells, minlength=n_speakers * n_classes**2)  # (speaker * class * class,)
    point = scores(true, predicted, range(n_classes))

    drawn = speaker_resamples(n_speakers, samples, seed)
    rows = np.repeat(np.arange(samples), n_speakers)
    times = np.zeros((samples, n_speakers), dtype=np.int64)  # how often a sample has a speaker
    np.add.at(times, (rows, drawn.ravel()), 1)
    # In float64 the product runs in BLAS and counts stay exact up to 2**53.
    pooled = times.astype(np.float64) @ counts.reshape(n_speakers, -1).astype(np.float64)
    matrices = pooled.reshape(samples, n_classes, n_classes)
    hits, of_class = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=2)
    with np.errstate(invalid="ignore"):
        recalls = hits / of_class  # (samples, class), NaN where the class does not occur
    ua = np.nanmean(recalls, axis=1)
    wa = hits.sum(axis=1) / of_class.sum(axis=1)

    def interval(value: float, sample: NDArray[np.float64]) -> Interval:
        kept = sample[~np.isnan(sample)]
        if n_speakers < 2 or kept.size == 0:
            return Interval(value, np.nan, np.nan)
        low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(value, float(low), float(high))

    return Bootstrap(
        ua=interval(point.ua, ua),
        wa=interval(point.wa, wa),
        recalls={
            name: interval(point.recalls[position], recalls[:, position])
            for position, name in enumerate(classes)
        },
        speakers=n_speakers,
    )


def corrected_resampled_t(
    differences: ArrayLike, n_train: float, n_test: float, confidence: float = 0.95
) -> TTest:
    """Corrected resampled t-test over the folds' differences between two models.

    t = mean / sqrt((1/J + n_test/n_train) * s^2) with J - 1 degrees of freedom, where s^2 is
    the unbiased variance (Nadeau & Bengio, Inference for the generalization error, Machine
    Learning 52, 2003, section 4). `n_train` and `n_test` are utterances of a fold's training
    and test parts; where folds differ, give their means.

    Differences that are all equal give t = 0 and p = 1 if they are zero, else infinity and 0.
    Raises ValueError for fewer than two folds or an empty part.
    """
    from scipy import stats

    sample = np.asarray(differences, dtype=np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise ValueError(f"the test needs the differences of two folds or more, not {sample.size}")
    if n_train <= 0 or n_test <= 0:
        raise ValueError(f"parts cannot be empty: n_train = {n_train}, n_test = {n_test}")
    mean = float(sample.mean())
    error = float(np.sqrt((1 / sample.size + n_test / n_train) * sample.var(ddof=1)))
    freedom = sample.size - 1
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    with np.errstate(divide="ignore"):
        t = float(np.float64(mean) / error) if mean else 0.0
    return TTest(mean, mean - half, mean + half, t, float(2 * stats.t.sf(abs(t), freedom)))


def mcnemar_exact(first_correct: ArrayLike, second_correct: ArrayLike) -> McNemar:
    """Exact McNemar test of two models on the same utterances, (n,) booleans each.

    Of the utterances that exactly one model gets right, either model is as likely to be that
    one under the null: a two-sided binomial test with p = 1/2 (McNemar 1947). Where the models
    never differ the p-value is 1. Raises ValueError for unequal lengths.
    """
    from scipy import stats

    first, second = np.asarray(first_correct, bool), np.asarray(second_correct, bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected two equal lists, not shapes {first.shape} and {second.shape}")
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    differing = first_only + second_only
    p_value = stats.binomtest(first_only, differing, 0.5).pvalue if differing else 1.0
    return McNemar(first_only, second_only, float(p_value))
