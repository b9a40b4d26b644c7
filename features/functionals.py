"""988 functionals of an utterance: openSMILE's emobase set, whole.

26 descriptors at 10 ms (intensity, loudness, MFCC 1 to 12, line spectral frequencies, zero
crossings, voicing, F0 and its envelope) and their deltas, each summed up by 19 functionals
(extremes, regression line, moments, quartiles): Eyben, Wöllmer and Schuller, "openSMILE - the
Munich versatile and fast open-source audio feature extractor", ACM Multimedia 2010. The set of
baselines that see an utterance as one vector.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from features.samples import SAMPLE_RATE as SAMPLE_RATE
from features.samples import clip, prepare

MIN_SAMPLES = 640
"""40 ms, one pitch frame of emobase: with fewer samples openSMILE gives nothing."""

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
DIMS = len(COLUMNS)


@functools.cache
def _smile() -> Any:
    """openSMILE with emobase's functionals. One a process."""
    import opensmile

    smile = opensmile.Smile(
        opensmile.FeatureSet.emobase, opensmile.FeatureLevel.Functionals, sampling_rate=SAMPLE_RATE
    )
    if tuple(smile.feature_names) != COLUMNS:
        raise RuntimeError("this version of openSMILE has another emobase set than 2.6")
    return smile


def extract(samples: npt.NDArray[np.floating], sample_rate: int) -> npt.NDArray[np.float32]:
    """Functionals of one utterance.

    `samples`: (n,) float, mono, in -1..1; what lies outside is clipped. A `sample_rate` other
    than 16 kHz is resampled first. Returns (1, 988) float32, columns as in `COLUMNS`.

    Raises ValueError where `samples` is not a mono float signal, holds NaN or infinity, or is
    shorter than 640 samples (40 ms) at 16 kHz, and where openSMILE gives values that are not
    finite. Not to be called from several threads, as `features.emobase.extract`.
    """
    signal = clip(prepare(samples, sample_rate, MIN_SAMPLES))
    values = _smile()(signal, SAMPLE_RATE)[0].T  # (1, 988)
    check_finite(values)
    return np.ascontiguousarray(values, dtype=np.float32)


def check_finite(values: npt.NDArray[np.floating]) -> None:
    """Raise ValueError with the names of the columns of (1, 988) that are not finite."""
    bad = [name for name, good in zip(COLUMNS, np.isfinite(values[0]), strict=True) if not good]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(
            f"openSMILE gave values that are not finite for {', '.join(bad[:5])}{more}"
        )
