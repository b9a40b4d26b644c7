"""ComParE's functionals against openSMILE itself, and the shortest signal."""

import subprocess
import sys

import numpy as np
import pytest

from features.sets import FEATURES
from features.sets.compare_functionals import columns, extract
from tests.support.signals import RATE, harmonics, noise, tone


def opensmile_values(signal: np.ndarray) -> np.ndarray:
    """(6373,) of a new `opensmile.Smile` of the package's own set."""
    import opensmile

    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.ComParE_2016,
        feature_level=opensmile.FeatureLevel.Functionals,
    )
    return smile.process_signal(signal.astype(np.float32), RATE).to_numpy()[0]


def test_the_columns_are_those_of_opensmile() -> None:
    import opensmile

    level = opensmile.FeatureLevel.Functionals
    smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, level)
    assert tuple(smile.feature_names) == columns()
    assert len(set(columns())) == FEATURES["compare_functionals"]().load().dims == 6373


def test_the_size_needs_no_opensmile() -> None:
    code = "import sys, features.sets; print('opensmile' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "signal",
    [
        pytest.param(noise(RATE), id="noise"),
        pytest.param(noise(960), id="60 ms"),
        pytest.param(harmonics(150), id="voice"),
        pytest.param(tone(2.3), id="tone"),
        pytest.param(np.concatenate([harmonics(220), noise(4000), harmonics(110)]), id="both"),
        pytest.param(np.zeros(RATE), id="silence"),
        pytest.param(np.full(RATE, 0.25), id="constant"),
        pytest.param(np.eye(1, RATE, 8000)[0] * 0.9, id="one click"),
    ],
)
def test_values_are_those_of_opensmile(signal: np.ndarray) -> None:
    values = extract(signal, RATE)
    assert values.shape == (1, 6373)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values[0], opensmile_values(signal))


def test_the_pitch_of_a_voice_is_found() -> None:
    values = extract(harmonics(200), RATE)[0]
    assert values[columns().index("F0final_sma_quartile2")] == pytest.approx(200, abs=3)
