import io

import numpy as np
import pytest
import soundfile

RATE = 16_000
SIGNAL = np.random.default_rng(0).normal(size=RATE) * 0.1


def audio_bytes(samples: np.ndarray, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, subtype=subtype, format=kind)
    return file.getvalue()


@pytest.fixture
def bad_files() -> dict[str, tuple[bytes | None, str]]:
    """Content (None: no file) of each kind of unusable file, and the reason it must give."""
    whole = audio_bytes(SIGNAL.copy())
    flac = audio_bytes(SIGNAL, kind="FLAC")
    broken = SIGNAL.copy()
    broken[500] = np.nan
    infinite = SIGNAL.copy()
    infinite[500] = np.inf
    header_only = whole[:36]
    return {
        "missing.wav": (None, "missing"),
        "empty.wav": (b"", "empty: 0 bytes"),
        "text.wav": (b"This is not a recording.\n" * 100, "not audio"),
        "noise.wav": (bytes(range(256)) * 50, "not audio"),
        "truncated.wav": (whole[:-5000], "truncated: 27000 of 32000 bytes"),
        "header.wav": (header_only, "truncated: a WAV header without samples"),
        "truncated.flac": (flac[: len(flac) // 2], "truncated"),
        "nan.wav": (audio_bytes(broken, subtype="FLOAT"), "NaN or infinite"),
        "inf.wav": (audio_bytes(infinite, subtype="FLOAT"), "NaN or infinite"),
        "silent.wav": (audio_bytes(np.zeros(RATE)), "silent"),
        "constant.wav": (audio_bytes(np.full(RATE, 0.25)), "silent"),
        "short.wav": (audio_bytes(SIGNAL[:464]), "too short: 29.0 ms"),
        "no_samples.wav": (audio_bytes(np.zeros(0)), "too short"),
    }
