from collections.abc import Iterator
from pathlib import Path

import audioread
import numpy as np
import pytest

from tests.support.signals import RATE, encode, noise


@pytest.fixture
def bad_files() -> dict[str, tuple[bytes | None, str]]:
    """Each kind of unusable file: its content (None: no file), and the expected reason."""
    whole = encode(noise(RATE))
    flac = encode(noise(RATE), kind="FLAC")
    broken = noise(RATE)
    broken[500] = np.nan
    infinite = noise(RATE)
    infinite[500] = np.inf
    return {
        "missing.wav": (None, "missing"),
        "empty.wav": (b"", "empty: 0 bytes"),
        "annex.wav": (b"/annex/objects/SHA256E-s9--ab.wav\n", "`git annex get`"),
        "lfs.wav": (b"version https://git-lfs.github.com/spec/v1\nsize 9\n", "`git lfs pull`"),
        "text.wav": (b"This is not a recording.\n" * 100, "not audio"),
        "noise.wav": (bytes(range(256)) * 50, "not audio"),
        "truncated.wav": (whole[:-5000], "truncated: 27000 of 32000 bytes"),
        "header.wav": (whole[:36], "truncated: a WAV header without samples"),
        "truncated.flac": (flac[: len(flac) // 2], "truncated"),
        "truncated.aiff": (encode(noise(RATE), kind="AIFF")[:-500], "truncated: 31500 of 32000"),
        "truncated.ogg": (
            encode(noise(RATE), subtype="VORBIS", kind="OGG")[:-500],
            "truncated: the page at",
        ),
        "two.wav": (whole + whole, "two recordings in one file: the second begins at byte 32044"),
        "scale.wav": (encode(noise(RATE) * 32768, subtype="FLOAT"), "like integers of 16 bits"),
        "nan.wav": (encode(broken, subtype="FLOAT"), "NaN or infinite"),
        "inf.wav": (encode(infinite, subtype="FLOAT"), "NaN or infinite"),
        "silent.wav": (encode(np.zeros(RATE)), "silent"),
        "constant.wav": (encode(np.full(RATE, 0.25)), "silent"),
        "short.wav": (encode(noise(464)), "too short: 29.0 ms"),
        "no_samples.wav": (encode(np.zeros(0)), "too short"),
    }


@pytest.fixture
def no_ffmpeg(tmp_path: Path) -> Iterator[None]:
    """A PATH without any program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        yield
    audioread.available_backends(flush_cache=True)  # it keeps those that it found first
