"""Every kind of file that cannot be used is refused with its reason; every other is read."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.audio import AudioError, read
from features.storage import Storage

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * 200 * t) + 0.1 * np.sin(2 * np.pi * 410 * t)


def wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=kind)
    return file.getvalue()


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(size=int(seconds * RATE)) * 0.1


def test_bad_files_give_their_reason(
    bad_files: dict[str, tuple[bytes | None, str]], tmp_path: Path
) -> None:
    for name, (data, reason) in bad_files.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(AudioError, match=reason):
            read(Storage.open(str(tmp_path)), name)


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
    (tmp_path / "a.bin").write_bytes(wav(tone(), subtype=subtype, kind=kind))
    samples, digest = read(Storage.open(str(tmp_path)), "a.bin")
    assert samples.dtype == np.float32
    assert len(digest) == 40
    np.testing.assert_allclose(samples[:RATE], tone()[: len(samples)], atol=tolerance)


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([tone(), np.zeros(RATE)], axis=1)
    (tmp_path / "a.wav").write_bytes(wav(stereo, subtype="FLOAT"))
    samples, _ = read(Storage.open(str(tmp_path)), "a.wav")
    np.testing.assert_allclose(samples, tone() / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_rates_are_converted(rate: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(rate=rate), rate=rate, subtype="FLOAT"))
    samples, _ = read(Storage.open(str(tmp_path)), "a.wav")
    assert len(samples) == RATE
    np.testing.assert_allclose(samples[800:-800], tone()[800:-800], atol=1e-3)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_segments(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(wav(noise(2), kind=kind))
    storage = Storage.open(str(tmp_path))
    whole, digest = read(storage, "a")
    part, same = read(storage, "a", 0.5, 1.25)
    np.testing.assert_array_equal(part, whole[8000:20000])
    assert same == digest
    np.testing.assert_array_equal(read(storage, "a", 1.5)[0], whole[24000:])
    np.testing.assert_array_equal(read(storage, "a", None, 0.5)[0], whole[:8000])
    np.testing.assert_array_equal(read(storage, "a", 1.0, 2.019)[0], whole[16000:])
    for start, end in ((1.0, 2.03), (2.0, None), (5.0, 6.0)):
        with pytest.raises(AudioError, match="wrong length"):
            read(storage, "a", start, end)


def test_a_piped_wav_of_unknown_length_is_read(tmp_path: Path) -> None:
    data = bytearray(wav(tone()))
    at = data.index(b"data")
    struct.pack_into("<I", data, at + 4, 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(bytes(data))
    assert len(read(Storage.open(str(tmp_path)), "a.wav")[0]) == RATE


def test_a_piped_flac_of_unknown_length_is_refused(tmp_path: Path) -> None:
    data = bytearray(wav(noise(1), kind="FLAC"))
    data[21] &= 0xF0  # the count of samples: the low 36 bits of this part of its first block
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(bytes(data))
    with pytest.raises(AudioError, match="does not tell its length"):
        read(Storage.open(str(tmp_path)), "a.flac")


def test_a_chunk_after_the_samples_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone()) + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert len(read(Storage.open(str(tmp_path)), "a.wav")[0]) == RATE


def test_over_a_minute_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(70)))
    assert len(read(Storage.open(str(tmp_path)), "a.wav")[0]) == 70 * RATE
