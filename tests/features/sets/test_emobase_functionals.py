"""emobase's functionals against openSMILE's own descriptors, and the shortest signal."""

import re
import subprocess
import sys

import numpy as np
import pytest

from features.sets import FEATURES
from features.sets.emobase_functionals import COLUMNS, extract
from tests.support.signals import RATE, harmonics, noise


def test_the_columns_are_those_of_opensmile() -> None:
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.emobase, opensmile.FeatureLevel.Functionals)
    assert tuple(smile.feature_names) == COLUMNS
    assert len(COLUMNS) == FEATURES["emobase_functionals"]().load().dims == 988


def test_the_groups_divide_the_columns_by_descriptor() -> None:
    """Every column is in one group: the stems of openSMILE's names say which."""
    groups = FEATURES["emobase_functionals"]().load().groups
    assert {name: len(columns) for name, columns in groups.items()} == {
        "energy": 76,
        "mfcc": 456,
        "line_spectral_frequencies": 304,
        "zero_crossings": 38,
        "voicing": 38,
        "f0": 76,
    }
    columns = [column for group in groups.values() for column in group]
    assert sorted(columns) == list(range(988))
    stems = {
        name: {re.match("[A-Za-z_0-9]+?(?=_sma)", COLUMNS[column])[0] for column in group}
        for name, group in groups.items()
    }
    assert stems == {
        "energy": {"pcm_intensity", "pcm_loudness"},
        "mfcc": {"mfcc"},
        "line_spectral_frequencies": {"lspFreq"},
        "zero_crossings": {"pcm_zcr"},
        "voicing": {"voiceProb"},
        "f0": {"F0", "F0env"},
    }


def test_the_columns_need_no_opensmile() -> None:
    code = "import sys, features.sets; print('opensmile' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_values_are_functionals_of_opensmile_s_descriptors() -> None:
    import opensmile

    signal = np.concatenate([harmonics(150), noise(RATE), harmonics(300)]).astype(np.float32)
    got = dict(zip(COLUMNS, extract(signal, RATE)[0].astype(np.float64), strict=True))
    level = opensmile.FeatureLevel.LowLevelDescriptors
    smile = opensmile.Smile(opensmile.FeatureSet.emobase, level)
    descriptors = dict(zip(smile.feature_names, smile(signal, RATE)[0], strict=True))
    assert len(descriptors) == 26
    for name, x in descriptors.items():
        x = x[:-3].astype(np.float64)  # (frames,): openSMILE ignores the last three
        t = np.arange(len(x))
        slope, start = np.polyfit(t, x, 1)
        quartiles = np.quantile(x, [0.25, 0.5, 0.75])
        want = {
            "max": x.max(),
            "min": x.min(),
            "range": np.ptp(x),
            "amean": x.mean(),
            "linregc1": slope,
            "linregc2": start,
            "linregerrA": np.abs(x - slope * t - start).mean(),
            "linregerrQ": ((x - slope * t - start) ** 2).mean(),
            "stddev": x.std(),
            "skewness": ((x - x.mean()) ** 3).mean() / x.std() ** 3,
            "kurtosis": ((x - x.mean()) ** 4).mean() / x.std() ** 4,
            **{f"quartile{i + 1}": quartile for i, quartile in enumerate(quartiles)},
            "iqr1-3": quartiles[2] - quartiles[0],
        }
        for functional, value in want.items():
            power = 2 if functional == "linregerrQ" else 1
            scale = 1.0 if functional in ("skewness", "kurtosis") else np.ptp(x) ** power
            assert got[f"{name}_{functional}"] == pytest.approx(value, abs=1e-5 * scale)
        assert x[int(got[f"{name}_maxPos"])] == pytest.approx(x.max(), rel=1e-6)
        assert x[int(got[f"{name}_minPos"])] == pytest.approx(x.min(), rel=1e-6)


@pytest.mark.parametrize("samples", [640, 641, 800, 3200, RATE, RATE * 20])
def test_one_row_however_long(samples: int) -> None:
    values = extract(noise(samples), RATE)
    assert values.shape == (1, 988)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    "signal",
    [np.zeros(RATE), np.full(RATE, 0.25), np.eye(1, RATE, 8000)[0], harmonics(200)],
    ids=["silence", "constant", "one click", "harmonics"],
)
def test_odd_signals_are_finite(signal: np.ndarray) -> None:
    assert np.isfinite(extract(signal, RATE)).all()


@pytest.mark.filterwarnings("ignore:Segment too short")
def test_opensmile_needs_at_least_640_samples() -> None:
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.emobase, opensmile.FeatureLevel.Functionals)
    assert np.isnan(smile(noise(639), RATE)).all()
    assert np.isfinite(smile(noise(640), RATE)).all()


def test_full_scale_does_not_wrap() -> None:
    loud = np.where(noise(RATE) > 0, 1.0, -1.0)
    np.testing.assert_array_equal(extract(loud, RATE), extract(np.minimum(loud, 0.99997), RATE))
    np.testing.assert_array_equal(extract(loud * 3, RATE), extract(loud, RATE))


def test_other_rates_are_resampled() -> None:
    import soxr

    values = extract(soxr.resample(harmonics(200), RATE, 44_100), 44_100)
    assert values[0, COLUMNS.index("F0_sma_quartile2")] == pytest.approx(200, abs=3)


def test_same_signal_same_bits() -> None:
    signal = noise(RATE)
    before = signal.copy()
    np.testing.assert_array_equal(extract(signal, RATE), extract(signal.astype(float), RATE))
    np.testing.assert_array_equal(signal, before)
