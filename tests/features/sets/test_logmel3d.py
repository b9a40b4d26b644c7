"""3-D log-mel against transformers and SciPy, and against known properties of signals."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.manifest import read_manifest
from features.sets.logmel3d import BANDS, COLUMNS, FLOOR, extract
from tests.support.signals import RATE, noise


def chirp(low: float, high: float, seconds: float = 2.0) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * (low * t + (high - low) * t**2 / (2 * seconds)))


def by_others(samples: np.ndarray) -> np.ndarray:
    """The same definition by transformers and SciPy: (frames, 120).

    transformers computes in float64, and rounds the spectrum to complex64.
    """
    from scipy.signal import savgol_filter
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    filters = mel_filter_bank(257, BANDS, 0.0, RATE / 2, RATE, norm=None, mel_scale="htk")
    power = spectrogram(
        samples.astype(np.float32).astype(np.float64),
        window_function(400, "hamming", periodic=True),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        mel_filters=filters,
        mel_floor=FLOOR,
        dtype=np.float64,
    )
    static = np.log(power)

    def slope(values: np.ndarray) -> np.ndarray:
        return savgol_filter(values, 5, polyorder=1, deriv=1, axis=1, mode="nearest")

    return np.concatenate([static, slope(static), slope(slope(static))]).T


def assert_equals_others(samples: np.ndarray) -> None:
    want, got = by_others(samples), extract(samples, RATE)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def test_the_columns_are_three_blocks_of_40_bands() -> None:
    assert len(COLUMNS) == len(set(COLUMNS)) == 120
    assert COLUMNS[0] == "mel_1"
    assert COLUMNS[39:41] == ("mel_40", "mel_1_delta")
    assert COLUMNS[79:81] == ("mel_40_delta", "mel_1_delta2")
    assert COLUMNS[119] == "mel_40_delta2"


@pytest.mark.parametrize(
    "samples",
    [
        noise(RATE),
        noise(2000) * 1e-3,
        chirp(50, 7900),
        chirp(4000, 100) + noise(2 * RATE) * 0.01,
        np.concatenate([np.zeros(4000), noise(4000), np.zeros(4000)]),
        np.where(noise(RATE) > 0, 3.0, -3.0),
    ],
    ids=["noise", "quiet", "rising", "falling", "silent ends", "beyond full scale"],
)
def test_equals_other_libraries(samples: np.ndarray) -> None:
    assert_equals_others(samples)


def test_equals_other_libraries_on_spoken_utterances(spoken: Path) -> None:
    manifest = read_manifest(str(spoken))
    for file in manifest.table["file"].to_pylist()[:4]:
        samples, rate = soundfile.read(Path(manifest.root) / file)
        assert rate == RATE
        assert_equals_others(samples)


def test_equals_other_libraries_on_real_speech(nemo: Path) -> None:
    for name in ("EB0_neutral_26", "KS0_neutral_42"):
        assert_equals_others(soundfile.read(nemo / "samples" / f"{name}.flac")[0])


def exact(samples: np.ndarray) -> np.ndarray:
    """The definition in float64, by plain NumPy: (frames, 120)."""
    signal = samples.astype(np.float32).astype(np.float64)
    n = np.arange(400)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * n / 400)
    edges = 700 * (10 ** (np.linspace(0, np.log10(1 + 8000 / 700), 42)) - 1)
    hertz = np.arange(257) * 16_000 / 512
    triangles = [np.interp(hertz, edges[b : b + 3], [0, 1, 0], 0, 0) for b in range(40)]
    spectra = []
    for start in range(0, len(signal) - 399, 160):
        spectra.append(np.abs(np.fft.rfft(signal[start : start + 400] * window, 512)) ** 2)
    static = np.log(np.maximum(np.array(spectra) @ np.array(triangles).T, FLOOR))

    def slope(values: np.ndarray) -> np.ndarray:
        rows = [np.clip(np.arange(len(values)) + k, 0, len(values) - 1) for k in (-2, -1, 1, 2)]
        a, b, c, d = (values[row] for row in rows)
        return (2 * (d - a) + c - b) / 10

    return np.concatenate([static, slope(static), slope(slope(static))], axis=1)


SECOND = np.arange(RATE) / RATE


@pytest.mark.parametrize(
    "samples",
    [
        0.5 * np.sin(2 * np.pi * 100 * SECOND),
        np.round(0.5 * np.sin(2 * np.pi * 100 * SECOND) * 32768) / 32768,
        0.9 * np.sin(2 * np.pi * 7900 * SECOND),
        chirp(50, 7900),
        noise(RATE) * 1e-4 + 0.5,
        noise(7000) * 30,
    ],
    ids=["sine", "sine of 16 bits", "high sine", "rising", "noise on a constant", "loud"],
)
def test_float32_agrees_with_the_definition_in_float64(samples: np.ndarray) -> None:
    """Quiet bands beside a loud band are right too. A transform in float32 is wrong by 5e-4."""
    np.testing.assert_allclose(extract(samples, RATE), exact(samples), rtol=0, atol=1e-4)


def test_real_speech_agrees_with_the_definition_in_float64(nemo: Path) -> None:
    names = read_manifest(str(nemo / "manifest.csv")).table["file"].to_pylist()
    for name in names[:: len(names) // 12]:
        samples = soundfile.read(nemo / name)[0]
        np.testing.assert_allclose(extract(samples, RATE), exact(samples), rtol=0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(480, 40_000))
@example(480)
@example(559)
@example(560)
@example(RATE * 61)
def test_frame_count(samples: int) -> None:
    values = extract(noise(samples), RATE)
    assert values.shape == ((samples - 400) // 160 + 1, 120)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert np.isfinite(values).all()


def test_blocks_of_a_long_signal_leave_no_trace() -> None:
    signal = noise(RATE * 25)
    whole, end = extract(signal, RATE), extract(signal[160 * 1020 :], RATE)
    np.testing.assert_allclose(whole[1020 + 4 :], end[4:], rtol=0, atol=1e-5)


def test_silence_is_the_floor() -> None:
    values = extract(np.zeros(RATE), RATE)
    np.testing.assert_array_equal(values[:, :BANDS], np.float32(np.log(FLOOR)))
    np.testing.assert_array_equal(values[:, BANDS:], 0)


def test_the_floor_lies_below_16_bit_rounding() -> None:
    rounding = np.random.default_rng(0).uniform(-0.5, 0.5, RATE * 4) / 32768
    power = np.exp(extract(rounding, RATE)[:, :BANDS].astype(np.float64)).mean(axis=0)
    assert power.min() > 100 * FLOOR


def test_a_single_frame_has_no_slope() -> None:
    values = extract(noise(480), RATE)
    assert values.shape == (1, 120)
    np.testing.assert_array_equal(values[:, BANDS:], 0)


@pytest.mark.parametrize("frequency", [100.0, 440.0, 1000.0, 3000.0, 7000.0])
def test_a_sine_is_loudest_in_its_band(frequency: float) -> None:
    mel = 2595 * np.log10(1 + frequency / 700)
    place = mel / (2595 * np.log10(1 + 8000 / 700)) * (BANDS + 1) - 1  # centre of band 1 is at 0
    signal = 0.5 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)
    loudest = extract(signal, RATE)[:, :BANDS].argmax(axis=1)
    assert np.abs(loudest - place).max() <= 1


def test_a_ten_times_louder_signal_adds_log_100() -> None:
    quiet, loud = extract(noise(RATE) * 0.1, RATE), extract(noise(RATE), RATE)
    np.testing.assert_allclose((loud - quiet)[:, :BANDS], np.log(100), atol=1e-5)
    np.testing.assert_allclose(loud[:, BANDS:], quiet[:, BANDS:], atol=1e-5)


def test_deltas_of_an_exponential_swell_equal_its_rate() -> None:
    rate = 0.05  # change of log power per frame
    swell = np.exp(np.arange(RATE) / 160 * rate / 2) * 1e-2
    values = extract(np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE) * swell, RATE)
    # 1000 Hz has the same phase every 160 samples.
    band = values[:, :BANDS].mean(axis=0).argmax()
    np.testing.assert_allclose(values[2:-2, BANDS + band], rate, atol=1e-4)
    np.testing.assert_allclose(values[4:-4, 2 * BANDS + band], 0, atol=1e-4)


def test_other_rates_are_resampled() -> None:
    import soxr

    signal = chirp(100, 3000)
    got = extract(soxr.resample(signal, RATE, 44_100), 44_100)
    want = extract(signal, RATE)
    assert got.shape == want.shape
    loud = want[:, :BANDS] > want[:, :BANDS].max() - 5
    assert np.abs(got - want)[:, :BANDS][loud].max() < 0.01


def test_same_signal_same_bits() -> None:
    signal = noise(RATE)
    before = signal.copy()
    np.testing.assert_array_equal(extract(signal, RATE), extract(signal.astype(float), RATE))
    np.testing.assert_array_equal(signal, before)
