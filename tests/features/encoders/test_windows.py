"""The windows of long signals, and how their states are joined."""

from itertools import pairwise

import numpy as np
import pytest

from features.encoders import windows
from features.encoders.description import Array, Description
from features.signal import SAMPLE_RATE

FIELD, STRIDE = 400, 320


def described(stride: int = STRIDE, normalize: bool = False) -> Description:
    return Description("", "wavlm", 1, 2, stride, FIELD, normalize, (), ())


def positions(signal: Array) -> Array:
    """An encoder whose state holds the first and the last sample that it reads: (1, T, 2)."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, FIELD)[::STRIDE]
    return np.stack([frames[:, 0], frames[:, -1]], axis=1)[None]


@pytest.mark.parametrize("seconds", [0.5, 29.99, 30.0, 30.001, 30.02, 39.0, 50.0, 50.01, 95.37])
def test_joined_states_are_those_of_the_signal_in_one_piece(seconds: float) -> None:
    # Below 2^24, float32 holds the number of each sample exactly.
    signal = np.arange(round(seconds * SAMPLE_RATE), dtype=np.float32)
    joined = list(windows.states(positions, described(), signal))
    np.testing.assert_array_equal(np.concatenate(joined, axis=1), positions(signal))
    assert len(joined) == (1 if seconds <= 30 else 2 if seconds <= 50 else len(joined))


@pytest.mark.parametrize("samples", [480_001, 480_320, 800_000, 800_001, 1_525_921])
def test_windows_of_30_s_share_10_s_and_cover_the_signal(samples: int) -> None:
    cuts = windows.windows(samples, STRIDE)
    assert cuts[0][0] == 0
    assert cuts[-1][1] == samples
    for (start, end), (following, _) in pairwise(cuts):
        assert end - start == 30 * SAMPLE_RATE
        assert end - following >= 10 * SAMPLE_RATE
    for start, end in cuts:
        assert start % STRIDE == 0
        assert 30 * SAMPLE_RATE - STRIDE < end - start <= 30 * SAMPLE_RATE


def test_a_state_is_at_least_5_s_from_an_end_of_its_window_inside_the_signal() -> None:
    signal = np.zeros(70 * SAMPLE_RATE, np.float32)
    starts = [start for start, _ in windows.windows(len(signal), STRIDE)]

    def numbered(part: Array) -> Array:
        frames = 1 + (len(part) - FIELD) // STRIDE
        place = np.arange(frames) * STRIDE
        return np.stack([place, len(part) - place], axis=1)[None].astype(np.float32)

    parts = list(windows.states(numbered, described(), signal))
    assert len(parts) == len(starts) == 3
    for number, part in enumerate(parts):
        if number > 0:
            assert part[0, :, 0].min() >= 5 * SAMPLE_RATE
        if number < len(parts) - 1:
            assert part[0, :, 1].min() >= 5 * SAMPLE_RATE


def test_vectors_of_windows_are_weighted_by_the_time_that_they_add() -> None:
    signal = np.zeros(50 * SAMPLE_RATE, np.float32)
    values = iter([1.0, 2.0])

    def vector(part: Array) -> Array:
        return np.full((1, 1, 2), next(values), np.float32)

    joined = np.concatenate(list(windows.states(vector, described(stride=0), signal)), axis=1)
    # The windows are 0 to 30 s and 20 to 50 s, so they meet at 25 s.
    assert joined.mean() == pytest.approx(1.5)
    one = list(windows.states(lambda part: np.ones((1, 1, 2)), described(0), signal[:SAMPLE_RATE]))
    assert [part.shape for part in one] == [(1, 1, 2)]


def test_the_waveform_is_normalised_over_the_whole_signal() -> None:
    generator = np.random.default_rng(0)
    signal = generator.normal(0.3, 0.05, 45 * SAMPLE_RATE).astype(np.float32)
    signal[30 * SAMPLE_RATE :] *= 3
    read: list[Array] = []

    def reader(part: Array) -> Array:
        read.append(part)
        return positions(part)

    list(windows.states(reader, described(normalize=True), signal))
    exact = signal.astype(np.float64)
    expected = (exact - exact.mean()) / np.sqrt(exact.var() + 1e-7)
    np.testing.assert_allclose(read[0], expected[: len(read[0])], atol=1e-5)
    np.testing.assert_allclose(read[1], expected[-len(read[1]) :], atol=1e-5)


def test_normalisation_is_that_of_transformers() -> None:
    from transformers import Wav2Vec2FeatureExtractor

    signal = np.random.default_rng(1).normal(0.1, 0.01, 16000).astype(np.float32)
    theirs = Wav2Vec2FeatureExtractor(do_normalize=True)(signal, sampling_rate=SAMPLE_RATE)
    ours = windows.normalized(signal)
    np.testing.assert_allclose(ours, theirs["input_values"][0], atol=2e-5)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(windows.normalized(np.zeros(800, np.float32)), 0)
