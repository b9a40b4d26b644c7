"""A header that does not name the samples that follow: the samples are all read, or refused."""

import struct
from collections.abc import Callable

import numpy as np
import pytest

from features.headers import complete
from tests.support.signals import RATE, decoded, encode, noise, outcome

SECONDS = (0.5, 1.0, 1.7)


def field(marker: bytes, offset: int, form: str) -> Callable[[bytes, int], bytes]:
    """A function that writes a number at `offset` after the first `marker`."""

    def write(data: bytes, value: int) -> bytes:
        changed = bytearray(data)
        struct.pack_into(form, changed, data.index(marker) + offset, value)
        return bytes(changed)

    return write


def sphere(data: bytes, samples: int) -> bytes:
    old = data[data.index(b"sample_count -i ") :].split(b"\n")[0]
    return data.replace(old, f"sample_count -i {samples:<{len(old) - 16}}".encode()[: len(old)], 1)


# kind, the function that writes the bytes of samples, and the bytes that the number counts more
SIZES = [
    pytest.param("WAV", field(b"data", 4, "<I"), 0, id="WAV"),
    pytest.param("WAVEX", field(b"data", 4, "<I"), 0, id="WAVEX"),
    pytest.param("RF64", field(b"ds64", 16, "<Q"), 0, id="RF64"),
    pytest.param("W64", field(b"data\xf3\xac", 16, "<Q"), 24, id="W64"),
    pytest.param("AIFF", field(b"SSND", 4, ">I"), 8, id="AIFF"),
    pytest.param("AU", field(b".snd", 8, ">I"), 0, id="AU"),
    pytest.param("CAF", field(b"data", 4, ">q"), 4, id="CAF"),
]
PLACEHOLDERS = {
    "WAV": (0, 0xFFFF_FFFF, 0x7FFF_F000, 0x8000_0000),
    "WAVEX": (0, 0xFFFF_FFFF, 0x7FFF_F000, 0x7FFF_EFFD),
    "RF64": (0, (1 << 64) - 1, 1 << 63),
    "W64": (0, 24, (1 << 63) - 1),
    "AIFF": (0, 8, 0x7FFF_F008, 0xFFFF_FFFF),
    "AU": (0, 0xFFFF_FFFF, 0x7FFF_F000),
    "CAF": ((1 << 64) - 1, 4, 0),
}


@pytest.mark.parametrize(("kind", "write", "more"), SIZES)
@pytest.mark.parametrize("seconds", SECONDS)
def test_a_header_without_a_length_is_repaired(
    kind: str, write: Callable[[bytes, int], bytes], more: int, seconds: float
) -> None:
    data = encode(noise(int(seconds * RATE)), kind=kind)
    want = decoded(data)
    for value in PLACEHOLDERS[kind]:
        if kind == "CAF":
            value = value - (1 << 64) if value >> 63 else value
        np.testing.assert_array_equal(decoded(write(data, value)), want, err_msg=hex(value))


@pytest.mark.parametrize(("kind", "write", "more"), SIZES)
@pytest.mark.parametrize("share", [0.04, 0.25, 0.9])
def test_a_header_that_names_too_few_samples_is_refused(
    kind: str, write: Callable[[bytes, int], bytes], more: int, share: float
) -> None:
    named = 2 * int(share * RATE)
    data = write(encode(noise(RATE), kind=kind), named + more)
    reason = f"its header names {named} bytes of samples, but {2 * RATE - named} more bytes follow"
    assert reason in outcome(data)


@pytest.mark.parametrize(("kind", "write", "more"), SIZES)
@pytest.mark.parametrize("share", [1.01, 2, 100])
def test_a_header_that_names_too_many_samples_is_refused(
    kind: str, write: Callable[[bytes, int], bytes], more: int, share: float
) -> None:
    named = 2 * int(share * RATE)
    data = write(encode(noise(RATE), kind=kind), named + more)
    assert f"truncated: {2 * RATE} of {named} bytes" in outcome(data)


@pytest.mark.parametrize(("named", "reason"), [(4000, "more bytes"), (9, "more"), (16001, "trunc")])
def test_the_sample_count_of_sphere_is_compared(named: int, reason: str) -> None:
    data = encode(noise(RATE), kind="NIST")
    assert reason in outcome(sphere(data, named))
    assert len(decoded(sphere(data, RATE))) == RATE


def test_a_sphere_file_may_count_the_samples_of_both_channels() -> None:
    data = encode(np.stack([noise(RATE), noise(RATE, 1)], axis=1), kind="NIST")
    np.testing.assert_array_equal(decoded(sphere(data, 2 * RATE)), decoded(data))


def test_compressed_sphere_is_named() -> None:
    data = encode(noise(RATE), kind="NIST")
    coding = b"sample_coding -s3 pcm"
    compressed = data.replace(coding, b"sample_coding -s26 pcm,embedded-shorten-v2.00", 1)
    assert "sph2pipe" in outcome(compressed)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("content", [b"INFOIART\5\0\0\0noone", b"x", b"abc" * 99])
@pytest.mark.parametrize("name", [b"LIST", b"JUNK", b"bext"])
def test_an_odd_chunk_may_lack_its_pad_byte(order: str, content: bytes, name: bytes) -> None:
    fmt = struct.pack(f"{order}IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    samples = (noise(RATE) * 32767).astype(f"{order}i2")
    size = struct.pack(f"{order}I", len(content))

    def wave(pad: bytes) -> bytes:
        body = b"WAVEfmt " + fmt + name + size + content + pad
        body += b"data" + struct.pack(f"{order}I", samples.nbytes) + samples.tobytes()
        return (b"RIFF" if order == "<" else b"RIFX") + struct.pack(f"{order}I", len(body)) + body

    want = samples.astype(np.float32) / 32768
    np.testing.assert_array_equal(decoded(wave(b"")), want)
    np.testing.assert_array_equal(decoded(wave(b"\0")), want)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "CAF"])
@pytest.mark.parametrize("second", ["WAV", "AIFF", "FLAC", "same"])
def test_a_second_recording_is_named(kind: str, second: str) -> None:
    first = encode(noise(RATE), kind=kind)
    other = encode(noise(RATE, 1), kind=kind if second == "same" else second)
    reason = outcome(first + other)
    assert f"two recordings in one file: the second begins at byte {len(first)}" in reason
    assert f"begins at byte {len(first) + 1}" in outcome(first + b"\0" + other)


@pytest.mark.parametrize(("kind", "write", "more"), SIZES)
def test_a_second_recording_is_found_without_a_length(
    kind: str, write: Callable[[bytes, int], bytes], more: int
) -> None:
    data = write(encode(noise(RATE), kind=kind), 0 if kind != "CAF" else -1)
    assert "two recordings in one file" in outcome(data + data)


def test_a_second_chunk_of_samples_is_named() -> None:
    chunk = b"data" + struct.pack("<I", 20) + bytes(range(20))
    assert "two chunks of samples" in outcome(encode(noise(RATE)) + chunk)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "AU", "NIST", "CAF"])
@pytest.mark.parametrize(
    "tail",
    [
        bytes(4096),
        b"junk!",
        b"TAG" + b"title".ljust(125, b"\0"),
        b"APETAGEX" + bytes(range(200)),
        b"ID3\x04\0\0\0\0\2\0" + bytes(range(255)),
    ],
)
def test_padding_and_tags_after_the_samples_change_nothing(kind: str, tail: bytes) -> None:
    data = encode(noise(RATE), kind=kind)
    want = decoded(data) if kind != "NIST" else decoded(data + tail)[:RATE]
    assert len(want) == RATE
    np.testing.assert_array_equal(decoded(data + tail)[:RATE], want)


@pytest.mark.parametrize(
    "tail",
    [
        b"LIST" + struct.pack("<I", 4) + b"INFO",
        b"LIST" + struct.pack("<I", 4000) + b"INFO",  # cut off, after all samples
        b"afsp" + struct.pack("<I", 1000) + bytes(range(250)) * 4,
        b"_PMX" + struct.pack("<I", 999) + bytes(range(111)) * 9,  # without its pad byte
    ],
)
def test_chunks_after_the_samples_change_nothing(tail: bytes) -> None:
    data = encode(noise(RATE))
    np.testing.assert_array_equal(decoded(data + tail), decoded(data))


@pytest.mark.parametrize(
    "kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "CAF", "FLAC"]
)
@pytest.mark.parametrize("samples", [480, 16_000, 16_001])
def test_a_right_file_is_not_touched(kind: str, samples: int) -> None:
    data = encode(noise(samples), kind=kind)
    assert complete(data) is data
    assert len(decoded(data)) == samples


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "W64", "CAF"])
def test_a_file_without_samples_is_too_short(kind: str) -> None:
    assert outcome(encode(np.zeros(0), kind=kind)).startswith(("too short: 0.0 ms", "not audio"))
