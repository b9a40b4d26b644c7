"""Pooling against a plain loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from features.source import pool

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
