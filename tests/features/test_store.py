"""Normalisation and pooling against plain loops; statistics against one pass over all frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from features.config import (
    FEATURE_CONFIGS,
    EmobaseConfig,
    FeatureConfig,
    FunctionalsConfig,
    LogMelConfig,
)
from features.sets import FEATURES
from features.store import Entry, normalise, pool, share, statistics_of

FRAMES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 23), st.just(3)),
    elements=st.floats(-1000, 1000, width=32),
)


@given(FRAMES, st.integers(1, 30))
def test_pool_is_the_mean_of_each_group(frames: np.ndarray, size: int) -> None:
    want = []
    for start in range(0, len(frames), size):
        group = frames[start : start + size].astype(np.float64)
        want.append([sum(group[:, d]) / len(group) for d in range(3)])
    got = pool(frames.astype(np.float64), size)
    assert got.shape == (-(-len(frames) // size), 3)
    np.testing.assert_allclose(got, want, atol=1e-9)


@given(FRAMES)
def test_normalise_gives_z_scores_and_never_nan(frames: np.ndarray) -> None:
    exact = frames.astype(np.float64)
    mean, deviation = exact.mean(axis=0), exact.std(axis=0)
    got = normalise(frames, mean, deviation)
    for t in range(len(frames)):
        for d in range(3):
            want = (exact[t, d] - mean[d]) / deviation[d] if deviation[d] > 0 else 0.0
            assert got[t, d] == pytest.approx(want, abs=1e-9)
    assert np.isfinite(got).all()


def entry(frames: np.ndarray) -> Entry:
    exact = frames.astype(np.float64)
    mean = exact.mean(axis=0)
    return Entry("", 0, "", len(frames), mean, ((exact - mean) ** 2).sum(axis=0), None)


def test_statistics_over_utterances_are_those_over_all_their_frames() -> None:
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(n, 45)) * 30 + 1e4).astype(np.float32) for n in (1, 7, 300, 2)]
    parts = [np.concatenate([part[:, :44], np.full((len(part), 1), 0.1)], axis=1) for part in parts]
    rows = [{"id": str(i), "speaker": "s"} for i in range(4)]
    pairs = list(zip(rows, map(entry, parts), strict=True))
    got = statistics_of(pairs)["s"]
    whole = np.concatenate(parts).astype(np.float64)
    assert got.frames == 310
    np.testing.assert_allclose(got.mean, whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.deviation[:44], whole.std(axis=0)[:44], rtol=1e-9)
    assert got.deviation[44] == 0
    again = statistics_of(pairs[::-1])["s"]
    np.testing.assert_array_equal(got.mean, again.mean)
    np.testing.assert_array_equal(got.deviation, again.deviation)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.just(6)),
        elements=st.floats(-1000, 1000, width=32),
    )
)
def test_shared_statistics_are_those_of_the_groups_values(frames: np.ndarray) -> None:
    exact = frames.astype(np.float64)
    whole = statistics_of([({"id": "u", "speaker": "s"}, entry(frames))])["s"]
    got = share(whole, 3)
    assert got.frames == len(frames)
    groups = exact.reshape(len(frames), 2, 3)
    np.testing.assert_allclose(got.mean, np.repeat(groups.mean(axis=(0, 2)), 3), atol=1e-9)
    np.testing.assert_allclose(got.deviation, np.repeat(groups.std(axis=(0, 2)), 3), atol=1e-6)
    assert share(whole, 1) is whole


def test_a_group_of_one_constant_has_no_deviation() -> None:
    whole = statistics_of([({"id": "u", "speaker": "s"}, entry(np.full((7, 4), 0.1)))])["s"]
    assert share(whole, 2).deviation.tolist() == [0, 0, 0, 0]


def test_every_set_has_its_configuration() -> None:
    assert list(FEATURE_CONFIGS) == list(FEATURES)
    for name, kind in FEATURE_CONFIGS.items():
        assert issubclass(kind, FeatureConfig)
        assert kind().name == name
        group = kind().group
        assert group is not None
        assert FEATURES[name].dims % group == 0
        assert kind(normalize="none").group is None
        with pytest.raises(ValidationError):
            kind(normalize="speakers")
    assert (EmobaseConfig().pooling, EmobaseConfig().cap) == (5, 2500)
    assert (LogMelConfig().pooling, LogMelConfig().cap) == (1, None)
    assert (LogMelConfig().group, LogMelConfig(normalize="band").group) == (40, 1)
    assert [FEATURES[name].dims for name in FEATURES] == [45, 120, 988]


def test_configuration_is_checked() -> None:
    assert LogMelConfig().segment == 300
    for odd in (301, 0, -2):
        with pytest.raises(ValidationError):
            LogMelConfig(segment=odd)
    for kind, key in ((LogMelConfig, "pool"), (EmobaseConfig, "segment"),
                      (FunctionalsConfig, "max_frames")):  # fmt: skip
        with pytest.raises(ValidationError, match="Extra inputs"):
            kind(**{key: 4})
    assert EmobaseConfig().model_dump() == {
        "name": "emobase_lld45",
        "pool": 5,
        "normalize": "speaker",
        "max_frames": 2500,
        "max_errors": 0,
    }
    for wrong in ({"pool": 0}, {"normalise": "speaker"}, {"name": "mfcc"}, {"max_errors": -1}):
        with pytest.raises(ValidationError):
            EmobaseConfig(**wrong)
