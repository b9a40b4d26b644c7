"""Scores, intervals and tests, as pure functions of labels. No Ray, no files.

UA and UAR are the same number: the mean over classes of recall. WA is accuracy. Tests compare the
scores with scikit-learn's, bit for bit. scipy computes the distributions.

Labels are elements of `classes`. If the classes have names, integer labels are positions in
`classes`, as in training.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# scikit-learn and scipy.stats take a second or more to import, and every process of a trial imports
# this module. Scores therefore need neither, and the other functions import scipy.special.

Label = str | int
Integers = NDArray[np.int64]


class Interval(NamedTuple):
    """An estimate and its interval. `low` and `high` are NaN if there is no interval."""

    value: float
    low: float
    high: float


class Scores(NamedTuple):
    """`ua` (= UAR), `wa` (accuracy) and the recall of each class, all in 0..1."""

    ua: float
    wa: float
    recalls: dict[Label, float]


class Bootstrap(NamedTuple):
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


def positions(labels: ArrayLike, classes: Sequence[Label]) -> Integers:
    """Position of each label in `classes`, (n,). Raises ValueError for an unknown label."""
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"labels must be one-dimensional, not of shape {values.shape}")
    if values.dtype.kind in "iu" and any(isinstance(name, str) for name in classes):
        outside = values[(values < 0) | (values >= len(classes))]
        if outside.size:
            raise ValueError(f"label {outside[0]} is not a position among {len(classes)} classes")
        return values.astype(np.int64)
    place = {name: position for position, name in enumerate(classes)}
    try:
        return np.fromiter((place[value] for value in values.tolist()), np.int64, len(values))
    except KeyError as error:
        raise ValueError(f"label {error} is not one of the classes {list(classes)}") from None


def _pair(
    truth: ArrayLike, prediction: ArrayLike, classes: Sequence[Label]
) -> tuple[Integers, Integers]:
    true, predicted = positions(truth, classes), positions(prediction, classes)
    if len(true) != len(predicted):
        raise ValueError(f"{len(true)} true labels but {len(predicted)} predicted ones")
    if len(true) == 0:
        raise ValueError("there are no utterances to score")
    return true, predicted


def scores(truth: ArrayLike, prediction: ArrayLike, classes: Sequence[Label]) -> Scores:
    """UA, WA and the recall of each class.

    A class without true utterances has recall NaN (0/0). UA is the mean over the other classes, as
    in scikit-learn's `balanced_accuracy_score`: with 0 or 1 instead, UA would depend on the classes
    that happen to fall into a fold. Utterances that are predicted as the absent class count as
    misses of their own classes.

    Raises ValueError for no utterances, unequal lengths or unknown labels.
    """
    counts = confusion(truth, prediction, classes)
    hits, of_class = np.diagonal(counts), counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        recalls = hits / of_class
    by_class = dict(zip(classes, map(float, recalls), strict=True))
    return Scores(float(np.nanmean(recalls)), float(hits.sum() / counts.sum()), by_class)


def confusion(truth: ArrayLike, prediction: ArrayLike, classes: Sequence[Label]) -> Integers:
    """Counts, (class, class): row = truth, column = prediction, in the order of `classes`."""
    true, predicted = _pair(truth, prediction, classes)
    counts = np.bincount(true * len(classes) + predicted, minlength=len(classes) ** 2)
    return counts.reshape(len(classes), len(classes))


def fold_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean over folds with Student's t interval, n - 1 degrees of freedom.

    One fold has a mean and no interval (NaN). If a value is NaN, all three numbers are NaN: no fold
    is dropped without a warning. Raises ValueError for no folds.

    Folds share training data, so their scores are not independent, and the interval tends to be too
    narrow (Nadeau & Bengio 2003). The literature reports this interval.
    """
    from scipy import special

    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"expected the scores of at least one fold, not shape {sample.shape}")
    mean = float(sample.mean())
    if sample.size == 1:
        return Interval(mean, np.nan, np.nan)
    error = sample.std(ddof=1) / np.sqrt(sample.size)
    half = float(special.stdtrit(sample.size - 1, (1 + confidence) / 2) * error)
    return Interval(mean, mean - half, mean + half)


def speaker_resamples(speakers: int, samples: int, seed: int) -> Integers:
    """The speakers in each bootstrap sample, drawn with replacement: (samples, speakers)."""
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

    Utterances of one speaker resemble each other, so the bootstrap draws speakers, not utterances
    (cluster bootstrap: Davison & Hinkley 1997, section 3.8). If a class does not occur in a sample,
    the sample's UA is the mean over the others, as in `scores`, and its recall of the class does
    not count. One speaker gives no interval (NaN). With few speakers, intervals are too narrow.
    """
    true, predicted = _pair(truth, prediction, classes)
    _, speaker = np.unique([str(name) for name in speakers], return_inverse=True)
    if len(speaker) != len(true):
        raise ValueError(f"{len(true)} utterances but {len(speaker)} speakers")
    n_classes, n_speakers = len(classes), int(speaker.max()) + 1
    cells = (speaker * n_classes + true) * n_classes + predicted
    counts = np.bincount(cells, minlength=n_speakers * n_classes**2)  # (speaker * class * class,)

    drawn = speaker_resamples(n_speakers, samples, seed)
    # How often each sample has each speaker, (samples, speakers).
    times = np.stack([np.bincount(sample, minlength=n_speakers) for sample in drawn])
    # In float64 the product runs in BLAS, and counts stay exact up to 2**53.
    pooled = times.astype(np.float64) @ counts.reshape(n_speakers, -1).astype(np.float64)
    matrices = pooled.reshape(samples, n_classes, n_classes)
    hits, of_class = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=2)
    with np.errstate(invalid="ignore"):
        recalls = hits / of_class  # (samples, class), NaN if the class does not occur

    def interval(value: float, sample: NDArray[np.float64]) -> Interval:
        kept = sample[~np.isnan(sample)]
        if n_speakers < 2 or kept.size == 0:
            return Interval(value, np.nan, np.nan)
        low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(value, float(low), float(high))

    point = scores(true, predicted, range(n_classes))
    return Bootstrap(
        ua=interval(point.ua, np.nanmean(recalls, axis=1)),
        wa=interval(point.wa, hits.sum(axis=1) / of_class.sum(axis=1)),
        recalls={name: interval(point.recalls[i], recalls[:, i]) for i, name in enumerate(classes)},
        speakers=n_speakers,
    )


def corrected_resampled_t(
    differences: ArrayLike, n_train: float, n_test: float, confidence: float = 0.95
) -> TTest:
    """Corrected resampled t-test over the folds' differences between two models.

    t = mean / sqrt((1/J + n_test/n_train) * s^2) with J - 1 degrees of freedom, and s^2 the
    unbiased variance (Nadeau & Bengio, Inference for the generalization error, Machine Learning 52,
    2003, section 4). `n_train` and `n_test` are the utterances of a fold's training and test parts.
    If folds differ, give their means.

    If all differences are equal, t = 0 and p = 1 for differences of zero, otherwise t is infinite
    and p = 0. Raises ValueError for fewer than two folds or an empty part.
    """
    from scipy import special

    sample = np.asarray(differences, dtype=np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise ValueError(f"the test needs the differences of two folds or more, not {sample.size}")
    if n_train <= 0 or n_test <= 0:
        raise ValueError(f"parts cannot be empty: n_train = {n_train}, n_test = {n_test}")
    mean = float(sample.mean())
    error = float(np.sqrt((1 / sample.size + n_test / n_train) * sample.var(ddof=1)))
    freedom = sample.size - 1
    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    with np.errstate(divide="ignore"):
        t = float(np.float64(mean) / error) if mean else 0.0
    return TTest(mean, mean - half, mean + half, t, float(2 * special.stdtr(freedom, -abs(t))))


def mcnemar_exact(first_correct: ArrayLike, second_correct: ArrayLike) -> McNemar:
    """Exact McNemar test of two models on the same utterances, (n,) booleans each.

    Only utterances that exactly one model gets right count. Under the null hypothesis, either model
    is equally likely to be right: a two-sided binomial test with p = 1/2 (McNemar 1947). The
    p-value is 1 if there are no such utterances. Raises ValueError for unequal lengths.
    """
    from scipy import special

    first, second = np.asarray(first_correct, bool), np.asarray(second_correct, bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"expected two equal lists, not shapes {first.shape} and {second.shape}")
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    differing = first_only + second_only
    # The distribution is symmetric, so both tails have the same weight.
    p_value = min(1.0, 2 * special.bdtr(min(first_only, second_only), differing, 0.5))
    return McNemar(first_only, second_only, float(p_value))


def holm(p_values: ArrayLike) -> list[float]:
    """Holm's adjusted p-values of several tests, in the order of `p_values`, (m,).

    The k-th smallest p-value is multiplied by m - k + 1. No adjusted value is below that of a
    smaller p-value, or above 1. To reject each adjusted value below alpha keeps the probability of
    any false rejection at or below alpha, however the tests depend on each other (Holm, A simple
    sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979).

    Raises ValueError for a value outside 0..1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    sample = np.asarray(p_values, dtype=np.float64)
    if sample.ndim != 1 or not ((sample >= 0) & (sample <= 1)).all():
        raise ValueError(f"p-values must be a list of numbers in 0..1, not {sample.tolist()}")
    order = np.argsort(sample, kind="stable")
    adjusted = np.empty_like(sample)
    factors = len(sample) - np.arange(len(sample))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * sample[order]))
    return [float(value) for value in adjusted]
