"""The simulation of many slots drives the real search, so its invariants are those of a sweep."""

from benchmarks.search_scale import KINDS, simulate


def test_slots_stay_busy_with_the_default_lag_and_wait_with_a_lag_of_the_slots() -> None:
    wide, narrow = simulate("differ by 10", 6, 48), simulate("differ by 10", 6, 48, lag=6)
    assert (wide.lag, narrow.lag) == (12, 6)
    assert wide.busy > 0.85
    assert narrow.busy < wide.busy - 0.15
    assert simulate("equal", 6, 48).busy > 0.95


def test_proposals_do_not_depend_on_the_speed_of_the_trials() -> None:
    """Each order of events has the same proposals, and so has another number of slots."""
    for name in KINDS:
        first = simulate(name, 5, 24, lag=8, order=1)
        for slots, order in ((5, 2), (8, 3)):
            assert simulate(name, slots, 24, lag=8, order=order).proposals == first.proposals
        assert simulate(name, 5, 24, lag=2).proposals != first.proposals
