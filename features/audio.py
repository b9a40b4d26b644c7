"""Audio files as mono float samples at 16 kHz, or one clear reason why a file cannot be used."""

import contextlib
import functools
import hashlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features.absences import LONGEST_POINTER, pointer
from features.errors import AudioError, DecoderError
from features.headers import ENCODE_AGAIN, complete
from features.mpeg import Stream
from features.recordings import Recordings
from features.signal import MIN_SAMPLES, SAMPLE_RATE, scale_problem
from features.storage import Storage
from features.streams import checked, needs_ffmpeg

SLACK = 0.020
"""Seconds that a segment may end after its file, because labels are often rounded."""
_ENDLESS = 1 << 62
"""Least length that libsndfile returns for a FLAC without a length in its header."""
_BINARY = frozenset(range(9)) | frozenset(range(14, 32)) - {27}
"""Bytes that no text contains. The head of every recording contains some."""
_RATES = (1_000, 1_000_000)
"""Plausible sample rates. At 1 Hz, the conversion would make 16,000 samples of each sample."""
_LOGGED = ("MAT4", "PAF", "VOC")
"""Formats of which libsndfile reads a truncated file, and only writes so in its log."""
_STEP = 2.0**-15
"""The step between samples of 16 bits."""
_CANCELLED = 0.01
"""Least power of the average of several channels, in units of its power if they were unrelated."""
_DOMINANT = 0.9
"""Share of the power of three or more channels from which on one channel alone has the voice."""


@dataclass(frozen=True)
class AudioFile:
    """A file's bytes, not yet decoded."""

    name: str
    data: bytes
    sha1: str

    @functools.cached_property
    def stream(self) -> Stream:
        """The checked stream. A file with many segments is checked once. Raises AudioError."""
        return checked(complete(self.data))


class Header(NamedTuple):
    """What the header of a recording says.

    format : container and encoding, for example "WAV PCM_16"
    """

    format: str
    sample_rate: int
    channels: int
    seconds: float


def fetch(storage: Storage | Recordings, name: str) -> AudioFile:
    """Read a file's bytes and compute their SHA-1.

    Raises AudioError if the file is missing or empty, or a pointer of Git in place of it.
    """
    try:
        data = storage.read(name)
    except FileNotFoundError:
        raise AudioError("missing") from None
    if not data:
        raise AudioError("empty: 0 bytes")
    if reason := pointer(data):
        raise AudioError(reason)
    return AudioFile(name, data, hashlib.sha1(data).hexdigest())


def read_header(path: str) -> Header:
    """Read the header of a local file, and the file itself only if its header names no length.

    Raises AudioError if the length would be known only after decoding, and OSError if the file
    cannot be read.
    """
    import soundfile

    try:
        info = _info(path)
        frames = int(info.frames)
        if info.format == "MP3" or not 0 < frames < _ENDLESS:
            data, counted = checked(complete(Path(path).read_bytes()))
            frames = counted or int(info.frames)
            if not 0 < frames < _ENDLESS:
                frames = int(soundfile.info(io.BytesIO(data)).frames)
    except soundfile.LibsndfileError as error:
        with open(path, "rb") as stream:
            head = stream.read(LONGEST_POINTER + 1)
        if reason := pointer(head):
            raise AudioError(reason) from None
        kind = needs_ffmpeg(head)
        if kind is None:
            reason = error.error_string
        elif shutil.which("ffmpeg") is None:
            reason = f"{kind} needs ffmpeg, which is not installed: install ffmpeg on every node"
        else:
            reason = f"ffmpeg measures {kind} during the extraction. No change is needed"
        raise AudioError(f"its length is unknown: {reason}") from None
    if frames >= _ENDLESS:
        raise AudioError("its header has no length: encode the file again")
    kind = f"{info.format} {info.subtype}"
    return Header(kind, int(info.samplerate), int(info.channels), frames / info.samplerate)


def _info(path: str) -> Any:
    import soundfile

    try:
        return soundfile.info(path)
    except TypeError:  # by the suffix .raw, soundfile expects samples without a header
        return soundfile.info(io.BytesIO(Path(path).read_bytes()))


def decode(
    file: AudioFile, start: float | None = None, end: float | None = None
) -> npt.NDArray[np.float32]:
    """Decode the segment from `start` to `end` (seconds; None: the limits of the file).

    Returns (n,) float32 at 16 kHz: channels are averaged, soxr converts other sample rates.
    libsndfile reads the file; audioread reads other formats if their decoders are
    installed. A header that names no length is repaired.

    Raises AudioError if the file is not audio, is truncated, or holds more samples than its header
    names; if the segment ends after the file (by over 20 ms); if samples are NaN, infinite, all
    equal (silent), shorter than 30 ms, only rounding noise, or float on a scale of integers; and if
    the average of the channels loses the voice. Raises DecoderError if the format needs ffmpeg and
    ffmpeg is missing.
    """
    samples, rate = _decode(file, start or 0.0, end)  # (n, channels)
    if not np.isfinite(samples).all():
        raise AudioError("some samples are NaN or infinite")
    if (problem := scale_problem(samples)) is not None:
        raise AudioError(problem)
    mono = samples.mean(axis=1, dtype=np.float32)
    if len(mono):
        _check_channels(samples, mono)
        _check_sound(mono)
    if rate != SAMPLE_RATE and len(mono):
        import soxr

        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    if len(mono) < MIN_SAMPLES:
        milliseconds = 1000 * len(mono) / SAMPLE_RATE
        raise AudioError(f"too short: {milliseconds:.1f} ms, at least 30 ms are needed")
    return np.ascontiguousarray(mono)


def _check_channels(samples: npt.NDArray[np.float32], mono: npt.NDArray[np.float32]) -> None:
    """Raise AudioError if the average of the channels loses the voice of the recording."""
    channels = samples.shape[1]
    if channels < 2:
        return
    power = samples.var(axis=0, dtype=np.float64)  # (channels,)
    if np.sqrt(power.max()) <= _STEP:
        return
    kept = mono.var(dtype=np.float64) * channels**2 / power.sum()
    if kept < _CANCELLED:
        decibels = 10 * np.log10(max(kept, 1e-12))
        raise AudioError(
            f"its {channels} channels cancel each other: their average is {-decibels:.0f} dB "
            "softer than the average of unrelated channels. Keep one channel (ffmpeg -i OLD -af "
            "'pan=mono|c0=c0' NEW), or invert the channel with the wrong polarity"
        )
    loudest = int(power.argmax())
    share = power[loudest] / power.sum()
    if channels > 2 and share > _DOMINANT:
        raise AudioError(
            f"only channel {loudest + 1} of {channels} has the voice ({share:.1%} of the power): "
            f"their average would make the voice {20 * np.log10(channels):.0f} dB softer. Keep "
            f"this channel (ffmpeg -i OLD -af 'pan=mono|c0=c{loudest}' NEW)"
        )


def _check_sound(mono: npt.NDArray[np.float32]) -> None:
    """Raise AudioError if the signal is silent, or does not exceed rounding noise of 16 bits."""
    spread = np.ptp(mono)
    if spread == 0:
        raise AudioError(f"silent: every sample is {mono[0]:g}")
    if spread > 5 * _STEP:  # some sample is more than 2 steps from the median, which is slow
        return
    steps = float(np.abs(mono - np.median(mono)).max()) / _STEP
    if steps <= 2:
        raise AudioError(
            f"only rounding noise: its samples reach {steps:.2g} steps of 16 bits "
            f"({20 * np.log10(steps * _STEP):.0f} dB). Record or export it at a higher level"
        )


def _decode(file: AudioFile, start: float, end: float | None) -> tuple[np.ndarray, int]:
    import soundfile

    data, counted = file.stream
    with contextlib.ExitStack() as stack:
        # libsndfile 1.2.2 cannot read some MPEG streams from memory ("bad data offset").
        source = (
            io.BytesIO(data) if counted is None else stack.enter_context(_copy(file.name, data))
        )
        try:
            sound = stack.enter_context(soundfile.SoundFile(source))
        except soundfile.LibsndfileError:
            samples, rate = _decode_other(file.name, data)
            first, last = _bounds(start, end, len(samples), rate)
            return samples[first:last], rate
        rate, total = int(sound.samplerate), counted or int(sound.frames)
        if total >= _ENDLESS:
            raise AudioError("its header has no length: encode the file again")
        if sound.format in _LOGGED and "truncated" in sound.extra_info:
            raise AudioError(f"truncated, as libsndfile says; {ENCODE_AGAIN}")
        first, last = _bounds(start, end, total, rate)
        try:
            if first:
                sound.seek(first)
            samples = sound.read(last - first, dtype="float32", always_2d=True)
        except MemoryError:  # soundfile allocates the samples that the header claims
            raise AudioError(f"its header claims {total} samples, too many for memory") from None
        except soundfile.LibsndfileError as error:
            raise AudioError(f"truncated or damaged: {error.error_string}") from None
    if len(samples) < last - first:
        raise AudioError(
            f"truncated: its header claims {total / rate:.3f} s, "
            f"but the data end at {(first + len(samples)) / rate:.3f} s"
        )
    return samples, rate


@contextlib.contextmanager
def _copy(name: str, data: bytes) -> Iterator[str]:
    """The path of a temporary file with this content, and with the suffix of `name`."""
    suffix = PurePosixPath(name).suffix
    suffix = "" if suffix.lower() == ".raw" else suffix  # as in `_info`
    with tempfile.NamedTemporaryFile(suffix=suffix) as copy:
        copy.write(data)
        copy.flush()
        yield copy.name


def _bounds(start: float, end: float | None, total: int, rate: int) -> tuple[int, int]:
    """The first frame of a segment, and the frame after its last."""
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(f"its header claims {rate} samples per second")
    seconds = total / rate
    if start >= seconds > 0 or start > seconds == 0 or (end is not None and end > seconds + SLACK):
        segment = f"{start:.3f} to {'its end' if end is None else format(end, '.3f')} s"
        raise AudioError(f"wrong length: the file has {seconds:.3f} s, the segment is {segment}")
    return round(start * rate), total if end is None else min(round(end * rate), total)


def _decode_other(name: str, data: bytes) -> tuple[np.ndarray, int]:
    """Decode a format that libsndfile cannot read, by the decoders that audioread finds.

    Text is refused, because decoders read playlists and open the files that these name.
    """
    if not set(data[:1024]) & _BINARY:
        raise AudioError("not audio that can be decoded: the file is text")
    with _copy(name, data) as path, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hide warnings about modules that Python will remove
        import audioread

        try:
            with audioread.audio_open(path) as audio:
                rate, channels = audio.samplerate, audio.channels
                samples = np.frombuffer(b"".join(audio), "<i2").reshape(-1, channels)
        except Exception as error:  # decoders raise errors of any type
            kind = needs_ffmpeg(data)
            if kind is not None and shutil.which("ffmpeg") is None:
                raise DecoderError(
                    f"{kind} needs ffmpeg, which is not installed: install ffmpeg on every node, "
                    "or convert the file to FLAC or WAV"
                ) from error
            raise AudioError("not audio that can be decoded") from error
    return samples.astype(np.float32) / 2**15, int(rate)
