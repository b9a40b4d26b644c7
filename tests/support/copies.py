"""Copies of a recording: the same samples in another file."""

import struct
from collections.abc import Callable

import numpy as np

from tests.support.signals import encode, noise


def wav_with_chunk(samples: np.ndarray) -> bytes:
    """A WAV file with a LIST chunk before its samples, as recorders and editors write it."""
    plain = encode(samples)
    text = b"INFOISFT" + struct.pack("<I", 14) + b"A wave editor\0"
    chunk = b"LIST" + struct.pack("<I", len(text)) + text
    body = b"WAVE" + plain[12:36] + chunk + plain[36:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


COPIES: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "same bytes": (".wav", encode),
    "FLAC": (".flac", lambda samples: encode(samples, kind="FLAC")),
    "WAV with a LIST chunk": (".wav", wav_with_chunk),
    "float WAV": (".wav", lambda samples: encode(samples / 32768, subtype="FLOAT")),
    "AIFF": (".aiff", lambda samples: encode(samples, kind="AIFF")),
    "two equal channels": (".wav", lambda samples: encode(np.stack([samples, samples], axis=1))),
}
"""Suffix and encoder of each kind of copy of `encode(samples)`, with equal decoded samples.

The samples are int16: encoders of different formats round floats in different ways.
"""


def speech(samples: int, seed: int = 0) -> np.ndarray:
    """(samples,) int16 noise in place of a recording."""
    return np.round(noise(samples, seed) * 32768).astype(np.int16)
