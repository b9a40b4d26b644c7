"""Compressed audio: whether a stream has its end, and whether its header names all of it.

Decoders read a stream that was cut off, or that another stream follows, without an error. So each
function here walks over the pages, frames or boxes of a format, and decodes no samples.

Sources: RFC 3533 (Ogg), RFC 9639 (FLAC), ISO 14496-12 (MP4), ISO 13818-7 (ADTS), RFC 4867 (AMR),
RFC 8794 (Matroska).
"""

import functools
import re
import struct
from collections.abc import Callable

from features.errors import AudioError
from features.headers import truncated, two_recordings
from features.mpeg import Stream, after_tags, checked_mpeg


def checked(data: bytes) -> Stream:
    """Return the stream `data`; if it is MP3 that does not name its length, with the length.

    Raises AudioError if the end of the stream is missing, if its header does not name all of it,
    or if another recording follows. Streams of other formats are returned as they are.
    """
    start = after_tags(data)
    for magic, check in _CHECKS:
        # FLAC is FLAC behind tags, too. All other formats begin with their own bytes.
        if re.compile(magic, re.S).match(data, start if check is _flac else 0):
            try:
                return check(data) or Stream(data)
            except struct.error:
                raise truncated("its header has no end") from None
    return Stream(data)


def needs_ffmpeg(data: bytes) -> str | None:
    """The name of the format of `data`, if libsndfile cannot read the format but ffmpeg can."""
    return next((name for magic, name in _FFMPEG if re.match(magic, data, re.S)), None)


def _check_second(data: bytes, magic: bytes) -> None:
    """Raise AudioError if another recording, which begins with `magic`, follows."""
    if (second := data.find(magic, len(magic))) >= 0:
        raise two_recordings(second)


def _ogg(data: bytes) -> None:
    """Vorbis, Opus, FLAC and Speex in Ogg."""
    streams: dict[int, bool] = {}  # serial number -> whether the last page has come
    at, started = 0, False
    while (at := data.find(b"OggS", at)) >= 0:
        table = data[at + 27 :][: data[at + 26]] if len(data) > at + 26 else b""
        end = at + 27 + len(table) + sum(table)
        if len(data) <= at + 26 or len(table) < data[at + 26] or end > len(data):
            raise truncated(f"the page at byte {at} has no end")
        flags, serial = data[at + 5], struct.unpack_from("<I", data, at + 14)[0]
        if flags & 2 and started:
            raise two_recordings(at)
        started |= not flags & 2
        streams[serial] = bool(flags & 4)
        at = end
    if not all(streams.values()):
        raise AudioError(
            "truncated, or its recorder was stopped: no page is marked as the last. If you know "
            "that the recording is whole, encode it again"
        )


_STREAMINFO = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.S)


def _flac(data: bytes) -> None:
    headers = [match.start() for match in _STREAMINFO.finditer(data)]
    if len(headers) > 1:
        raise two_recordings(headers[1])
    if headers and len(data) >= headers[0] + 42:
        block, largest = struct.unpack_from(">2xH3xI", data, headers[0] + 8)
        total = int.from_bytes(data[headers[0] + 21 : headers[0] + 26]) & 0xF_FFFF_FFFF
        end = _flac_end(data, block, min((largest >> 8) or 1 << 18, _LARGEST))
        if end is not None and 0 < total < end:
            raise AudioError(
                f"its header names {total} samples, but its frames hold {end}. Encode the file "
                "again, or split it if it holds two recordings"
            )


_ATTEMPTS = 8
"""Headers of frames that are tried from the end of a FLAC. By chance, 1 of 256 looks right."""
_LARGEST = 1 << 21
"""Bytes of the largest frame: 65,535 samples of 8 channels with 32 bits."""


def _flac_end(data: bytes, block: int, largest: int) -> int | None:
    """The number of samples by the last frame; None if the file does not end with a frame."""
    sync = [m.start() for m in re.finditer(rb"(?=\xff[\xf8\xf9])", data[-largest - 16 :])]
    offset = max(len(data) - largest - 16, 0)
    attempts = 0
    for at in reversed(sync):
        frame = data[offset + at : offset + at + 16]
        if len(frame) < 16 or not frame[2] >= 0x10 or frame[2] & 15 == 15 or frame[3] & 1:
            continue
        ones = 8 - (frame[4] ^ 0xFF).bit_length()  # bytes of the coded number; 0 means 1
        if ones in (1, 8):
            continue
        number = frame[4] & (0x7F >> ones)
        for byte in frame[5 : 5 + max(ones, 1) - 1]:
            number = number << 6 | byte & 0x3F
        head = 4 + max(ones, 1)
        code = frame[2] >> 4
        if code in (6, 7):
            size = int.from_bytes(frame[head : head + code - 5]) + 1
            head += code - 5
        else:
            size = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
        head += {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)
        if _crc(frame[: head + 1], 8, 0x07):
            continue
        attempts += 1
        if attempts > _ATTEMPTS:  # a file that was made to take hours
            return None
        if _crc(data[offset + at :], 16, 0x8005):
            continue
        return (number if frame[1] & 1 else number * block) + size
    return None


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """The checksum of FLAC: 0 if the last bytes of `data` are the checksum of the others."""
    table = _crc_table(bits, polynomial)
    value, mask, shift = 0, (1 << bits) - 1, bits - 8
    for byte in data:
        value = value << 8 & mask ^ table[value >> shift ^ byte]
    return value


@functools.cache
def _crc_table(bits: int, polynomial: int) -> tuple[int, ...]:
    """The checksum of each byte."""
    values = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> bits - 1 else 0)
            value &= (1 << bits) - 1
        values.append(value)
    return tuple(values)


def _mp4(data: bytes) -> None:
    """MP4, M4A and 3GP: walk over the boxes at the top."""
    names = []
    at = 0
    while at < len(data) and (at + 8 > len(data) or _BOX.match(data, at + 4)):
        head = data[at : at + 16].ljust(16, b"\0")
        size, name, large = struct.unpack(">I4sQ", head)
        if name == b"ftyp" and at:
            raise two_recordings(at)
        size = len(data) - at if size == 0 else max(large, 16) if size == 1 else max(size, 8)
        if at + size > len(data):
            place = f"its part {name.decode(errors='replace')} at byte {at}"
            raise truncated(f"{len(data) - at} of {size} bytes of {place} are present")
        names.append(name)
        at += size
    for name in (b"moov", b"mdat"):
        if name not in names:
            raise truncated(f"its part {name.decode()} is missing")


_BOX = re.compile(rb"[\x20-\x7e\xa9]{4}")
"""Names of boxes."""


def _frames(size: Callable[[bytes, int], int], start: int) -> Callable[[bytes], None]:
    """A check of a stream that consists of frames: the last must have its end.

    size : (data, place of a frame) -> bytes of the frame; 0 if no frame is there
    """

    def check(data: bytes) -> None:
        at = start
        while at < len(data) and (length := size(data, at)):
            if at + length > len(data):
                raise truncated(f"its last frame has {len(data) - at} of {length} bytes")
            at += length

    return check


def _adts(data: bytes, at: int) -> int:
    head = data[at : at + 6]
    if len(head) < 6:
        return 6 if head.startswith(b"\xff") else 0
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


_AMR = {
    b"#!AMR\n": (12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0),
    b"#!AMR-WB\n": (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, 0, 0, 0, 0, 0, 0),
}
"""Bytes of the content of a frame by its type."""


def _amr(data: bytes) -> None:
    magic = data[: data.index(b"\n") + 1]
    sizes = _AMR[magic]
    _check_second(data, magic)
    _frames(lambda data, at: 1 + sizes[data[at] >> 3 & 15], len(magic))(data)


def _matroska(data: bytes) -> None:
    """Matroska and WebM. A stream may leave the size of its segment unknown."""
    magic, at = data[:4], data.find(b"\x18\x53\x80\x67")
    if at >= 0 and len(data) > at + 12 and data[at + 4]:
        length = 9 - data[at + 4].bit_length()
        value = int.from_bytes(data[at + 4 : at + 4 + length]) & (1 << 7 * length) - 1
        present = len(data) - at - 4 - length
        if value == (1 << 7 * length) - 1:
            return
        if present < value:
            raise truncated(f"{present} of {value} bytes of its segment are present")
        end = len(data) - present + value
        if data.startswith(magic, end):
            raise two_recordings(end)
        return
    _check_second(data, magic)


def _asf(data: bytes) -> None:
    """WMA: the data object stands after the header object."""
    if len(data) >= 24:
        at = struct.unpack_from("<Q", data, 16)[0]
        size = struct.unpack_from("<Q", data, at + 16)[0] if len(data) >= at + 24 else 24
        if at + size > len(data):
            raise truncated(f"{max(len(data) - at, 0)} of {size} bytes of its data are present")
    _check_second(data, data[:16])


_MP4_MAGIC = rb"....ftyp"
_ADTS_MAGIC = rb"\xff[\xf0\xf1\xf8\xf9]"
_ASF_MAGIC = rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_CHECKS: tuple[tuple[bytes, Callable[[bytes], Stream | None]], ...] = (
    (rb"OggS", _ogg),
    (rb"fLaC[\x00\x80]\x00\x00\x22", _flac),
    (_ADTS_MAGIC, _frames(_adts, 0)),
    (rb"ID3|\xff[\xe0-\xff]", checked_mpeg),
    (_MP4_MAGIC, _mp4),
    (rb"#!AMR(-WB)?\n", _amr),
    (rb"\x1a\x45\xdf\xa3", _matroska),
    (_ASF_MAGIC, _asf),
)
"""Each format: a pattern of its first bytes, and its check."""
_FFMPEG = (
    (_MP4_MAGIC, "MP4 or M4A"),
    (_ADTS_MAGIC, "AAC"),
    (rb"#!AMR", "AMR"),
    (rb"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (_ASF_MAGIC, "WMA"),
    (rb"\.RMF|\.ra\xfd", "RealAudio"),
    (rb"MAC |wvpk|TTA1|MPCK|MP\+", "a compressed format"),
)
"""Formats that ffmpeg reads and libsndfile does not."""
