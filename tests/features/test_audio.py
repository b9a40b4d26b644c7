"""Each kind of unusable file is refused with its reason; all other files are read."""

import struct
from pathlib import Path

import numpy as np
import pytest

from features.audio import decode, fetch, read_header
from features.errors import AudioError
from features.mpeg import Stream
from features.storage import Storage
from features.streams import checked
from tests.support.signals import RATE, decoded, encode, noise, outcome, tone


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


def test_a_file_with_many_segments_is_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = []

    def counted(data: bytes) -> Stream:
        checks.append(len(data))
        return checked(data)

    monkeypatch.setattr("features.audio.checked", counted)
    for seed, kind in enumerate(("WAV", "FLAC", "AIFF")):
        (tmp_path / kind).write_bytes(encode(noise(RATE, seed), kind=kind))
        file = fetch(Storage.open(str(tmp_path)), kind)
        parts = [decode(file, start, start + 0.25) for start in (0.0, 0.25, 0.5, 0.75)]
        np.testing.assert_array_equal(np.concatenate(parts), decode(file))
        assert len(checks) == seed + 1


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
def test_the_suffix_of_raw_samples_does_not_matter(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(encode(tone(1.5), kind=kind))
    assert read_header(str(path)).seconds == 1.5
    assert len(read(path)) == 1.5 * RATE


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


@pytest.mark.parametrize("scale", [128, 32_768, 1 << 23, 1 << 31])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_samples_on_a_scale_of_integers_are_refused(scale: int, subtype: str) -> None:
    data = encode(tone() * scale, subtype=subtype)
    peak = np.abs(tone() * scale).max()
    assert f"these reach {peak:g}. They look like integers of {scale.bit_length()} bits: " in (
        outcome(data)
    )
    assert outcome(data).endswith(f"divide them by {scale}")


@pytest.mark.parametrize("peak", [0.5, 1.0, 1.5, 4.0, 15.9])
def test_float_samples_may_exceed_the_range(peak: float) -> None:
    samples = (tone() / np.abs(tone()).max() * peak).astype(np.float32)
    np.testing.assert_array_equal(decoded(encode(samples, subtype="FLOAT")), samples)


def stereo(left: np.ndarray, right: np.ndarray) -> bytes:
    return encode(np.stack([left, right], axis=1), subtype="PCM_24")


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(-noise(RATE), id="inverted"),
        pytest.param(-0.95 * noise(RATE), id="softer"),
        pytest.param(-noise(RATE) + 0.01 * noise(RATE, 1), id="with noise"),
        pytest.param(-noise(RATE) + 0.3, id="with an offset"),
    ],
)
def test_channels_that_cancel_are_refused(right: np.ndarray) -> None:
    reason = outcome(stereo(noise(RATE), right))
    assert "its 2 channels cancel each other" in reason
    assert "dB softer" in reason


def test_several_pairs_that_cancel_are_refused() -> None:
    pairs = [sign * noise(RATE, seed) for seed in range(3) for sign in (1, -1)]
    assert "its 6 channels cancel" in outcome(encode(np.stack(pairs, axis=1), subtype="PCM_24"))


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(noise(RATE), id="same"),
        pytest.param(noise(RATE, 1), id="unrelated"),
        pytest.param(np.zeros(RATE), id="silent"),
        pytest.param(0.001 * noise(RATE, 1), id="almost silent"),
        pytest.param(-0.5 * noise(RATE), id="half of it cancels"),
        pytest.param(np.roll(noise(RATE), 8), id="late"),
    ],
)
def test_other_pairs_are_averaged(right: np.ndarray) -> None:
    mean = (noise(RATE) + right) / 2
    np.testing.assert_allclose(decoded(stereo(noise(RATE), right)), mean, atol=1e-6)


@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize("others", [0.0, 1e-4, 0.01])
@pytest.mark.parametrize("channels", [3, 6, 8])
def test_a_voice_in_one_of_many_channels_is_named(place: int, others: float, channels: int) -> None:
    place = min(place, channels - 1)
    samples = others * np.stack([noise(RATE, 1 + c) for c in range(channels)], axis=1)
    samples[:, place] = noise(RATE)
    reason = outcome(encode(samples, subtype="PCM_24"))
    assert f"only channel {place + 1} of {channels} has the voice" in reason
    assert f"c0=c{place}" in reason


@pytest.mark.parametrize("channels", [3, 4, 6, 8])
def test_voices_in_several_channels_are_averaged(channels: int) -> None:
    voice, mean = noise(RATE), noise(RATE, 9)
    for gains in ([1] * channels, [1, 0.5] + [0.01] * (channels - 2), [0.4] * channels):
        samples = np.outer(voice, gains) + 0.1 * mean[:, None]
        want = samples.mean(axis=1)
        got = decoded(encode(samples, subtype="PCM_24"))
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("offset", [0, 7, -300])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_rounding_noise_is_refused(offset: int, steps: int, channels: int) -> None:
    steps_of_16_bits = np.random.default_rng(0).integers(-steps, steps + 1, (RATE, channels))
    data = encode(((steps_of_16_bits + offset) / 32768), subtype="PCM_16")
    assert f"only rounding noise: its samples reach {steps} steps of 16 bits" in outcome(data)


@pytest.mark.parametrize("peak", [4 / 32768, 0.001, 0.01])
def test_soft_speech_is_read(peak: float) -> None:
    samples = (tone() / np.abs(tone()).max() * peak).astype(np.float32)
    np.testing.assert_array_equal(decoded(encode(samples, subtype="FLOAT")), samples)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")],
)
def test_the_header_of_a_file(kind: str, subtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(encode(np.stack([tone(2.5, 24_000)] * 2, axis=1), 24_000, subtype, kind))
    assert read_header(str(path)) == (f"{kind} {subtype}", 24_000, 2, 2.5)


def test_a_length_that_the_header_does_not_name_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    data = bytearray(encode(tone(1.5)))
    struct.pack_into("<I", data, data.index(b"data") + 4, 0)
    path.write_bytes(bytes(data))
    assert read_header(str(path)).seconds == 1.5
    path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match="its length is unknown"):
        read_header(str(path))


@pytest.mark.usefixtures("no_ffmpeg")
def test_a_length_that_only_ffmpeg_knows(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(struct.pack(">I", 20) + b"ftypM4A " + bytes(60))
    with pytest.raises(AudioError, match="its length is unknown: MP4 or M4A needs ffmpeg"):
        read_header(str(tmp_path / "a.m4a"))
