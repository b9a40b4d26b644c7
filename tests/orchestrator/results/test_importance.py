"""Importances of hyperparameters: a planted effect, and searches that say too little."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.results.importance import FEWEST_TRIALS, MOST_TRIALS, importances
from search_spaces import Space

SPACE = Space.model_validate(
    {
        "parameters": {
            "training.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
            "model.dropout": {"low": 0.0, "high": 0.9},
            "model.hidden_size": {"choices": [64, 128]},
        }
    }
)


def findings(count: int, effect: float = 0.1, noise: float = 0.001, **others: Any) -> Any:
    """Trials whose score depends on the logarithm of the learning rate only."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(count):
        point = {
            "training.learning_rate": float(10 ** rng.uniform(-5, -2)),
            "model.dropout": float(rng.uniform(0, 0.9)),
            "model.hidden_size": int(rng.choice([64, 128])),
        }
        score = 0.5 + effect * np.log10(point["training.learning_rate"]) + noise * rng.normal()
        record = {"status": "complete", "score": float(score), "hyperparameters": point}
        trials.append(SimpleNamespace(record=SimpleNamespace(**record | others), number=number))
    sweep = SimpleNamespace(space=SPACE.model_dump(mode="json"))
    return SimpleNamespace(sweep=sweep, trials=trials)


def test_a_planted_effect_is_found_from_the_fewest_trials() -> None:
    found = importances(findings(FEWEST_TRIALS))
    assert next(iter(found.shares)) == "training.learning_rate"
    assert found.shares["training.learning_rate"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert set(found.shares) == set(SPACE.parameters)
    assert (found.trials, found.complete, found.reason) == (FEWEST_TRIALS, FEWEST_TRIALS, "")
    assert importances(findings(FEWEST_TRIALS)) == found


def test_few_trials_pruned_trials_and_equal_scores_give_no_importances() -> None:
    few = importances(findings(FEWEST_TRIALS - 1))
    assert (few.shares, few.trials, few.complete) == ({}, 0, FEWEST_TRIALS - 1)
    assert "has 19 complete trials, and fewer than 20 say little" in few.reason
    pruned = importances(findings(30, status="pruned"))
    assert "has 0 complete trials" in pruned.reason
    same = importances(findings(30, effect=0.0, noise=0.0))
    assert same.reason == "All complete trials have the same score."
    without = findings(30)
    without.sweep.space = {}
    assert importances(without).reason == "The sweep has no search space."


def test_of_many_trials_a_part_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.results.importance.MOST_TRIALS", 25)
    found = importances(findings(MOST_TRIALS))
    assert (found.trials, found.complete) == (25, MOST_TRIALS)
    assert next(iter(found.shares)) == "training.learning_rate"
