"""3-D log-mel: 40 log-mel bands at 10 ms, their deltas and the deltas of those.

The input of "3-D Convolutional Recurrent Neural Networks with Attention Model for Speech Emotion
Recognition" (Chen, He, Yang and Zhang, IEEE Signal Processing Letters 2018) and of the SSA-CRNN
(Le Moine, Obin and Roebel, Interspeech 2021): 25 ms Hamming windows each 10 ms, 40 mel bands,
regression coefficients over two frames to either side. What they leave open is chosen here:

- frame t covers the samples 160 t to 160 t + 399; what is left at the end is dropped;
- the window is the periodic one, librosa's and PyTorch's;
- the power spectrum of 512 points, nothing before it (no pre-emphasis, no dither);
- HTK's mel scale from 0 to 8000 Hz, triangles of height 1, straight in Hz;
- natural logarithm, of at least `FLOOR`.
"""

import numpy as np
import numpy.typing as npt

from features.samples import SAMPLE_RATE as SAMPLE_RATE
from features.samples import prepare

VERSION = 1
"""Raised when a change of the definition changes values."""

BANDS = 40
WINDOW = 400
HOP = 160
FFT = 512
FLOOR = 1e-10
"""Least power of a band, -23.03 as a logarithm. The noise of rounding to 16 bits leaves a hundred
times more even in the lowest band, on average, so that it decides digital silence alone."""

_BLOCK = 1024
"""Frames worked on at a time, to bound memory: 4 MB of spectra, however long the recording."""

COLUMNS: tuple[str, ...] = tuple(
    f"mel_{band}{suffix}" for suffix in ("", "_delta", "_delta2") for band in range(1, BANDS + 1)
)
"""Names of `extract`'s columns: 40 static, 40 delta, 40 delta2, each from the lowest band up."""
DIMS = len(COLUMNS)

Array = npt.NDArray[np.float64]


def frame_count(samples: int) -> int:
    """Frames that `samples` samples at 16 kHz give."""
    return (samples - WINDOW) // HOP + 1


def _mel_filters() -> Array:
    """(257, 40): the weight of each bin of the power spectrum in each band."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)  # Hz
    width = np.diff(edges)
    bins = np.arange(FFT // 2 + 1)[:, None] * SAMPLE_RATE / FFT
    rising = (bins - edges[:-2]) / width[:-1]
    falling = (edges[2:] - bins) / width[1:]
    return np.maximum(np.minimum(rising, falling), 0.0)


_HAMMING = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
_FILTERS = _mel_filters()


def _delta(values: Array) -> Array:
    """Slope of (frames, bands) over two frames to either side; the outer frames are repeated."""
    n = len(values)
    x = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return (x[3 : n + 3] - x[1 : n + 1] + 2 * (x[4:] - x[:n])) / 10


def extract(samples: npt.NDArray[np.floating], sample_rate: int) -> npt.NDArray[np.float32]:
    """Log-mel bands of one utterance, with their deltas.

    `samples`: (n,) float, mono, in -1..1; nothing is clipped. A `sample_rate` other than 16 kHz
    is resampled first. Returns (frames, 120) float32, columns as in `COLUMNS`: log power, and its
    slope and the slope's, per frame of 10 ms; frame t is centred on 10 t + 12.5 ms.

    Raises ValueError as `features.emobase.extract` does, with the same least length of 30 ms.
    """
    signal = prepare(samples, sample_rate).astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]  # (frames, 400)
    power = np.empty((len(frames), BANDS))
    for start in range(0, len(frames), _BLOCK):
        spectrum = np.fft.rfft(frames[start : start + _BLOCK] * _HAMMING, FFT)  # (block, 257)
        power[start : start + _BLOCK] = (spectrum.real**2 + spectrum.imag**2) @ _FILTERS
    static = np.log(np.maximum(power, FLOOR))  # (frames, 40)
    delta = _delta(static)
    return np.concatenate([static, delta, _delta(delta)], axis=1, dtype=np.float32)
