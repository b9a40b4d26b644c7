"""The signal that every feature set takes: the mono samples of one utterance at 16 kHz."""

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
"""Hz."""
MIN_SAMPLES = 480
"""30 ms, the shortest utterance: half a pitch frame. openSMILE finds no frame in less."""
FRAMES_PER_SECOND = 100
"""Of every feature set that has frames."""
LOUDEST = 16.0
"""Float samples lie in -1..1. A recording may exceed the range, but not by 24 dB: then its samples
are on a scale of integers."""


def prepare(
    samples: npt.NDArray[np.floating], sample_rate: int, least: int = MIN_SAMPLES
) -> npt.NDArray[np.float32]:
    """Check samples and convert them to 16 kHz: (n,) float of any rate to (m,) float32.

    Raises ValueError if `samples` is not a mono float signal, holds NaN or infinity, or is
    shorter than `least` samples at 16 kHz. The caller's array never changes.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"samples have the shape {samples.shape}: pass a mono signal, (n,)")
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples are {samples.dtype}: pass float values in -1..1")
    if sample_rate <= 0:
        raise ValueError(f"the sample rate is {sample_rate}: it must be positive")
    if not np.isfinite(_peak(samples)):
        raise ValueError("some samples are NaN or infinite: they must be finite")
    if (problem := scale_problem(samples)) is not None:
        raise ValueError(problem)
    samples = samples.astype(np.float32, copy=False)
    if sample_rate != SAMPLE_RATE and len(samples):
        import soxr

        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE)
    if len(samples) < least:
        raise ValueError(
            f"too short: {len(samples)} samples at 16 kHz, at least {least} are needed "
            f"({1000 * least / SAMPLE_RATE:g} ms)"
        )
    return samples


def _peak(samples: npt.NDArray[np.floating]) -> float:
    """The largest absolute value; NaN if a sample is NaN."""
    return float(np.maximum(samples.max(initial=0.0), -samples.min(initial=0.0)))


def scale_problem(samples: npt.NDArray[np.floating]) -> str | None:
    """Say that float samples, of any shape, are on a scale of integers; None if they are not."""
    peak = _peak(samples)
    if peak <= LOUDEST:
        return None
    scale = next((bits for bits in (8, 16, 24) if peak <= 1 << bits - 1), 32)
    return (
        f"float samples must lie in -1..1, but these reach {peak:g}. They look like integers of "
        f"{scale} bits: divide them by {1 << scale - 1}"
    )


def clip(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Limit `samples` to the range that openSMILE's Python package (2.6) can take.

    The package casts samples * 32768 to int16, which turns +1.0 into -1.0.
    """
    return np.clip(samples, -1.0, 32767 / 32768)
