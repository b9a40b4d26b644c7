"""Mean and deviation of new speakers, of whom there may be little audio.

Models with `features.normalize: speaker` read z-scores of each speaker. Training had minutes of
each speaker. If a new speaker has less than `ENOUGH` seconds, the statistics are shrunk. With s
seconds, w = s / 10 and the typical speaker (m0, v0):

    mean = w * m + (1 - w) * m0        variance = w * v + (1 - w) * v0

m and v are the mean and variance of the speaker's own frames. m0 and v0 are the means over the
training speakers of their means and of their variances, so v0 has no variance between speakers. If
a feature set gives one vector for each utterance, w is at most u / 10 for u utterances, because the
deviation of a few vectors says nothing: that of one vector is 0, and every z-score would be 0.

The rule is ours. `benchmarks/speaker_seconds.py` measures its effect on nEMO. It helps a model of
vectors, and it is too careful for a model of frames (docs/predict.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.shards import Entry
from features.statistics import Statistics, merge

ENOUGH = 10.0
"""Seconds of audio from which on a speaker's statistics are used as they are."""
ENOUGH_VECTORS = 10
"""The same for utterances of which each gives one vector."""


class SpeakerStatistics(NamedTuple):
    """A speaker's mean and deviation of the features as extracted, and the audio behind them.

    own : over all frames of all utterances
    seconds, utterances : the audio that they come from
    """

    own: Statistics
    seconds: float
    utterances: int

    def weight(self, vectors: bool) -> float:
        """The share w of the speaker's own statistics, 0 to 1.

        vectors : whether each utterance gives one vector
        """
        shares = [1.0, self.seconds / ENOUGH]
        return min([*shares, self.utterances / ENOUGH_VECTORS] if vectors else shares)


def entry_of(values: npt.NDArray[np.float32]) -> Entry:
    """The sums of an utterance's features (frames, dims), as the feature store keeps them."""
    exact = values.astype(np.float64)
    mean = exact.mean(axis=0)
    return Entry("", 0, None, len(values), mean, ((exact - mean) ** 2).sum(axis=0), None)


def speaker_statistics(
    utterances: Sequence[npt.NDArray[np.float32]], seconds: float
) -> SpeakerStatistics:
    """The statistics of a speaker's utterances, (frames, dims) each, of `seconds` altogether."""
    return SpeakerStatistics(merge([*map(entry_of, utterances)]), seconds, len(utterances))


def typical(speakers: Sequence[Statistics]) -> Statistics:
    """The typical speaker: the means of the means, and of the variances, of some speakers."""
    mean = np.mean([one.mean for one in speakers], axis=0)
    variance = np.mean([one.deviation**2 for one in speakers], axis=0)
    return Statistics(sum(one.frames for one in speakers), mean, np.sqrt(variance))


def shrunk(own: Statistics, prior: Statistics, weight: float) -> Statistics:
    """`own` with the share `weight`, and the typical speaker `prior` with the rest."""
    if weight >= 1:
        return own
    mean = weight * own.mean + (1 - weight) * prior.mean
    variance = weight * own.deviation**2 + (1 - weight) * prior.deviation**2
    return Statistics(own.frames, mean, np.sqrt(variance))
