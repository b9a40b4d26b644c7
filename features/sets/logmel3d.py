"""3-D log-mel: 40 log-mel bands at 10 ms, their deltas, and the deltas of the deltas.

The input of "3-D Convolutional Recurrent Neural Networks with Attention Model for Speech Emotion
Recognition" (Chen, He, Yang and Zhang, IEEE Signal Processing Letters 2018) and of the SSA-CRNN
(Le Moine, Obin and Roebel, Interspeech 2021): 25 ms Hamming windows every 10 ms, 40 mel bands,
regression coefficients over two frames on either side. The papers leave these points open:

- frame t covers the samples 160 t to 160 t + 399; incomplete frames at the end are dropped;
- the window is periodic, as in librosa and PyTorch;
- the power spectrum has 512 points, without pre-emphasis and dither;
- the mel scale is HTK's from 0 to 8000 Hz; triangles have height 1 and are linear in Hz;
- the logarithm is natural, of at least `FLOOR`.

The Fourier transform is in float32. Its rounding errors exceed the power of a quiet band beside a
very loud one, so such frames (3 % on real speech) are computed again in float64. Log power
agrees with the definition in float64 to 1e-4. `benchmarks/extraction.py` compares speed and errors
with PyTorch.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from features.sets.base import SEARCHABLE, FeatureConfig, FeatureSet, Shape, versions
from features.signal import SAMPLE_RATE, prepare

VERSION = 3
"""Raise it if a change of the definition changes values."""

BANDS = 40
WINDOW = 400
HOP = 160
FFT = 512
FLOOR = 1e-10
"""Least power of a band; its logarithm is -23.03. Rounding to 16 bits makes noise of 100 times
more power on average, even in the lowest band. The floor therefore changes only digital silence."""

_BLOCK = 64
"""Frames that are transformed together. Their spectra stay in the cache of a core (0.3 MB)."""

_RISK = 1.5e-4
"""A frame is computed in float64 if a band has less than this share of the frame's energy. The
smaller the share, the larger the error of log power in float32."""

COLUMNS: tuple[str, ...] = tuple(
    f"mel_{band}{suffix}" for suffix in ("", "_delta", "_delta2") for band in range(1, BANDS + 1)
)
"""Names of the columns: 40 static, 40 delta, 40 delta2, each from the lowest band up."""

Array = npt.NDArray[np.float32]


class LogMelConfig(FeatureConfig):
    """Options of `logmel3d`.

    segment : frames that a network sees at a time; a longer utterance is cut into full segments,
        of which the last overlaps the one before. The default is the papers' 300 (3 s). Even,
        because the networks halve time
    normalize : the SSA-CRNN paper says "each 3-D input sample is normalized to have zero mean and
        unit variance for a given speaker", and does not say which values share a mean. Both
        readings are ours. `channel` (default): static, delta and delta2 each have one mean and one
        deviation, over their 40 bands and all frames of a speaker, so the shape of the spectrum
        stays. `band`: each of the 120 columns alone, which removes the mean spectrum of the
        speaker and the microphone. `train`: each column alone, over all frames of the
        fold's training part
    """

    shapes: ClassVar[tuple[Shape, ...]] = ("maps",)

    name: Literal["logmel3d"] = "logmel3d"
    segment: int = Field(300, ge=2, multiple_of=2)
    normalize: Annotated[Literal["channel", "band", "train", "none"], SEARCHABLE] = "channel"

    def load(self) -> FeatureSet:
        return FEATURE_SET

    @property
    def cut(self) -> int | None:
        return self.segment

    @property
    def group(self) -> int | None:
        return BANDS if self.normalize == "channel" else super().group


def _mel_filters() -> npt.NDArray[np.float64]:
    """(257, 40): the weight of each bin of the power spectrum in each band."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)  # Hz
    width = np.diff(edges)
    bins = np.arange(FFT // 2 + 1)[:, None] * SAMPLE_RATE / FFT
    rising = (bins - edges[:-2]) / width[:-1]
    falling = (edges[2:] - bins) / width[1:]
    return np.maximum(np.minimum(rising, falling), 0.0)


_HAMMING = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
_HAMMING_32 = _HAMMING.astype(np.float32)
_FILTERS = _mel_filters().astype(np.float32)
_PAIRED = np.repeat(_FILTERS, 2, axis=0)
"""(514, 40): for the squares of real and imaginary parts in turn, as they are in memory."""
_LOW = 32
"""Number of the bands that lie in the lower half of the spectrum. They are computed apart from the
others, because most of the other half's weights would be zero."""
_LOW_END = int(np.flatnonzero(_PAIRED[:, _LOW - 1])[-1]) + 1  # 296
_HIGH_START = int(np.flatnonzero(_PAIRED[:, _LOW])[0])  # 276


def _delta(values: Array) -> Array:
    """Slope of (frames, bands) over two frames on either side; the outer frames are repeated."""
    n = len(values)
    x = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    slope = x[4:] - x[:n]
    slope += slope
    slope += x[3 : n + 3]
    slope -= x[1 : n + 1]
    slope *= np.float32(0.1)
    return slope


def _powers(frames: Array) -> Array:
    """The power of each band, (frames, 40), of frames (frames, 400)."""
    import scipy.fft

    powers = np.empty((len(frames), BANDS), np.float32)
    energies = np.empty(len(frames), np.float32)
    padded = np.zeros((min(_BLOCK, len(frames)), FFT), np.float32)
    for start in range(0, len(frames), _BLOCK):
        block = slice(start, start + _BLOCK)
        windowed = padded[: len(powers[block])]
        np.multiply(frames[block], _HAMMING_32, out=windowed[:, :WINDOW])
        np.einsum("ft,ft->f", windowed, windowed, out=energies[block])
        squares = scipy.fft.rfft(windowed).view(np.float32)  # (block, 514)
        np.square(squares, out=squares)
        np.matmul(squares[:, :_LOW_END], _PAIRED[:_LOW_END, :_LOW], out=powers[block, :_LOW])
        np.matmul(squares[:, _HIGH_START:], _PAIRED[_HIGH_START:, _LOW:], out=powers[block, _LOW:])
    at_risk = np.flatnonzero(powers.min(axis=1) < _RISK * energies)
    for start in range(0, len(at_risk), _BLOCK):
        some = at_risk[start : start + _BLOCK]
        spectrum = scipy.fft.rfft(frames[some] * _HAMMING, FFT).view(np.float64)
        powers[some] = np.square(spectrum.astype(np.float32)) @ _PAIRED
    return powers


def extract(samples: npt.NDArray[np.floating], sample_rate: int) -> npt.NDArray[np.float32]:
    """Compute the log-mel bands of one utterance and their deltas.

    `samples`: (n,) float, mono, not clipped. A `sample_rate` other than 16 kHz is converted
    first. Returns (frames, 120) float32 with the columns of `COLUMNS`: log power, its slope, and
    the slope of that, per frame of 10 ms. Frame t is centred on 10 t + 12.5 ms.

    Raises ValueError if `samples` is not a mono float signal, holds NaN or infinity, or is
    shorter than 480 samples (30 ms) at 16 kHz.
    """
    signal = prepare(samples, sample_rate)
    frames = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]
    static = _powers(frames)  # (frames, 40)
    np.log(np.maximum(static, np.float32(FLOOR), out=static), out=static)
    delta = _delta(static)
    return np.concatenate([static, delta, _delta(delta)], axis=1)


FEATURE_SET = FeatureSet(
    extract=extract,
    dims=len(COLUMNS),
    shape="maps",
    # The version of SciPy is left out: the rounding errors of its FFT are below those of BLAS.
    identity=lambda: (f"definition {VERSION}", *versions()),
    picture=slice(0, BANDS),
)
