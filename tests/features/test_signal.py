"""Checks and conversion of an utterance's samples."""

import numpy as np
import pytest

from features.signal import clip, prepare
from tests.support.signals import RATE


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        pytest.param(np.zeros((1000, 2)), RATE, "mono", id="stereo"),
        pytest.param(np.zeros(1000, np.int16), RATE, "float", id="integers"),
        pytest.param(np.zeros(479), RATE, r"479 .* at least 480 .*\(30 ms\)", id="479 samples"),
        pytest.param(np.zeros(0), RATE, "too short", id="no samples"),
        pytest.param(np.zeros(0), 8000, "too short", id="no samples at 8 kHz"),
        pytest.param(np.zeros(239), 8000, "too short", id="239 samples at 8 kHz"),
        pytest.param(np.full(1000, np.nan), RATE, "finite", id="NaN"),
        pytest.param(np.full(1000, np.inf), RATE, "finite", id="infinity"),
        pytest.param(np.zeros(1000), 0, "sample rate", id="rate 0"),
        pytest.param(np.full(1000, 127.0), RATE, "integers of 8 bits", id="8 bits"),
        pytest.param(np.full(1000, -32768.0), RATE, "integers of 16 bits", id="16 bits"),
        pytest.param(np.full(1000, 1e9), RATE, "integers of 32 bits", id="32 bits"),
    ],
)
def test_unusable_signals_are_refused(samples: np.ndarray, rate: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        prepare(samples, rate)


def test_the_shortest_signals_are_accepted() -> None:
    assert len(prepare(np.zeros(480), RATE)) == len(prepare(np.zeros(240), 8000)) == 480


def test_clipped_samples_fit_into_int16() -> None:
    scaled = clip(np.array([-2.0, -1.0, 0.0, 1.0, 2.0], np.float32)) * 32768
    assert scaled.tolist() == [-32768, -32768, 0, 32767, 32767]
