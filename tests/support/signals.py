"""Signals at 16 kHz, and audio files of them."""

import io

import numpy as np
import soundfile

from features.audio import AudioFile, decode
from features.errors import AudioError

RATE = 16_000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """(samples,) float32 Gaussian noise of deviation 0.1."""
    return (np.random.default_rng(seed).normal(size=samples) * 0.1).astype(np.float32)


def harmonics(f0: float, seconds: float = 1.0) -> np.ndarray:
    """A voiced sound: all harmonics of `f0` below 7500 Hz."""
    t = np.arange(int(seconds * RATE)) / RATE
    return 0.1 * sum(np.sin(2 * np.pi * f0 * k * t) / k for k in range(1, int(7500 / f0)))


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Two sines, of 200 and 410 Hz."""
    t = np.arange(int(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * 200 * t) + 0.1 * np.sin(2 * np.pi * 410 * t)


def encode(
    samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16", kind: str = "WAV"
) -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=kind)
    return file.getvalue()


def decoded(data: bytes, name: str = "a.bin") -> np.ndarray:
    """The samples of an audio file, as the extraction gets them."""
    return decode(AudioFile(name, data, ""))


def outcome(data: bytes, name: str = "a.bin") -> np.ndarray | str:
    """The samples of an audio file, or the reason why it is refused."""
    try:
        return decoded(data, name)
    except AudioError as error:
        return str(error)
