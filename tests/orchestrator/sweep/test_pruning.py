"""Cutoffs against Ray Tune's own ASHA, and against the paired t-test of scipy."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from scipy.stats import ttest_rel

from orchestrator.config.sections import SearchConfig
from orchestrator.sweep.pruning import Paired, cutoffs, fold_curves, rungs, why_pruned

EPOCHS = 18


def paired_cutoffs(
    finished: list[tuple[NDArray[np.float64], bool]], epochs: Sequence[int]
) -> dict[int, float]:
    """The cutoffs of `Paired` after the (scores, pruned) of each trial."""
    rule = Paired(epochs)
    for scores, pruned in finished:
        rule.add(scores, pruned)
    return rule.cutoffs()


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


def made_curves(trials: int, folds: int, seed: int) -> list[NDArray[np.float64]]:
    """Rising scores of trials whose folds differ in their difficulty."""
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(0, 0.1, (folds, 1))
    gains = generator.random((trials, folds, EPOCHS)) * generator.random((trials, 1, 1))
    return list(np.cumsum(gains, axis=2) / EPOCHS + difficulty)


@pytest.mark.parametrize("folds", [2, 5])
def test_paired_cutoffs_have_the_pooled_standard_error_of_scipys_paired_t_test(folds: int) -> None:
    curves = made_curves(6, folds, seed=folds)
    limits = paired_cutoffs([(scores, False) for scores in curves], range(2, EPOCHS))
    assert list(limits) == list(range(2, EPOCHS))
    for epoch, limit in limits.items():
        now = [scores[:, epoch - 1] for scores in curves]
        best = max(range(6), key=lambda trial: now[trial].mean())
        errors = []
        for trial in set(range(6)) - {best}:
            difference = now[best].mean() - now[trial].mean()
            errors.append(difference / ttest_rel(now[best], now[trial]).statistic)
        pooled = np.sqrt(np.mean(np.square(errors)))
        assert limit == pytest.approx(now[best].mean() - pooled, rel=1e-12)


def test_a_single_trial_gives_a_cutoff_by_the_standard_error_of_its_own_score() -> None:
    scores = np.array([[0.2, 0.4], [0.4, 0.8]])
    # Standard deviations 0.1414 and 0.2828; divided by the root of two folds: 0.1 and 0.2.
    assert paired_cutoffs([(scores, False)], [1, 2]) == pytest.approx({1: 0.2, 2: 0.4})


def test_paired_cutoffs_need_a_trial_that_reached_the_epoch() -> None:
    low, high = np.array([[0.1, 0.2], [0.1, 0.2]]), np.array([[0.5], [0.5]])
    assert paired_cutoffs([], [1, 2]) == {}
    assert paired_cutoffs([(high, True)], [1, 2]) == {1: 0.5}
    assert paired_cutoffs([(low, True), (high, True)], [1, 2]) == {1: 0.5, 2: 0.2}
    assert paired_cutoffs([(low, True), (high, False)], [1, 2, 3]) == {1: 0.5, 2: 0.5, 3: 0.5}


def test_fold_curves_are_the_best_scores_so_far_of_the_selecting_part() -> None:
    scores = {("b", 1): 0.3, ("b", 2): 0.2, ("b", 3): 0.6, ("a", 1): 0.5}  # fold a has ended
    rows = [
        {"fold": fold, "epoch": epoch, "split": split, "ua": score + (split != "validation")}
        for (fold, epoch), score in scores.items()
        for split in ("test", "train", "validation")
    ]
    curves = fold_curves(pa.Table.from_pylist(rows), "validation", "ua")
    assert curves.tolist() == [[0.3, 0.3, 0.6], [0.5, 0.5, 0.5]]
