"""Audio files as mono float samples at 16 kHz, with one clear reason where that fails."""

import hashlib
import io
import struct
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from features.samples import MIN_SAMPLES, SAMPLE_RATE
from features.storage import Storage

_SLACK = 0.020
"""Seconds that a segment may reach past its file's end: labels are often rounded."""
_UNKNOWN_LENGTH = 0x7FFF_F000
"""What programs that write WAV into a pipe claim, at least, as they cannot know the length."""

_ENDLESS = 1 << 62
"""What libsndfile says of a FLAC whose writer did not know its length, at least."""

_BINARY = frozenset(range(9)) | frozenset(range(14, 32)) - {27}
"""Bytes that texts do not have, and the head of every recording has."""

_RATES = (1_000, 1_000_000)
"""Sample rates that speech has. A second at 1 Hz would become 16,000 for each of its samples."""


class AudioError(ValueError):
    """An utterance that cannot be used, and the one reason why."""


@dataclass(frozen=True)
class AudioFile:
    """A file's bytes, not yet decoded."""

    name: str
    data: bytes
    sha1: str


def fetch(storage: Storage, name: str) -> AudioFile:
    """A file's bytes and their SHA-1 (hex). Raises AudioError where it is missing or empty."""
    try:
        data = storage.read(name)
    except FileNotFoundError:
        raise AudioError("missing") from None
    if not data:
        raise AudioError("empty: 0 bytes")
    return AudioFile(name, data, hashlib.sha1(data).hexdigest())


def decode(
    file: AudioFile, start: float | None = None, end: float | None = None
) -> npt.NDArray[np.float32]:
    """The segment from `start` to `end` (seconds; None: the file's own) of a file.

    Returns (n,) float32 at 16 kHz: channels averaged, other rates converted by soxr. Any format
    that libsndfile reads; others through librosa's fallback, where its decoders are installed.

    Raises AudioError: not audio, truncated, segment beyond the file's end (by over 20 ms), NaN
    or infinite samples, silent to the sample (one value throughout), shorter than 30 ms.
    """
    samples, rate = _decode(file, start or 0.0, end)  # (n, channels)
    if not np.isfinite(samples).all():
        raise AudioError("holds samples that are NaN or infinite")
    mono = samples.mean(axis=1, dtype=np.float32)
    if len(mono) and np.ptp(mono) == 0:
        raise AudioError(f"silent: every sample is {mono[0]:g}")
    if rate != SAMPLE_RATE and len(mono):
        import soxr

        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    if len(mono) < MIN_SAMPLES:
        raise AudioError(f"too short: {1000 * len(mono) / SAMPLE_RATE:.1f} ms, the least is 30 ms")
    return np.ascontiguousarray(mono)


def read(
    storage: Storage, name: str, start: float | None = None, end: float | None = None
) -> tuple[npt.NDArray[np.float32], str]:
    """Samples of a segment (as `decode`) and the SHA-1 of its file's bytes."""
    file = fetch(storage, name)
    return decode(file, start, end), file.sha1


def _decode(file: AudioFile, start: float, end: float | None) -> tuple[np.ndarray, int]:
    import soundfile

    _check_riff(file.data)
    try:
        with soundfile.SoundFile(io.BytesIO(file.data)) as sound:
            rate, total = int(sound.samplerate), int(sound.frames)
            _check_rate(rate)
            if total >= _ENDLESS:
                raise AudioError("its header does not tell its length: write the file anew")
            first, last = _bounds(start, end, total, rate)
            if first:
                sound.seek(first)
            samples = sound.read(last - first, dtype="float32", always_2d=True)
    except MemoryError:  # memory is taken by the header, before there are samples
        raise AudioError(f"its header tells of {total} samples, which no memory holds") from None
    except soundfile.LibsndfileError as error:
        if _opens(file.data):
            raise AudioError(f"truncated or damaged: {error.error_string}") from None
        samples, rate = _decode_other(file)
        _check_rate(rate)
        first, last = _bounds(start, end, len(samples), rate)
        samples = samples[first:last]
    if len(samples) < last - first:
        raise AudioError(
            f"truncated: its header tells of {total / rate:.3f} s, "
            f"the data end at {(first + len(samples)) / rate:.3f} s"
        )
    return samples, rate


def _check_rate(rate: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(f"its header tells of {rate} samples a second")


def _bounds(start: float, end: float | None, total: int, rate: int) -> tuple[int, int]:
    """First and one past the last frame of a segment."""
    seconds = total / rate
    if start >= seconds > 0 or start > seconds == 0 or (end is not None and end > seconds + _SLACK):
        segment = f"{start:.3f} to {'its end' if end is None else format(end, '.3f')} s"
        raise AudioError(
            f"wrong length: the segment {segment} lies beyond the file's {seconds:.3f} s"
        )
    return round(start * rate), total if end is None else min(round(end * rate), total)


def _opens(data: bytes) -> bool:
    import soundfile

    try:
        soundfile.SoundFile(io.BytesIO(data)).close()
    except soundfile.LibsndfileError:
        return False
    return True


def _check_riff(data: bytes) -> None:
    """Raise AudioError for a WAV cut short: libsndfile reads what there is and says nothing."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"data":
            there = len(data) - at - 8
            if there < size < _UNKNOWN_LENGTH:
                raise AudioError(f"truncated: {there} of {size} bytes of samples are there")
            return
        at += 8 + size + size % 2
    raise AudioError("truncated: a WAV header without samples")


def _decode_other(file: AudioFile) -> tuple[np.ndarray, int]:
    """What libsndfile cannot read, through librosa (audioread and the decoders it finds).

    No text: decoders know playlists, which make them open what the text names.
    """
    if not set(file.data[:1024]) & _BINARY:
        raise AudioError("not audio that can be decoded: it is text")
    import librosa

    with tempfile.NamedTemporaryFile(suffix=PurePosixPath(file.name).suffix) as copy:
        copy.write(file.data)
        copy.flush()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                samples, rate = librosa.load(copy.name, sr=None, mono=False)
        except Exception as error:  # decoders raise what they like
            raise AudioError("not audio that can be decoded") from error
    return np.atleast_2d(samples).T, int(rate)
