"""Compressed streams without their end, or with a second recording behind them."""

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features import streams
from features.errors import AudioError, DecoderError
from features.streams import checked, needs_ffmpeg
from tests.support.signals import RATE, decoded, encode, noise, outcome

OGG = [("OGG", "VORBIS"), ("OGG", "OPUS")]


def refusal(data: bytes) -> str | None:
    """The reason why a stream is refused before it is decoded."""
    try:
        assert checked(data).data == data
    except AudioError as error:
        return str(error)
    return None


def pages(data: bytes) -> list[int]:
    """The places of the pages of an Ogg stream."""
    places, at = [], 0
    while at < len(data):
        places.append(at)
        at += 27 + data[at + 26] + sum(data[at + 27 :][: data[at + 26]])
    return places


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 12.0])
def test_ogg_without_its_end_is_refused(subtype: str, seconds: float) -> None:
    data = encode(noise(int(seconds * RATE)), kind="OGG", subtype=subtype)
    places = pages(data)
    assert len(places) >= 3
    for at in places[1:]:  # whole pages, but the last one is missing
        assert "no page is marked as the last" in outcome(data[:at])
        assert f"the page at byte {at} has no end" in outcome(data[: at + 5])
        assert f"the page at byte {at} has no end" in outcome(data[: at + 40])
    assert f"the page at byte {places[-1]} has no end" in outcome(data[:-1])


@pytest.mark.parametrize(("kind", "subtype"), [*OGG, ("FLAC", "PCM_16")])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0])
def test_a_second_stream_is_named(kind: str, subtype: str, seconds: float) -> None:
    first = encode(noise(int(seconds * RATE)), kind=kind, subtype=subtype)
    second = encode(noise(RATE, 1), kind=kind, subtype=subtype)
    reason = f"two recordings in one file: the second begins at byte {len(first)}"
    assert reason in outcome(first + second)
    assert reason in outcome(first + first)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_S8"])
@pytest.mark.parametrize("samples", [30_000, 16_384, 100_001])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_flac_that_names_too_few_samples_is_refused(
    subtype: str, samples: int, share: float
) -> None:
    data = bytearray(encode(noise(samples), kind="FLAC", subtype=subtype))
    named = int(share * samples)
    data[21] &= 0xF0  # the number of samples is the low 36 bits of bytes 21 to 25
    data[22:26] = struct.pack(">I", named)
    reason = outcome(bytes(data))
    assert f"its header names {named} samples, but its frames hold {samples}" in reason
    tagged = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + data
    assert "its header names" in outcome(tagged)


def test_flac_with_tags_is_read() -> None:
    data = encode(noise(RATE), kind="FLAC")
    want = decoded(data)
    np.testing.assert_array_equal(decoded(b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + data), want)
    np.testing.assert_array_equal(decoded(data + b"TAG" + bytes(125)), want)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


FTYP = box(b"ftyp", b"M4A \0\0\2\0isom")
MOOV = box(b"moov", box(b"mvhd", bytes(100)))
MDAT = box(b"mdat", bytes(range(256)) * 8)
LARGE = struct.pack(">I4sQ", 1, b"mdat", 16 + 500) + bytes(500)
FREE = box(b"free", bytes(20))


@pytest.mark.parametrize(
    "boxes",
    [
        (FTYP, MOOV, MDAT),
        (FTYP, FREE, MDAT, MOOV),
        (FTYP, LARGE, MOOV, FREE),
        (FTYP, MOOV, FREE, LARGE),
    ],
)
def test_mp4_without_its_end_is_refused(boxes: tuple[bytes, ...]) -> None:
    data = b"".join(boxes)
    assert refusal(data) is None
    needed = len(data) - (len(boxes[-1]) if boxes[-1] is FREE else 0)
    for length in range(len(FTYP), needed):
        assert "truncated" in (refusal(data[:length]) or ""), length
    assert f"begins at byte {len(data)}" in (refusal(data + data) or "")


def test_an_mp4_whose_last_box_goes_to_the_end_is_read() -> None:
    assert refusal(FTYP + MOOV + struct.pack(">I4s", 0, b"mdat") + bytes(99)) is None


def adts(size: int) -> bytes:
    return bytes([0xFF, 0xF1, 0x50, size >> 11, size >> 3 & 0xFF, (size & 7) << 5, 0xFC]) + bytes(
        size - 7
    )


AMR_SIZES = (13, 14, 32, 6)  # frames of the types 0, 1, 7 and 8
AMR = b"#!AMR\n" + b"".join(
    bytes([kind << 3 | 4]) + bytes(size - 1)
    for kind, size in zip((0, 1, 7, 8), AMR_SIZES, strict=True)
)
WIDE = b"#!AMR-WB\n" + bytes([0 << 3 | 4]) + bytes(17) + bytes([8 << 3 | 4]) + bytes(60)
AAC = adts(300) + adts(17) + adts(1024)
WEBM = b"\x1a\x45\xdf\xa3\x84\0\0\0\0" + b"\x18\x53\x80\x67\x41\x00" + bytes(256)
ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(8) + struct.pack("<Q", 30) + bytes(6)
ASF += bytes(16) + struct.pack("<Q", 24 + 100) + bytes(100)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        pytest.param(AMR, {6, 19, 33, 65}, id="AMR"),
        pytest.param(WIDE, {9, 27}, id="AMR-WB"),
        pytest.param(AAC, {300, 317}, id="AAC"),
        pytest.param(WEBM, set(), id="WebM"),
        pytest.param(ASF, set(), id="WMA"),
    ],
)
def test_streams_for_ffmpeg_are_refused_if_cut(data: bytes, whole: set[int]) -> None:
    """Streams of frames alone can be cut between two frames, which nothing shows."""
    assert refusal(data) is None
    for length in range(24, len(data)):
        if length not in whole:
            assert "truncated" in (refusal(data[:length]) or ""), length
    if data is not AAC:  # frames follow frames
        assert "two recordings" in (refusal(data + data) or "")


@pytest.mark.parametrize("at", [20, 100, 200])
def test_bytes_inside_a_segment_are_no_second_recording(at: int) -> None:
    """Compressed content may hold the four bytes by chance."""
    inside = bytearray(WEBM)
    inside[at : at + 4] = WEBM[:4]
    assert refusal(bytes(inside)) is None
    assert "two recordings" in (refusal(bytes(inside) + WEBM) or "")


@pytest.mark.parametrize("headers", [1, 8, 5000])
def test_a_flac_of_many_headers_takes_few_checksums(
    headers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the header of each frame were right, and each frame wrong."""
    lengths = []

    def checksum(data: bytes, bits: int, polynomial: int) -> int:
        lengths.append(len(data))
        return int(bits == 16)

    data = encode(noise(RATE), kind="FLAC")[:42] + (b"\xff\xf8\xc9\x08" + bytes(12)) * headers
    monkeypatch.setattr(streams, "_crc", checksum)
    assert refusal(data) is None
    assert sum(length > 16 for length in lengths) <= min(headers, 8)
    assert len(lengths) >= min(headers, 8)


def test_a_stream_may_leave_its_size_unknown() -> None:
    live = WEBM.replace(b"\x67\x41\x00", b"\x67\x01\xff\xff\xff\xff\xff\xff\xff")
    assert refusal(live) is refusal(live[:-50]) is None


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (FTYP + MOOV + MDAT, "MP4 or M4A"),
        (AMR, "AMR"),
        (AAC, "AAC"),
        (WEBM, "Matroska or WebM"),
        (ASF, "WMA"),
    ],
)
@pytest.mark.usefixtures("no_ffmpeg")
def test_a_format_that_needs_ffmpeg_says_so(data: bytes, name: str) -> None:
    with pytest.raises(DecoderError, match=f"{name} needs ffmpeg, which is not installed: install"):
        decoded(data, "a.m4a")


@pytest.mark.usefixtures("no_ffmpeg")
def test_other_bytes_do_not_need_ffmpeg() -> None:
    for data in (encode(noise(RATE)), bytes(range(256)) * 9, encode(noise(RATE), kind="FLAC")):
        assert needs_ffmpeg(data) is None
    with pytest.raises(AudioError, match=r"^not audio that can be decoded$"):
        decoded(bytes(range(256)) * 9)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m4a", []),
        ("a.m4a", ["-movflags", "+faststart"]),
        ("a.m4a", ["-c:a", "alac"]),
        ("a.webm", []),
        ("a.wma", []),
        ("a.aac", []),
        ("a.opus", []),
    ],
)
def test_what_ffmpeg_writes_is_read_whole_or_refused(
    name: str, options: list[str], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(3 * RATE), RATE)
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        str(tmp_path / "a.wav"),
        *options,
        str(tmp_path / name),
    ]
    subprocess.run(command, check=True)
    data = (tmp_path / name).read_bytes()
    assert abs(len(decoded(data, name)) - 3 * RATE) < 2000
    for share in (0.1, 0.35, 0.8, 0.999):
        assert "truncated" in outcome(data[: int(share * len(data))], name)
