"""Rungs and cutoffs against Ray Tune's own ASHA."""

import numpy as np
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from orchestrator.config.sections import SearchConfig
from orchestrator.sweep.pruning import cutoffs, rungs, why_pruned

EPOCHS = 18


def test_rungs_and_cutoffs_equal_ray_tunes_asha_if_trials_run_one_after_the_other() -> None:
    generator = np.random.default_rng(0)
    search = SearchConfig(space="x", trials=60, grace_epochs=2, reduction_factor=3)
    ray_asha = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=EPOCHS,
        grace_period=2,
        reduction_factor=3,
    )
    finished: list[tuple[list[float], bool]] = []
    for number in range(60):
        curve = np.maximum.accumulate(generator.random(EPOCHS) * generator.random()).tolist()
        trial = Trial("none", stub=True, trial_id=str(number))
        ray_asha.on_trial_add(None, trial)
        limits = cutoffs(finished, rungs(search, EPOCHS), search.reduction_factor)
        for epoch in range(1, EPOCHS + 1):
            result = {"epoch": epoch, "score": curve[epoch - 1]}
            decision = ray_asha.on_trial_result(None, trial, result)
            pruned = why_pruned(curve[:epoch], limits) is not None
            if epoch < EPOCHS:
                assert (decision == TrialScheduler.STOP) == pruned
            if pruned:
                break
        finished.append((curve[:epoch], pruned))
    assert rungs(search, EPOCHS) == [2, 6]
    assert 20 < sum(pruned for _, pruned in finished) < 60


def test_a_search_without_a_scheduler_has_no_rungs() -> None:
    assert rungs(SearchConfig(space="x", trials=1, scheduler="none"), EPOCHS) == []


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        pytest.param([([0.1, 0.8], False)], {2: 0.8, 6: 0.8}, id="stopped early by patience"),
        pytest.param([([0.1, 0.8], True)], {2: 0.8}, id="pruned"),
        pytest.param([([0.1], True)], {}, id="pruned before the first rung"),
        pytest.param([], {}, id="no trial"),
    ],
)
def test_only_a_trial_that_was_not_pruned_reaches_later_rungs_with_its_last_score(
    finished: list[tuple[list[float], bool]], expected: dict[int, float]
) -> None:
    assert cutoffs(finished, [2, 6], 3) == expected


def test_the_reason_for_pruning_names_the_epoch_and_both_scores() -> None:
    assert why_pruned([0.1, 0.4], {2: 0.5}) == "epoch 2: 0.4000 is below 0.5000"
    assert why_pruned([0.1, 0.5], {2: 0.5}) is None
    assert why_pruned([0.1, 0.2, 0.3], {2: 0.5}) is None  # epoch 3 is not a rung
