"""Seeded samplers: a proposal does not depend on the number of earlier questions."""

from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from orchestrator.sweep.sampler import SAMPLERS, SeededSampler
from orchestrator.training.seeds import derived_seed

SPACE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}


def proposals(name: str, seed: int, known: list[dict[str, float]]) -> list[dict[str, float]]:
    """The first 15 points of a study. The sampler does not make those that are known already."""
    study = optuna.create_study(direction="maximize", sampler=SeededSampler(SAMPLERS[name], seed))
    for point in known:
        study.enqueue_trial(point)
    for _ in range(15):
        trial = study.ask(SPACE)
        study.tell(trial, trial.params["x"] - trial.params["y"])
    return [trial.params for trial in study.trials]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("name", ["tpe", "random"])
@pytest.mark.parametrize("known", [1, 4, 14])
def test_a_resumed_search_proposes_the_same_points(name: str, known: int) -> None:
    points = proposals(name, 0, [])
    assert proposals(name, 0, points[:known]) == points


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_another_seed_proposes_other_points(name: str) -> None:
    first, second = proposals(name, 0, []), proposals(name, 1, [])
    assert not [point for point in first if point in second]


def delayed(study: optuna.Study, fresh: bool) -> list[dict[str, Any]]:
    """30 points, with the results of all trials but the newest four. Every seventh trial fails."""
    asked: list[optuna.Trial] = []
    for number in range(30):
        if number >= 5:
            known = asked[number - 5]
            if known.number % 7 == 3:
                study.tell(known, state=TrialState.FAIL)
            else:
                study.tell(known, -((known.params["x"] - 0.3) ** 2))
        if fresh:
            study.sampler = SAMPLERS["tpe"](derived_seed(0, "search", number) % 2**32)
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        if trial.suggest_categorical("kind", ["a", "b"]) == "a":
            trial.suggest_int("depth", 1, 9)
        asked.append(trial)
    return [trial.params for trial in asked]


def test_proposals_are_those_of_a_fresh_sampler_for_each_trial() -> None:
    """The sampler keeps the common search space, which a fresh one derives from all trials."""
    kept = optuna.create_study(direction="maximize", sampler=SeededSampler(SAMPLERS["tpe"], 0))
    assert delayed(kept, False) == delayed(optuna.create_study(direction="maximize"), True)
