"""MP3 whose header does not name its frames, and MP3 that was cut off or joined."""

import io
import struct

import numpy as np
import pytest
import soundfile

from features.mpeg import checked_mpeg
from tests.support.signals import decoded, harmonics, noise, outcome

SIGNALS = [
    pytest.param(16_000, 1, 1.0, id="16 kHz"),
    pytest.param(44_100, 2, 2.3, id="44.1 kHz stereo"),
    pytest.param(8_000, 1, 4.1, id="8 kHz"),
    pytest.param(48_000, 1, 0.7, id="48 kHz"),
]
DELAY = 576 + 529
"""Samples that LAME and its decoder add at the beginning, and that its header lets them remove."""


def mp3(rate: int, channels: int, seconds: float, mode: str) -> bytes:
    """Speech-like parts of different loudness, so that a variable bit rate varies."""
    n = int(rate * seconds)
    loud = np.repeat([0.001, 1.0, 0.05, 0.6], -(-n // 4))[:n]
    voice = np.interp(np.arange(n) / rate, np.arange(16_000 * 5) / 16_000, harmonics(150, 5))
    x = loud * (voice + noise(n))
    samples = x if channels == 1 else np.stack([x, 0.5 * np.roll(x, 7)], axis=1)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    return file.getvalue()


def header(data: bytes) -> tuple[int, int]:
    """The place of the Xing or Info header, and of the first frame."""
    place = max(data.find(b"Xing"), data.find(b"Info"))
    return place, data.rindex(b"\xff", 0, place)


def without_header(data: bytes) -> bytes:
    _, first = header(data)
    return data[data.index(data[first : first + 2], first + 40) :]


def loudness(samples: np.ndarray) -> np.ndarray:
    """Root mean square of each 20 ms, without the first 60 ms and the last 20 ms.

    The first frames need bits of frames before them.
    """
    blocks = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    return np.sqrt((blocks[3:-1] ** 2).mean(axis=1))


@pytest.mark.parametrize("mode", ["VARIABLE", "AVERAGE", "CONSTANT"])
@pytest.mark.parametrize(("rate", "channels", "seconds"), SIGNALS)
def test_all_frames_are_read_without_a_header(
    rate: int, channels: int, seconds: float, mode: str
) -> None:
    data = mp3(rate, channels, seconds, mode)
    stream = checked_mpeg(without_header(data))
    assert stream is not None
    assert stream.frames is not None
    assert stream.frames >= rate * seconds
    want = decoded(data)
    got = decoded(without_header(data))
    assert len(got) == pytest.approx(stream.frames * 16_000 / rate, abs=1)
    delay = round(DELAY * 16_000 / rate)
    np.testing.assert_allclose(loudness(got[delay:][: len(want)]), loudness(want), atol=0.005)


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize(("rate", "channels", "seconds"), SIGNALS)
def test_a_cut_stream_is_refused(rate: int, channels: int, seconds: float, mode: str) -> None:
    data = mp3(rate, channels, seconds, mode)
    for share in (0.2, 0.5, 0.99):
        cut = data[: int(share * len(data))]
        assert "truncated" in outcome(cut)
    bare = without_header(data)
    for lost in (1, 2, 30):
        assert "truncated: its last frame" in outcome(bare[:-lost])


@pytest.mark.parametrize(("rate", "channels", "seconds"), SIGNALS)
@pytest.mark.parametrize(("factor", "reason"), [(2, "truncated"), (0.5, "its header names")])
def test_a_header_that_names_other_frames_is_refused(
    rate: int, channels: int, seconds: float, factor: float, reason: str
) -> None:
    data = bytearray(mp3(rate, channels, seconds, "VARIABLE"))
    place, _ = header(bytes(data))
    (frames,) = struct.unpack_from(">I", data, place + 8)
    struct.pack_into(">I", data, place + 8, int(frames * factor))
    assert reason in outcome(bytes(data))


@pytest.mark.parametrize(("rate", "channels", "seconds"), SIGNALS)
def test_a_header_without_the_number_of_frames_is_replaced(
    rate: int, channels: int, seconds: float
) -> None:
    data = bytearray(mp3(rate, channels, seconds, "VARIABLE"))
    place, _ = header(bytes(data))
    struct.pack_into(">I", data, place + 4, 0)
    want = decoded(without_header(bytes(data)))
    np.testing.assert_array_equal(decoded(bytes(data)), want)


@pytest.mark.parametrize(("rate", "channels", "seconds"), SIGNALS)
def test_two_recordings_are_named(rate: int, channels: int, seconds: float) -> None:
    data = mp3(rate, channels, seconds, "VARIABLE")
    other = mp3(rate, channels, seconds + 0.5, "VARIABLE")
    assert "its header names" in outcome(data + other)
    tag = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
    assert "two recordings" in outcome(tag + data + tag + other)


@pytest.mark.parametrize(
    "tail",
    [
        b"TAG" + b"title".ljust(125, b"\0"),
        b"APETAGEX" + bytes(range(100)),
        bytes(1000),
        b"LYRICSBEGIN" + b"la" * 50 + b"LYRICSEND",
    ],
)
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_tags_at_the_end_change_nothing(tail: bytes, mode: str) -> None:
    data = mp3(16_000, 1, 1.0, mode)
    np.testing.assert_array_equal(decoded(data + tail), decoded(data))
    bare = without_header(data)
    np.testing.assert_array_equal(decoded(bare + tail), decoded(bare))


def test_segments_of_a_stream_without_a_header() -> None:
    from features.audio import AudioFile, decode

    bare = without_header(mp3(16_000, 1, 3.0, "VARIABLE"))
    whole = decoded(bare)
    for start, end in ((0.5, 1.0), (1.25, 2.75), (2.0, None)):
        part = decode(AudioFile("a.mp3", bare, ""), start, end)
        stop = len(whole) if end is None else int(end * 16_000)
        np.testing.assert_allclose(part, whole[int(start * 16_000) : stop], atol=1e-3)
