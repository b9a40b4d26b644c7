"""Finds speech in long recordings, by the voice activity detector of Silero. Needs the extra `vad`.

The package `silero-vad` contains its network, and downloads nothing. A pause ends a stretch of
speech if it has at least `PAUSE` seconds. A stretch is at most `LONGEST` seconds long: the detector
then cuts it at its last short pause, or at the limit if there is none. Both values are ours. All
other settings are the detector's own.
"""

import functools
import importlib.util
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from features.signal import SAMPLE_RATE
from orchestrator.errors import DependencyError
from orchestrator.inference.predict import one_thread

PAUSE, LONGEST = 0.5, 10.0


def check_detector() -> None:
    """Raise DependencyError without the extra `vad`."""
    if importlib.util.find_spec("silero_vad") is None:
        raise DependencyError(
            "--segment speech needs an optional package: pip install 'ser-orchestrator[vad]'"
        )


def stretches(samples: npt.NDArray[np.float32]) -> list[tuple[float, float]]:
    """The stretches of speech, (start, end) in seconds, in their order; without speech, none.

    samples : (n,) mono, at 16 kHz
    """
    with one_thread():  # the package sets the number of threads when it is imported
        from silero_vad import get_speech_timestamps

        found = get_speech_timestamps(
            torch.from_numpy(np.ascontiguousarray(samples, np.float32)),
            _detector(),
            sampling_rate=SAMPLE_RATE,
            min_silence_duration_ms=round(1000 * PAUSE),
            max_speech_duration_s=LONGEST,
        )
    return [(part["start"] / SAMPLE_RATE, part["end"] / SAMPLE_RATE) for part in found]


@functools.cache
def _detector() -> Any:
    from silero_vad import load_silero_vad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it uses torch.jit.load
        return load_silero_vad()
