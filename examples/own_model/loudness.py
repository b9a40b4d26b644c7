"""A feature set of your own: level and zero crossings of frames. See docs/extending.md."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from features.sets import SEARCHABLE, FeatureConfig, FeatureSet, sources
from features.signal import prepare

HOP = 160
"""10 ms at 16 kHz."""


class LoudnessConfig(FeatureConfig):
    """Options of the set. The default of `name` is the name that a configuration gives."""

    name: Literal["loudness:LoudnessConfig"] = "loudness:LoudnessConfig"
    normalize: Annotated[Literal["speaker", "train", "none"], SEARCHABLE] = "speaker"

    def load(self) -> FeatureSet:
        return FeatureSet(
            extract=extract, dims=2, shape="frames", identity=lambda: sources(__file__)
        )


def extract(samples: NDArray[np.floating], sample_rate: int) -> NDArray[np.float32]:
    """The logarithm of the power and the share of zero crossings of each 10 ms, (frames, 2)."""
    signal = prepare(samples, sample_rate, HOP)  # mono, 16 kHz; ValueError if it cannot be used
    frames = signal[: len(signal) // HOP * HOP].reshape(-1, HOP)
    level = np.log((frames**2).mean(axis=1) + 1e-10)
    crossings = (np.diff(np.signbit(frames), axis=1)).mean(axis=1)
    return np.stack([level, crossings], axis=1).astype(np.float32)
