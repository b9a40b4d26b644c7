"""Seeded samplers: a proposal does not depend on the number of earlier questions."""

import optuna
import pytest
from optuna.distributions import FloatDistribution

from orchestrator.sweep.sampler import SAMPLERS, SeededSampler

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
