"""The feature sets: what computes one, its width, and what its values depend on."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from features import emobase, functionals, logmel

_READERS = ("soundfile", "soxr")
"""Libraries through which all audio comes."""


@dataclass(frozen=True)
class FeatureSet:
    """One kind of features.

    extract : (samples, sample rate) -> (frames, dims) float32; raises ValueError for a signal
        that it cannot take
    dims : width of its frames
    identity : the texts that decide its values, but for its name and
        `features.extract.EXTRACTION_VERSION`
    picture : the columns that show an utterance to people: a spectrogram, or a curve
    """

    extract: Callable[[npt.NDArray[np.floating], int], npt.NDArray[np.float32]]
    dims: int
    identity: Callable[[], tuple[str, ...]]
    picture: slice


def _versions(*libraries: str) -> tuple[str, ...]:
    return tuple(f"{name} {version(name)}" for name in libraries)


FEATURES: dict[str, FeatureSet] = {
    "emobase_lld45": FeatureSet(
        emobase.extract,
        len(emobase.COLUMNS),
        lambda: (
            emobase.CONFIG_FILE.read_text(encoding="utf-8"),
            *_versions("opensmile", *_READERS),
        ),
        slice(emobase.COLUMNS.index("loudness"), emobase.COLUMNS.index("loudness") + 1),
    ),
    "logmel3d": FeatureSet(
        logmel.extract,
        logmel.DIMS,
        # NumPy has no part in it: its FFT is exact far beyond the float32 that is kept.
        lambda: (f"definition {logmel.VERSION}", *_versions(*_READERS)),
        slice(0, logmel.BANDS),
    ),
    "emobase_functionals": FeatureSet(
        functionals.extract,
        functionals.DIMS,
        lambda: _versions("opensmile", *_READERS),
        slice(0, 0),
    ),
}
