"""Hidden states of a signal of any length: encoders read at most 30 s at a time.

A longer signal is cut into windows of 30 s. Neighbours share 10 s; the last window ends with the
signal and may share more. A state of a shared part is taken from the window in which it is farther
from the end: the windows meet in the middle of the part. Windows start at multiples of the stride,
so the states lie on one grid, and their number is that of the signal in one piece. The rule is
ours. 30 s is Whisper's length. The other encoders were trained on less, and their cost grows with
the square of the length.
"""

from collections.abc import Iterator

import numpy as np

from features.encoders.description import Array, Description, Encoder
from features.signal import SAMPLE_RATE

Windows = Iterator[Array]
"""The hidden states of one window after another: (states, T, H) each."""
LONGEST = 30 * SAMPLE_RATE
"""Samples of a window."""
STEP = 20 * SAMPLE_RATE
"""Samples between the starts of two windows, at most."""


def windows(samples: int, stride: int) -> list[tuple[int, int]]:
    """(start, end) of each window of a signal, in samples. All starts are multiples of `stride`."""
    if samples <= LONGEST:
        return [(0, samples)]
    last = -(-(samples - LONGEST) // stride) * stride  # its window is shorter by part of a stride
    starts = [*range(0, last, STEP // stride * stride), last]
    return [(start, min(start + LONGEST, samples)) for start in starts]


def states(encoder: Encoder, description: Description, signal: Array) -> Windows:
    """The hidden states of a signal, one window at a time: (states, T, H) each.

    Laid end to end, they are the states of the signal. A window without a time axis gives its
    vector once for each second that the window adds to those before, so that the mean over all of
    them is weighted by time.
    """
    if description.normalize:
        signal = normalized(signal)
    stride = description.stride or SAMPLE_RATE
    cuts = windows(len(signal), stride)
    first = 0
    for number, (start, end) in enumerate(cuts):
        values = encoder(signal[start:end])
        if number + 1 < len(cuts):
            meeting = (cuts[number + 1][0] + end) // 2 // stride
        elif description.stride:
            meeting = start // stride + values.shape[1]
        else:
            meeting = -(-end // stride)
        if not description.stride:
            count = meeting - first if len(cuts) > 1 else 1
            values = np.repeat(values, count, axis=1)
        else:
            values = values[:, first - start // stride : meeting - start // stride]
        first = meeting
        yield values


def normalized(signal: Array) -> Array:
    """The signal with mean 0 and variance 1, as the feature extractor of wav2vec2 computes it.

    The mean and variance are those of the whole utterance, also if it is cut into windows.
    """
    mean, variance = signal.mean(dtype=np.float64), signal.var(dtype=np.float64)
    return ((signal - mean) / np.sqrt(variance + 1e-7)).astype(np.float32)
