"""Headers of uncompressed audio: whether they name the samples that follow, all and no more.

libsndfile reads a file that was cut off, or whose header names too few samples, without an error.
So each reader here finds the samples as the header names them, and `complete` compares them with
the bytes of the file. A header without a length (a recorder that was stopped, a pipe) is repaired.

Sources: Microsoft and IBM, Multimedia Programming Interface 1.0 (RIFF); EBU Tech 3306 (RF64); Sony
Wave64; Apple, AIFF 1.3 and Core Audio Format; Sun's audio file format; NIST SPHERE.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from features.errors import AudioError

ENCODE_AGAIN = "copy the file from its source again, or encode it again"
"""The remedy for a damaged file."""
_MAGIC = (
    *(b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff\x2e\x91\xcf\x11", b"FORM", b"caff"),
    *(b".snd", b"NIST_1A", b"fLaC", b"OggS"),
)
"""Beginnings of recordings, which show that a file holds two."""
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
"""Beginnings of tags that players append to a recording of any format."""
_JUNK_S = 0.02
"""Seconds of bytes after the samples that are ignored, because some programs append a few bytes."""
_LEAST_JUNK = 64
"""Bytes after the samples that are ignored at any sample rate."""


class Chunk(NamedTuple):
    """A named part of a file: its content is `data[start:start + size]`."""

    name: bytes
    start: int
    size: int


class Extent(NamedTuple):
    """The samples as a header names them.

    start : the first byte of the samples
    size : bytes of samples; None if the header does not know
    rate : bytes for each second; 0 if unknown
    repaired : the whole file with a right header, for a number of bytes of samples
    after : the chunks from a byte on, in containers that have chunks after the samples
    shifted : whether libsndfile cannot find the samples, because a chunk has no pad byte
    """

    start: int
    size: int | None
    rate: float
    repaired: Callable[[int], bytes]
    after: Callable[[int], Iterator[Chunk]] = lambda at: iter(())
    shifted: bool = False


def complete(data: bytes) -> bytes:
    """Return the file `data` with a header that names all its samples.

    The result is `data` itself unless its header has no length, or a chunk has no pad byte.
    Raises AudioError if samples are missing, if more follow than the header names, or if another
    recording follows.
    """
    magic, find = next((each for each in _READERS if re.match(each[0], data, re.S)), (b"", None))
    try:
        extent = None if find is None else find(data)
    except struct.error:
        raise truncated("its header has no end") from None
    if extent is None:
        return data
    present = len(data) - extent.start
    size = extent.size
    if size == 0 and present and _unnamed(data, extent, extent.start) > _junk(extent):
        size = None
    if size is None:
        if second := re.compile(magic, re.S).search(data, extent.start):
            _check_second(data, second.start())
        return extent.repaired(present)
    if present < size:
        raise truncated(f"{max(present, 0)} of {size} bytes of samples are present")
    unnamed = _unnamed(data, extent, extent.start + size)
    if unnamed > _junk(extent):
        raise AudioError(
            f"its header names {size} bytes of samples, but {unnamed} more bytes follow. If "
            "these are samples, repair the header (for WAV: ffmpeg -ignore_length 1 -i OLD NEW). "
            "Otherwise, remove these bytes"
        )
    return extent.repaired(size) if extent.shifted else data


def truncated(reason: str) -> AudioError:
    """The error for a file that was cut off."""
    return AudioError(f"truncated: {reason}; {ENCODE_AGAIN}")


def two_recordings(at: int) -> AudioError:
    """The error for a file with two recordings, of which the second begins at byte `at`."""
    return AudioError(
        f"two recordings in one file: the second begins at byte {at}. Split the file, and give "
        "each recording its own row"
    )


def _check_second(data: bytes, at: int) -> None:
    """Raise AudioError if another recording begins at byte `at`, or after zeros from there on."""
    zeros = re.compile(rb"\0*").match(data, at)
    if zeros and data.startswith(_MAGIC, zeros.end()):
        raise two_recordings(zeros.end())


def _junk(extent: Extent) -> float:
    return max(_JUNK_S * extent.rate, _LEAST_JUNK)


def _unnamed(data: bytes, extent: Extent, at: int) -> int:
    """Bytes from `at` on that no chunk or tag contains. Trailing zeros do not count."""
    _check_second(data, at)
    for chunk in extent.after(at):
        if chunk.name == b"data":
            raise AudioError(
                f"two chunks of samples: the second begins at byte {chunk.start}. Encode the file "
                "again with a program that reads both"
            )
        at = min(chunk.start + chunk.size, len(data))
        _check_second(data, at)
    rest = data[at:].strip(b"\0")
    return 0 if rest.startswith(_TAGS) else len(rest)


def _chunks(data: bytes, at: int, order: str) -> Iterator[Chunk]:
    """The chunks of RIFF (`<`) and FORM (`>`), with or without the pad byte of odd chunks.

    Ends at the first bytes that are not a chunk. Only the last chunk may end after the file.
    """
    while (chunk := _chunk(data, at, order)) is not None:
        yield chunk
        at = chunk.start + chunk.size
        if chunk.size % 2 and (_chunk(data, at + 1, order) or not _chunk(data, at, order)):
            at += 1


_NAME = re.compile(rb"[A-Za-z_(][\x20-\x7e]{3}")
_TRAILING = frozenset(
    b"LIST,bext,iXML,id3 ,ID3 ,JUNK,cue ,smpl,fact,PEAK,data,SSND,BODY".split(b",")
)
"""Names that are believed even if the size that follows goes beyond the file."""


def _chunk(data: bytes, at: int, order: str) -> Chunk | None:
    name, field = data[at : at + 4], data[at + 4 : at + 8]
    if len(field) < 4 or not _NAME.match(name):
        return None
    (size,) = struct.unpack(f"{order}I", field)
    whole = at + 8 + size <= len(data)
    return Chunk(name, at + 8, size) if whole or name in _TRAILING else None


def _placeholder(size: int) -> bool:
    """Whether a program writes this size because it does not know the length (into a pipe)."""
    return 0x7FFF_0000 <= size <= 0x8000_0100 or size >= 0xFFFF_0000


def _wave(data: bytes) -> Extent | None:
    """RIFF, RIFX, RF64 and BW64."""
    order = ">" if data[:4] == b"RIFX" else "<"
    before: dict[bytes, Chunk] = {}
    shifted = False
    for chunk in _chunks(data, 12, order):
        shifted |= bool(chunk.start % 2)
        if chunk.name == b"data":
            break
        before.setdefault(chunk.name, chunk)
    else:
        last = next(reversed(before.values()), None)
        place = f"after the chunk {last.name.decode()} at byte {last.start - 8}" if last else ""
        raise AudioError(f"truncated: a WAV header without samples {place}".rstrip())
    size: int | None = chunk.size
    if size == 0xFFFF_FFFF and b"ds64" in before:
        (size,) = struct.unpack_from("<Q", data, before[b"ds64"].start + 8)
        size = size or None
    if (
        size is not None
        and size > len(data) - chunk.start
        and (_placeholder(size) or size >= 1 << 62)
    ):
        size = None
    return _of_wave(data, chunk.start, size, before, order, shifted)


def _of_wave(
    data: bytes, start: int, size: int | None, before: dict[bytes, Chunk], order: str, shifted: bool
) -> Extent | None:
    """The extent of samples whose format a `fmt ` chunk describes."""
    if b"fmt " not in before or before[b"fmt "].size < 16:
        return None
    rate, align = struct.unpack_from(f"{order}8xIH", data, before[b"fmt "].start)

    def repaired(present: int) -> bytes:
        content = b"WAVE"
        for name in (b"fmt ", b"fact"):
            if name in before:
                body = data[before[name].start :][: before[name].size]
                content += (
                    name + struct.pack(f"{order}I", len(body)) + body + b"\0" * (len(body) % 2)
                )
        samples = data[start:][: present - present % max(align, 1)]
        content += b"data" + struct.pack(f"{order}I", len(samples)) + samples
        return (
            (b"RIFX" if order == ">" else b"RIFF")
            + struct.pack(f"{order}I", len(content))
            + content
        )

    return Extent(start, size, rate, repaired, lambda at: _chunks(data, at, order), shifted)


def _wave64(data: bytes) -> Extent | None:
    before: dict[bytes, Chunk] = {}
    at = 40
    while at + 24 <= len(data):
        name = data[at : at + 4]
        (size,) = struct.unpack_from("<Q", data, at + 16)  # with the 24 bytes of its own header
        if name == b"data":
            known = None if size < 24 or size >= 1 << 62 else size - 24
            extent = _of_wave(data, at + 24, known, before, "<", False)
            return extent and extent._replace(after=lambda at: _chunks64(data, at))
        before[name] = Chunk(name, at + 24, max(size - 24, 0))
        at += max(size + -size % 8, 24)
    raise AudioError("truncated: a Wave64 header without samples")


def _chunks64(data: bytes, at: int) -> Iterator[Chunk]:
    at += -at % 8
    while at + 24 <= len(data) and _NAME.match(data[at : at + 4].replace(b"\0", b" ")):
        (size,) = struct.unpack_from("<Q", data, at + 16)
        if not 24 <= size <= len(data) - at:
            return
        yield Chunk(data[at : at + 4], at + 24, size - 24)
        at += size + -size % 8


def _form(data: bytes) -> Extent | None:
    """AIFF, AIFF-C and Amiga IFF."""
    rate = 0.0
    for chunk in _chunks(data, 12, ">"):
        if chunk.name == b"COMM" and chunk.size >= 18:
            channels, _, bits, exponent, mantissa = struct.unpack_from(">hIhHQ", data, chunk.start)
            frames = math.ldexp(mantissa, min(exponent & 0x7FFF, 17_000) - 16_446)  # 80-bit float
            rate = frames * channels * -(-bits // 8)
        if chunk.name in (b"SSND", b"BODY"):
            break
    else:
        raise AudioError("truncated: an AIFF header without samples")
    field = chunk.start - 4
    start, size = chunk.start, chunk.size
    if chunk.name == b"SSND" and len(data) >= start + 8:
        start, size = start + 8, size - 8
    known = None if chunk.size == 0 or (size > len(data) - start and _placeholder(size)) else size

    def repaired(present: int) -> bytes:
        sizes = struct.pack(">I", present + start - chunk.start)
        return (
            data[:4] + struct.pack(">I", len(data) - 8) + data[8:field] + sizes + data[field + 4 :]
        )

    return Extent(
        start, known, rate, repaired, lambda at: _chunks(data, at, ">"), bool(chunk.start % 2)
    )


_AU_BYTES = {1: 1.0, 2: 1.0, 3: 2.0, 4: 3.0, 5: 4.0, 6: 4.0, 7: 8.0, 23: 0.5, 25: 0.375, 26: 0.625}
"""Bytes of a sample by the number of the encoding."""


def _au(data: bytes) -> Extent | None:
    order = "<" if data[:4] == b"dns." else ">"
    if len(data) < 24:
        raise AudioError("truncated: an AU header without samples")
    start, size, encoding, rate, channels = struct.unpack_from(f"{order}5I", data, 4)
    known = None if _placeholder(size) and size > len(data) - start else size

    def repaired(present: int) -> bytes:
        return data[:8] + struct.pack(f"{order}I", present) + data[12:]

    return Extent(start, known, rate * channels * _AU_BYTES.get(encoding, 1.0), repaired)


def _sphere(data: bytes) -> Extent | None:
    head = data[:1024].split(b"end_head")[0]
    fields = dict(re.findall(rb"^(\w+) -\S+ +(\S+) *$", head, re.M))
    coding = fields.get(b"sample_coding", b"pcm").decode(errors="replace")
    if "," in coding:  # "pcm,embedded-shorten-v2.00"
        raise AudioError(f"compressed SPHERE ({coding}): convert the file to WAV with sph2pipe")
    try:
        start = int(data[8:16])
        width, channels = int(fields[b"sample_n_bytes"]), int(fields.get(b"channel_count", b"1"))
        size = int(fields[b"sample_count"]) * width * channels
        rate = int(fields[b"sample_rate"]) * width * channels
    except (KeyError, ValueError):
        return None
    if size == (len(data) - start) * channels:  # counts the samples of all channels
        size //= channels
    return Extent(start, size, rate, lambda present: data)


def _caf(data: bytes) -> Extent | None:
    at, rate = 8, 0.0
    while at + 12 <= len(data):
        name = data[at : at + 4]
        (size,) = struct.unpack_from(">q", data, at + 4)
        start = at + 12
        if name == b"desc" and start + 32 <= len(data):
            frames, packet, count = struct.unpack_from(">d8xII", data, start)
            rate = frames * packet / max(count, 1)
        if name == b"data":  # begins with 4 bytes that count edits
            known = None if size < 4 else size - 4

            def repaired(present: int, field: int = at + 4) -> bytes:
                return data[:field] + struct.pack(">q", present + 4) + data[field + 8 :]

            return Extent(start + 4, known, rate, repaired, lambda at: _caf_chunks(data, at))
        at = start + max(size, 0)
    raise AudioError("truncated: a CAF header without samples")


def _caf_chunks(data: bytes, at: int) -> Iterator[Chunk]:
    while at + 12 <= len(data) and _NAME.match(data[at : at + 4]):
        (size,) = struct.unpack_from(">q", data, at + 4)
        if not 0 <= size <= len(data) - at - 12:
            return
        yield Chunk(data[at : at + 4], at + 12, size)
        at += 12 + size


def _avr(data: bytes) -> Extent | None:
    if len(data) < 128:
        raise AudioError("truncated: an AVR header without samples")
    stereo, bits = struct.unpack_from(">HH", data, 12)
    (frames,) = struct.unpack_from(">I", data, 26)
    width = bits // 8 * (2 if stereo else 1)
    return Extent(128, frames * width, 0, lambda present: data)


def _wve(data: bytes) -> Extent | None:
    if len(data) < 32:
        raise AudioError("truncated: a WVE header without samples")
    return Extent(32, struct.unpack_from(">I", data, 18)[0], 8000, lambda present: data)


_READERS: tuple[tuple[bytes, Callable[[bytes], Extent | None]], ...] = (
    (rb"(RIFF|RIFX|RF64|BW64)....WAVE", _wave),
    (rb"riff.{12}.{8}wave", _wave64),
    (rb"FORM....(AIFF|AIFC|8SVX|16SV)", _form),
    (rb"\.snd|dns\.", _au),
    (rb"NIST_1A\n", _sphere),
    (rb"caff", _caf),
    (rb"2BIT", _avr),
    (rb"ALawSoundFile", _wve),
)
"""Each container: a pattern of its first bytes, and the function that finds its samples."""
