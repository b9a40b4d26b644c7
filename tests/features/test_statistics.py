"""Normalisation against a plain loop; statistics against one pass over all frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from features.shards import Entry
from features.statistics import normalise, share, statistics_of

FRAMES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 23), st.just(3)),
    elements=st.floats(-1000, 1000, width=32),
)


@given(FRAMES)
def test_z_scores_are_finite_and_those_of_a_plain_loop(frames: np.ndarray) -> None:
    exact = frames.astype(np.float64)
    mean, deviation = exact.mean(axis=0), exact.std(axis=0)
    got = normalise(frames, mean, deviation)
    for t in range(len(frames)):
        for d in range(3):
            want = (exact[t, d] - mean[d]) / deviation[d] if deviation[d] > 0 else 0.0
            assert got[t, d] == pytest.approx(want, abs=1e-9)
    assert np.isfinite(got).all()


def entry_of(frames: np.ndarray) -> Entry:
    exact = frames.astype(np.float64)
    mean = exact.mean(axis=0)
    return Entry("", 0, "", len(frames), mean, ((exact - mean) ** 2).sum(axis=0), None)


def test_statistics_of_utterances_equal_those_of_all_frames() -> None:
    rng = np.random.default_rng(0)
    parts = [(rng.normal(size=(n, 45)) * 30 + 1e4).astype(np.float32) for n in (1, 7, 300, 2)]
    parts = [np.concatenate([part[:, :44], np.full((len(part), 1), 0.1)], axis=1) for part in parts]
    rows = [{"id": str(i), "speaker": "s"} for i in range(4)]
    pairs = list(zip(rows, map(entry_of, parts), strict=True))
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
def test_shared_statistics_equal_those_of_the_group_s_values(frames: np.ndarray) -> None:
    exact = frames.astype(np.float64)
    whole = statistics_of([({"id": "u", "speaker": "s"}, entry_of(frames))])["s"]
    got = share(whole, 3)
    assert got.frames == len(frames)
    groups = exact.reshape(len(frames), 2, 3)
    np.testing.assert_allclose(got.mean, np.repeat(groups.mean(axis=(0, 2)), 3), atol=1e-9)
    np.testing.assert_allclose(got.deviation, np.repeat(groups.std(axis=(0, 2)), 3), atol=1e-6)
    assert share(whole, 1) is whole


def test_a_group_of_one_constant_has_no_deviation() -> None:
    whole = statistics_of([({"id": "u", "speaker": "s"}, entry_of(np.full((7, 4), 0.1)))])["s"]
    assert share(whole, 2).deviation.tolist() == [0, 0, 0, 0]
