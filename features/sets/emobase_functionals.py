"""988 functionals of an utterance: openSMILE's whole emobase set.

26 descriptors at 10 ms (intensity, loudness, MFCC 1 to 12, line spectral frequencies, zero
crossings, voicing, F0 and its envelope) and their deltas. 19 functionals summarise each
(extremes, regression line, moments, quartiles). Source: Eyben, Wöllmer and Schuller, "openSMILE -
the Munich versatile and fast open-source audio feature extractor", ACM Multimedia 2010. Baselines
that see an utterance as one vector use this set.
"""

import functools
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from features.sets.base import SEARCHABLE, FeatureConfig, FeatureSet, Shape, finite, versions
from features.signal import SAMPLE_RATE, clip, prepare

MIN_SAMPLES = 640
"""40 ms, one pitch frame of emobase: openSMILE returns no values for less."""

_DESCRIPTORS = (
    *("pcm_intensity_sma{}", "pcm_loudness_sma{}"),
    *(f"mfcc_sma{{}}[{i}]" for i in range(1, 13)),
    *(f"lspFreq_sma{{}}[{i}]" for i in range(8)),
    *("pcm_zcr_sma{}", "voiceProb_sma{}", "F0_sma{}", "F0env_sma{}"),
)
_FUNCTIONALS = (
    *("max", "min", "range", "maxPos", "minPos", "amean"),
    *("linregc1", "linregc2", "linregerrA", "linregerrQ"),
    *("stddev", "skewness", "kurtosis"),
    *("quartile1", "quartile2", "quartile3", "iqr1-2", "iqr2-3", "iqr1-3"),
)
COLUMNS: tuple[str, ...] = tuple(
    f"{descriptor.format(delta)}_{functional}"
    for delta in ("", "_de")
    for descriptor in _DESCRIPTORS
    for functional in _FUNCTIONALS
)
"""openSMILE's own names, in its order. `…Pos` are in frames of 10 ms from the start."""

_PREFIXES = {
    "energy": ("pcm_intensity", "pcm_loudness"),
    "mfcc": ("mfcc",),
    "line_spectral_frequencies": ("lspFreq",),
    "zero_crossings": ("pcm_zcr",),
    "voicing": ("voiceProb",),
    "f0": ("F0",),  # F0 and its envelope
}
GROUPS: dict[str, tuple[int, ...]] = {
    group: tuple(column for column, name in enumerate(COLUMNS) if name.startswith(prefixes))
    for group, prefixes in _PREFIXES.items()
}
"""The columns of each kind of descriptor, with its deltas. The division is ours."""


class FunctionalsConfig(FeatureConfig):
    """Options of `emobase_functionals`.

    normalize : `speaker` (default) computes the z-scores of each functional over all utterances
        of a speaker. A speaker with one utterance gets zeros. `train` computes them over the
        fold's training part
    """

    shapes: ClassVar[tuple[Shape, ...]] = ("vector",)

    name: Literal["emobase_functionals"] = "emobase_functionals"
    normalize: Annotated[Literal["speaker", "train", "none"], SEARCHABLE] = "speaker"

    def load(self) -> FeatureSet:
        return FEATURE_SET


@functools.cache
def _smile() -> Any:
    """openSMILE with emobase's functionals."""
    import opensmile

    return opensmile.Smile(
        opensmile.FeatureSet.emobase, opensmile.FeatureLevel.Functionals, sampling_rate=SAMPLE_RATE
    )


def extract(samples: npt.NDArray[np.floating], sample_rate: int) -> npt.NDArray[np.float32]:
    """Compute the functionals of one utterance.

    `samples`: (n,) float, mono; values outside -1..1 are clipped. A `sample_rate` other than
    16 kHz is converted first. Returns (1, 988) float32 with the columns of `COLUMNS`.

    Raises ValueError if `samples` is not a mono float signal, holds NaN or infinity, is shorter
    than 640 samples (40 ms) at 16 kHz, or if openSMILE returns values that are not finite. Use
    processes, not threads: openSMILE calls Python at each frame.
    """
    signal = clip(prepare(samples, sample_rate, MIN_SAMPLES))
    return finite(_smile()(signal, SAMPLE_RATE)[0].T, COLUMNS)


FEATURE_SET = FeatureSet(
    extract=extract,
    dims=len(COLUMNS),
    shape="vector",
    identity=lambda: versions("opensmile"),
    groups=GROUPS,
)
