"""What every feature set takes: one utterance's samples, mono, at 16 kHz."""

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
MIN_SAMPLES = 480
"""30 ms, the least of an utterance: half a pitch frame of openSMILE, below which it finds none."""


def prepare(
    samples: npt.NDArray[np.floating], sample_rate: int, least: int = MIN_SAMPLES
) -> npt.NDArray[np.float32]:
    """Checked samples at 16 kHz: (n,) float of any rate to (m,) float32.

    Raises ValueError where `samples` is not a mono float signal, holds NaN or infinity, or is
    shorter than `least` samples at 16 kHz. The caller's array is never written to.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"samples must be mono, of shape (n,); these have shape {samples.shape}")
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be float in -1..1; these are {samples.dtype}")
    if sample_rate <= 0:
        raise ValueError(f"the sample rate must be positive; it is {sample_rate}")
    if not np.isfinite(samples).all():
        raise ValueError("samples must be finite; some are NaN or infinite")
    samples = samples.astype(np.float32)
    if sample_rate != SAMPLE_RATE and len(samples):
        import soxr

        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE)
    if len(samples) < least:
        raise ValueError(
            f"too short: {len(samples)} samples at 16 kHz, the least is {least} "
            f"({1000 * least / SAMPLE_RATE:g} ms)"
        )
    return samples


def clip(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`samples` within what openSMILE's wrapper can take.

    It casts samples * 32768 to int16, where +1.0 would wrap round to -1.0.
    """
    return np.clip(samples, -1.0, 32767 / 32768)
