"""MPEG audio (MP3, MP2, MP1): whether all frames are there, and how many samples they hold.

Sources: ISO 11172-3 and 13818-3 (the frames); the Xing, Info and VBRI headers as LAME, Fraunhofer's
encoder and mpg123 use them; ID3 2.4 (the tag).
"""

import re
import struct
from typing import NamedTuple

from features.errors import AudioError
from features.headers import truncated, two_recordings


class Stream(NamedTuple):
    """A stream that a decoder may read.

    frames : samples of a channel, if the stream does not name them and a decoder would guess
    """

    data: bytes
    frames: int | None = None


_KBITS = {
    (3, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s by (version, layer) as the header codes them: version 3 is MPEG 1, layer 1 is III."""
_MPEG_RATES = (44_100, 48_000, 32_000)


class Mpeg(NamedTuple):
    """The header of a frame of MPEG audio.

    key : version, layer and sample rate, which are equal in all frames of a stream
    size : bytes of the frame; 0 if the header does not tell ("free format")
    side : bytes of the header and the side information
    samples : of a channel
    """

    key: tuple[int, int, int]
    size: int
    side: int
    samples: int


def _mpeg_frame(data: bytes, at: int) -> Mpeg | None:
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or bits == 15 or rate == 3:
        return None
    hertz = _MPEG_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]  # MPEG 1, 2 and 2.5
    kbits = _KBITS[(3, layer) if version == 3 else (2, 3 if layer == 3 else 2)][bits]
    padding = head[2] >> 1 & 1
    mono = head[3] >> 6 == 3
    if layer == 3:
        size = (12_000 * kbits // hertz + padding) * 4
    else:
        size = (72_000 if layer == 1 and version != 3 else 144_000) * kbits // hertz + padding
    side = 4 + ((17 if mono else 32) if version == 3 else (9 if mono else 17))
    samples = 384 if layer == 3 else 576 if layer == 1 and version != 3 else 1152
    return Mpeg((version, layer, rate), size if kbits else 0, side, samples)


def _after_id3(data: bytes, at: int) -> int:
    """The first byte after an ID3v2 tag at `at`; `at` if there is no tag."""
    head = data[at : at + 10]
    if len(head) < 10 or not head.startswith(b"ID3"):
        return at
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return at + 10 + size + (10 if head[5] & 0x10 else 0)


def after_tags(data: bytes) -> int:
    """The first byte after the ID3v2 tags at the beginning; 0 if there are none."""
    start = _after_id3(data, 0)
    while _after_id3(data, start) > start:
        start = _after_id3(data, start)
    return start


def checked_mpeg(data: bytes) -> Stream | None:
    """MP3, MP2 and MP1: compare the frames that are there with the frames that a header names."""
    start = after_tags(data)
    first = _mpeg_frame(data, start)
    if first is None or not first.size:
        return None
    count, at = 0, start
    while at < len(data):
        frame = _mpeg_frame(data, at)
        if frame is not None and frame.key == first.key and frame.size:
            if at + frame.size > len(data):
                raise truncated(f"its last frame has {len(data) - at} of {frame.size} bytes")
            count, at = count + 1, at + frame.size
        elif data.startswith(b"\xff", at) and len(data) - at < 4:
            raise truncated("its last frame has no end")
        else:
            after = _next_frame(data, at, first.key)
            if after is None:
                break
            if _after_id3(data, at) > at:
                raise two_recordings(at)
            at = after
    named = _named_frames(data, start, first)
    if count < 2:
        return None
    if named is None:
        return _counted(data[start:at], count)
    count -= 1  # the frame that names the others has no samples
    frames, size = named
    if not frames:
        return _counted(data[start + first.size : at], count)
    missing = frames - count
    if missing > 1 or (missing == 1 and size > at - start):
        raise truncated(f"its header names {frames} frames, {count} are present")
    if missing < -1:
        raise AudioError(
            f"its header names {frames} frames, but {count} are present. Split the file if it "
            "holds two recordings, or repair its header (ffmpeg -i OLD -c copy NEW)"
        )
    return None


def _next_frame(data: bytes, at: int, key: tuple[int, int, int]) -> int | None:
    """The next byte from `at` on at which two frames of the stream begin, one after the other."""
    for match in re.compile(rb"\xff[\xe0-\xff]").finditer(data, at):
        frame = _mpeg_frame(data, match.start())
        if frame is not None and frame.key == key and frame.size:
            second = _mpeg_frame(data, match.start() + frame.size)
            if second is not None and second.key == key:
                return match.start()
    return None


def _named_frames(data: bytes, start: int, first: Mpeg) -> tuple[int, int] | None:
    """Frames and bytes of the stream by its Xing, Info or VBRI header, 0 if it does not name them.

    None without such a header.
    """
    at = start + first.side
    if data[at : at + 4] in (b"Xing", b"Info"):
        flags, frames, size = struct.unpack_from(">III", data, at + 4)
        return (frames if flags & 1 else 0), (size if flags & 3 == 3 else 0)
    if data[start + 36 : start + 40] == b"VBRI":
        size, frames = struct.unpack_from(">II", data, start + 46)
        return frames, size
    return None


def _counted(frames: bytes, count: int) -> Stream | None:
    """The frames of a stream without a header that names their number, and their samples.

    mpg123 guesses the number from the size of the first frame, and libsndfile reads no more than
    the guess. Zeros after the frames make the guess large enough.
    """
    first = _mpeg_frame(frames, 0)
    if first is None:
        return None
    zeros = max((count + 2) * first.size - len(frames), 0)
    return Stream(frames + bytes(zeros), count * first.samples)
