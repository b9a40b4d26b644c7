"""Audio files as mono float samples at 16 kHz, or one clear reason why a file cannot be used."""

import hashlib
import io
import struct
import tempfile
import warnings
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.absences import pointer
from features.errors import AudioError
from features.recordings import Recordings
from features.signal import MIN_SAMPLES, SAMPLE_RATE
from features.storage import Storage

_SLACK = 0.020
"""Seconds that a segment may end after its file, because labels are often rounded."""
_UNKNOWN_LENGTH = 0x7FFF_F000
"""Least length that a program writes if it does not know it (it writes WAV into a pipe)."""
_ENDLESS = 1 << 62
"""Least length that libsndfile returns for a FLAC without a length in its header."""
_BINARY = frozenset(range(9)) | frozenset(range(14, 32)) - {27}
"""Bytes that no text contains. The head of every recording contains some."""
_RATES = (1_000, 1_000_000)
"""Plausible sample rates. At 1 Hz, the conversion would make 16,000 samples of each sample."""


class AudioFile(NamedTuple):
    """A file's bytes, not yet decoded."""

    name: str
    data: bytes
    sha1: str


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


def decode(
    file: AudioFile, start: float | None = None, end: float | None = None
) -> npt.NDArray[np.float32]:
    """Decode the segment from `start` to `end` (seconds; None: the limits of the file).

    Returns (n,) float32 at 16 kHz: channels are averaged, soxr converts other sample rates.
    libsndfile reads the file; librosa's fallback reads other formats if their decoders are
    installed.

    Raises AudioError if the file is not audio or is truncated; if the segment ends after the file
    (by over 20 ms); and if samples are NaN, infinite, all equal (silent), or shorter than 30 ms.
    """
    samples, rate = _decode(file, start or 0.0, end)  # (n, channels)
    if not np.isfinite(samples).all():
        raise AudioError("some samples are NaN or infinite")
    mono = samples.mean(axis=1, dtype=np.float32)
    if len(mono) and np.ptp(mono) == 0:
        raise AudioError(f"silent: every sample is {mono[0]:g}")
    if rate != SAMPLE_RATE and len(mono):
        import soxr

        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    if len(mono) < MIN_SAMPLES:
        milliseconds = 1000 * len(mono) / SAMPLE_RATE
        raise AudioError(f"too short: {milliseconds:.1f} ms, at least 30 ms are needed")
    return np.ascontiguousarray(mono)


def _decode(file: AudioFile, start: float, end: float | None) -> tuple[np.ndarray, int]:
    import soundfile

    _check_riff(file.data)
    try:
        sound = soundfile.SoundFile(io.BytesIO(file.data))
    except soundfile.LibsndfileError:
        samples, rate = _decode_other(file)
        first, last = _bounds(start, end, len(samples), rate)
        return samples[first:last], rate
    with sound:
        rate, total = int(sound.samplerate), int(sound.frames)
        if total >= _ENDLESS:
            raise AudioError("its header has no length: encode the file again")
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


def _bounds(start: float, end: float | None, total: int, rate: int) -> tuple[int, int]:
    """The first frame of a segment, and the frame after its last."""
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(f"its header claims {rate} samples per second")
    seconds = total / rate
    if start >= seconds > 0 or start > seconds == 0 or (end is not None and end > seconds + _SLACK):
        segment = f"{start:.3f} to {'its end' if end is None else format(end, '.3f')} s"
        raise AudioError(f"wrong length: the file has {seconds:.3f} s, the segment is {segment}")
    return round(start * rate), total if end is None else min(round(end * rate), total)


def _check_riff(data: bytes) -> None:
    """Raise AudioError for a truncated WAV: libsndfile reads it without an error."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"data":
            present = len(data) - at - 8
            if present < size < _UNKNOWN_LENGTH:
                raise AudioError(f"truncated: {present} of {size} bytes of samples are present")
            return
        at += 8 + size + size % 2
    raise AudioError("truncated: a WAV header without samples")


def _decode_other(file: AudioFile) -> tuple[np.ndarray, int]:
    """Decode a format that libsndfile cannot read, by librosa (audioread and its decoders).

    Text is refused, because decoders read playlists and open the files that these name.
    """
    if not set(file.data[:1024]) & _BINARY:
        raise AudioError("not audio that can be decoded: the file is text")
    import librosa

    with tempfile.NamedTemporaryFile(suffix=PurePosixPath(file.name).suffix) as copy:
        copy.write(file.data)
        copy.flush()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                samples, rate = librosa.load(copy.name, sr=None, mono=False)
        except Exception as error:  # decoders raise errors of any type
            raise AudioError("not audio that can be decoded") from error
    return np.atleast_2d(samples).T, int(rate)
