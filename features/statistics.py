"""Statistics of features, of each speaker or of other utterances, and the z-scores they give."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.shards import Entry, Row

Array = npt.NDArray[np.float64]


class Statistics(NamedTuple):
    """The columns over all frames of some utterances."""

    frames: int
    mean: Array
    """(dims,)"""
    deviation: Array
    """(dims,) population standard deviation; exactly 0 for a constant column."""


def statistics_of(utterances: Iterable[tuple[Row, Entry]]) -> dict[str, Statistics]:
    """The statistics of each speaker, from pairs of a row (`id` and `speaker`) and its entry."""
    entries: dict[str, list[Entry]] = defaultdict(list)
    # Sorted by id: a sum of floats depends on its order, and the order of rows and shards may vary.
    for row, entry in sorted(utterances, key=lambda pair: pair[0]["id"]):
        entries[row["speaker"]].append(entry)
    return {speaker: merge(entries[speaker]) for speaker in sorted(entries)}


def merge(entries: Sequence[Entry]) -> Statistics:
    """Merge the statistics of utterances by the update of Chan, Golub and LeVeque (1979).

    The last bits depend on the order of the entries.
    """
    zeros = np.zeros(entries[0].mean.shape)
    count, mean, squares = 0, zeros, zeros
    for entry in entries:
        step = entry.mean - mean
        total = count + entry.frames
        mean = mean + step * (entry.frames / total)
        squares = squares + entry.squares + step**2 * (count * entry.frames / total)
        count = total
    return Statistics(count, mean, _deviation(mean, squares / count))


def _deviation(mean: Array, variance: Array) -> Array:
    deviation = np.sqrt(variance)
    # The deviation of a constant column consists of rounding errors.
    return np.where(deviation > 1e-12 * np.abs(mean), deviation, 0.0)


def share(statistics: Statistics, group: int) -> Statistics:
    """Statistics over all values of each `group` neighbouring columns.

    All columns have the same count, so the result is exact: the variance of a group is the mean
    of its columns' variances plus the variance of their means. Returns (dims,) again, with equal
    numbers inside a group.
    """
    if group == 1:
        return statistics
    means = statistics.mean.reshape(-1, group)  # (groups, group)
    mean = means.mean(axis=1)
    variance = (statistics.deviation**2).reshape(-1, group).mean(axis=1) + means.var(axis=1)
    deviation = _deviation(mean, variance)
    return Statistics(statistics.frames, np.repeat(mean, group), np.repeat(deviation, group))


def normalise(frames: npt.NDArray[np.floating], mean: Array, deviation: Array) -> Array:
    """z-scores of `frames` (n, dims); 0 for a constant column (deviation 0)."""
    scores = frames.astype(np.float64)
    scores -= mean
    scores /= np.where(deviation > 0, deviation, 1.0)
    scores[:, deviation == 0] = 0.0
    return scores
