"""The descriptors against openSMILE's own emobase, and against their definitions."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.sets.emobase_lld45 import COLUMNS, CONFIG_FILE, extract
from tests.support.signals import RATE, harmonics, noise


def column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, COLUMNS.index(name)].astype(np.float64)


def quantise(samples: np.ndarray) -> np.ndarray:
    """The signal as openSMILE sees it: 16 bits, rounded towards zero."""
    return np.trunc(np.clip(samples, -1, 32767 / 32768) * 32768) / 32768


def centred_frames(samples: np.ndarray, size: int) -> np.ndarray:
    """Frame t is centred on sample 160 t; the first sample is repeated before it."""
    padded = np.concatenate([np.full(size // 2, samples[0]), samples])
    return np.stack([padded[i : i + size] for i in range(0, len(padded) - size + 1, 160)])


def moving_average(x: np.ndarray) -> np.ndarray:
    padded = np.concatenate([x[:1], x, x[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def regression(x: np.ndarray) -> np.ndarray:
    """Slope over two frames on either side."""
    padded = np.pad(x, 2, mode="edge")
    n = len(x)
    return sum(k * (padded[2 + k : 2 + k + n] - padded[2 - k : 2 - k + n]) for k in (1, 2)) / 10


def test_the_columns_are_the_45_of_the_paper_in_order() -> None:
    mfcc = [f"mfcc_{i}" for i in range(1, 13)]
    assert (
        *("f0", "f0_delta", "loudness", "loudness_delta", "loudness_delta2"),
        *("voicing", "voicing_delta", "zcr", "zcr_delta"),
        *mfcc,
        *(f"{name}_delta" for name in mfcc),
        *(f"{name}_delta2" for name in mfcc),
    ) == COLUMNS
    assert len(COLUMNS) == 45


@settings(max_examples=40, deadline=None)
@given(st.integers(480, 40_000))
@example(480)
@example(639)
@example(640)
@example(RATE * 61)
def test_frame_count(samples: int) -> None:
    values = extract(noise(samples), RATE)
    assert values.shape == ((samples - 480) // 160 + 2, 45)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_equals_opensmile_s_emobase_except_for_the_framing(tmp_path: Path) -> None:
    """With emobase's 40 ms pitch frames and uncentred frames, the values are emobase's."""
    import opensmile

    text = CONFIG_FILE.read_text()
    assert text.count("= mid") == 2
    assert text.count("0.060") == 1
    variant = tmp_path / "variant.conf"
    variant.write_text(text.replace("= mid", "= left").replace("0.060", "0.040"))
    ours = opensmile.Smile(str(variant), "all")
    signal = np.concatenate([harmonics(150), noise(RATE), harmonics(300)]).astype(np.float32)
    got = dict(zip(ours.feature_names, ours(signal, RATE)[0], strict=True))
    levels = opensmile.FeatureLevel
    compared = 0
    for level in (levels.LowLevelDescriptors, levels.LowLevelDescriptors_Deltas):
        reference = opensmile.Smile(opensmile.FeatureSet.emobase, level)
        want = dict(zip(reference.feature_names, reference(signal, RATE)[0], strict=True))
        for name in want.keys() & got.keys():
            frames = min(len(want[name]), len(got[name]))
            assert frames >= 296
            np.testing.assert_allclose(got[name][:frames], want[name][:frames], rtol=1e-5)
            compared += 1
    assert compared == 2 * 17  # F0, voicing, intensity, loudness, ZCR, 12 MFCC; and their deltas


@pytest.mark.parametrize("f0", [100.0, 150.0, 200.0, 400.0])
def test_f0_and_voicing_of_a_harmonic_tone(f0: float) -> None:
    values = extract(harmonics(f0), RATE)[10:-10]
    assert np.abs(column(values, "f0") - f0).max() < 0.02 * f0  # lags are whole samples
    assert column(values, "voicing").min() > 0.8


def test_noise_has_no_pitch() -> None:
    values = extract(noise(RATE), RATE)
    assert (column(values, "f0") == 0).mean() > 0.9
    assert column(values, "voicing").mean() < 0.55


def test_pitch_ends_at_500_hz() -> None:
    assert column(extract(harmonics(600), RATE), "f0").max() < 500


@pytest.mark.parametrize("frequency", [440.0, 1000.0, 3000.0])
def test_zcr_of_a_sine(frequency: float) -> None:
    signal = 0.5 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE + 0.1)
    zcr = column(extract(signal, RATE), "zcr")[5:-5]
    assert abs(zcr.mean() - 2 * frequency / RATE) < 1 / 400


def test_rows_are_centred_on_multiples_of_10_ms_and_smoothed_over_three() -> None:
    signal = np.zeros(RATE)
    signal[:] = 0.01 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE + 0.3)
    signal[8000:] = 0.01 * np.sin(2 * np.pi * 2000 * np.arange(8000) / RATE + 0.3)
    frames = centred_frames(quantise(signal), 400)
    crossings = (frames[:, :-2] * frames[:, 1:-1] < 0).sum(axis=1) / 400
    got = column(extract(signal, RATE), "zcr")
    want = moving_average(crossings)[: len(got)]
    assert np.abs(got - want).max() < 1.1 / 400
    assert np.argmax(got > 0.125) == 50  # the change lies at 0.5 s


def test_loudness_uses_the_first_two_samples_of_a_frame_like_emobase() -> None:
    signal = noise(RATE)
    window = np.hamming(400)
    frames = centred_frames(quantise(signal), 400)
    intensity = (window[:2] * frames[:, :2] ** 2).sum(axis=1) / window.sum()
    want = moving_average((intensity / 1e-6) ** 0.3)
    got = column(extract(signal, RATE), "loudness")
    np.testing.assert_allclose(got[:-2], want[: len(got) - 2], rtol=1e-4)


def test_mfcc_are_those_of_htk() -> None:
    signal = noise(RATE) * np.linspace(0.1, 1, RATE)
    frames = centred_frames(quantise(signal), 400) * 32767
    emphasised = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft(emphasised * np.hamming(400), 512)) ** 2
    mel = 1127 * np.log(1 + np.fft.rfftfreq(512, 1 / RATE) / 700)
    edges = np.linspace(0, mel[-1], 28)
    width = edges[1]
    bank = np.clip(1 - np.abs(mel[None] - edges[1:-1, None]) / width, 0, None)  # (26, 257)
    logs = np.log(np.maximum(power @ bank.T, 1))
    i = np.arange(1, 13)[:, None]
    cosines = np.sqrt(2 / 26) * np.cos(np.pi * i * (np.arange(26) + 0.5)[None] / 26)
    lifter = 1 + 11 * np.sin(np.pi * i[:, 0] / 22)
    values = extract(signal, RATE)
    for k, want in enumerate((logs @ cosines.T * lifter).T):
        got = column(values, f"mfcc_{k + 1}")[:-2]
        error = np.abs(got - moving_average(want)[: len(got)])
        assert np.median(error) < 0.1, f"mfcc_{k + 1}"


def test_deltas_are_regressions_over_two_frames() -> None:
    values = extract(np.concatenate([harmonics(150), noise(RATE)]), RATE)
    names = [name.removesuffix("_delta") for name in COLUMNS if name.endswith("_delta")]
    assert len(names) == 4 + 12
    for name in names:
        want = regression(column(values, name))
        got = column(values, f"{name}_delta")
        np.testing.assert_allclose(got, want, atol=1e-6 * np.abs(column(values, name)).max())
        if f"{name}_delta2" in COLUMNS:
            # The last two need deltas after the last row, which are not kept.
            want, got = regression(want)[:-2], column(values, f"{name}_delta2")[:-2]
            np.testing.assert_allclose(got, want, atol=1e-6 * np.abs(column(values, name)).max())


def test_full_scale_does_not_wrap() -> None:
    loud = np.where(noise(RATE) > 0, 1.0, -1.0)
    np.testing.assert_array_equal(extract(loud, RATE), extract(np.minimum(loud, 0.99997), RATE))
    np.testing.assert_array_equal(extract(loud * 3, RATE), extract(loud, RATE))


def test_other_rates_are_resampled() -> None:
    import soxr

    signal = harmonics(200)
    upsampled = soxr.resample(signal, RATE, 44_100)
    values = extract(upsampled, 44_100)
    assert abs(len(values) - len(extract(signal, RATE))) <= 1
    assert np.abs(column(values, "f0")[10:-10] - 200).max() < 2


def test_same_signal_same_bits() -> None:
    signal = noise(RATE)
    before = signal.copy()
    np.testing.assert_array_equal(extract(signal, RATE), extract(signal.astype(float), RATE))
    np.testing.assert_array_equal(signal, before)


def test_real_speech(nemo: Path) -> None:
    for name, low, high in (("EB0_neutral_26", 150, 300), ("KS0_neutral_42", 70, 200)):
        samples, rate = soundfile.read(nemo / "samples" / f"{name}.flac")
        values = extract(samples, rate)
        f0 = column(values, "f0")
        voiced = f0[f0 > 50]
        assert low < np.median(voiced) < high
        assert 0.2 < len(voiced) / len(f0) < 0.95
