"""Each kind of unusable file is refused with its reason; all other files are read."""

import struct
from pathlib import Path

import numpy as np
import pytest

from features.audio import decode, fetch
from features.errors import AudioError
from features.storage import Storage
from tests.support.signals import RATE, encode, noise, tone


def read(path: Path, start: float | None = None, end: float | None = None) -> np.ndarray:
    return decode(fetch(Storage.open(str(path.parent)), path.name), start, end)


def test_bad_files_are_refused_with_their_reason(
    bad_files: dict[str, tuple[bytes | None, str]], tmp_path: Path
) -> None:
    for name, (data, reason) in bad_files.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(AudioError, match=reason):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_U8", 1e-2),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "FLOAT", 1e-6),
        ("WAV", "DOUBLE", 1e-6),
        ("WAV", "ULAW", 2e-2),
        ("FLAC", "PCM_16", 1e-4),
        ("AIFF", "PCM_16", 1e-4),
        ("AU", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 5e-2),
        ("MP3", "MPEG_LAYER_III", 5e-2),
    ],
)
def test_formats(kind: str, subtype: str, tolerance: float, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(encode(tone(), subtype=subtype, kind=kind))
    samples = read(tmp_path / "a.bin")
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples[:RATE], tone()[: len(samples)], atol=tolerance)


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([tone(), np.zeros(RATE)], axis=1)
    (tmp_path / "a.wav").write_bytes(encode(stereo, subtype="FLOAT"))
    np.testing.assert_allclose(read(tmp_path / "a.wav"), tone() / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_sample_rates_are_converted(rate: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encode(tone(rate=rate), rate=rate, subtype="FLOAT"))
    samples = read(tmp_path / "a.wav")
    assert len(samples) == RATE
    np.testing.assert_allclose(samples[800:-800], tone()[800:-800], atol=1e-3)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_segments(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(encode(noise(2 * RATE), kind=kind))
    whole = read(path)
    np.testing.assert_array_equal(read(path, 0.5, 1.25), whole[8000:20000])
    np.testing.assert_array_equal(read(path, 1.5), whole[24000:])
    np.testing.assert_array_equal(read(path, None, 0.5), whole[:8000])
    np.testing.assert_array_equal(read(path, 1.0, 2.019), whole[16000:])
    for start, end in ((1.0, 2.03), (2.0, None), (5.0, 6.0)):
        with pytest.raises(AudioError, match="wrong length"):
            read(path, start, end)


def test_a_piped_wav_without_a_length_is_read(tmp_path: Path) -> None:
    data = bytearray(encode(tone()))
    struct.pack_into("<I", data, data.index(b"data") + 4, 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(bytes(data))
    assert len(read(tmp_path / "a.wav")) == RATE


def test_a_piped_flac_without_a_length_is_refused(tmp_path: Path) -> None:
    data = bytearray(encode(noise(RATE), kind="FLAC"))
    data[21] &= 0xF0  # the number of samples is the low 36 bits of bytes 21 to 25
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(bytes(data))
    with pytest.raises(AudioError, match="its header has no length"):
        read(tmp_path / "a.flac")


def test_a_chunk_after_the_samples_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encode(tone()) + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert len(read(tmp_path / "a.wav")) == RATE


def test_a_recording_of_over_a_minute_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encode(tone(70)))
    assert len(read(tmp_path / "a.wav")) == 70 * RATE
