"""Optuna's samplers, seeded so that a resumed search proposes the same configurations."""

from collections.abc import Callable
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from orchestrator.training.seeds import derived_seed

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    # Every point of a grid is enqueued, so the sampler has nothing to sample.
    "grid": lambda seed: RandomSampler(seed=seed),
}


class SeededSampler(BaseSampler):
    """A fresh sampler for each trial, seeded by the trial's number.

    The state of one common generator would depend on the number of questions since its creation,
    and a resumed sweep asks fewer questions. The search space is derived from the finished trials
    without randomness. One sampler does this for all trials, because it reads each trial once.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._infers = make(seed % 2**32)
        self._current: tuple[int, BaseSampler] | None = None

    def _sampler(self, trial: optuna.trial.FrozenTrial) -> BaseSampler:
        if self._current is None or self._current[0] != trial.number:
            seed = derived_seed(self._seed, "search", trial.number) % 2**32
            self._current = (trial.number, self._make(seed))
        return self._current[1]

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        return self._infers.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return self._sampler(trial).sample_independent(study, trial, name, distribution)
