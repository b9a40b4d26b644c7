"""What to try next: Optuna, asked so that its answers do not depend on what finishes first.

The n-th proposal is made from the results of trials 0 to n - `lag`, told in their order, by a
sampler seeded with (seed, n); trial n starts when all of those have ended. So does pruning: a
trial's cutoffs come from those same trials. A search is then a function of its seed, its lag and
its trials' results, which on CPUs are the same bits wherever they are computed. That is what makes
a resumed sweep the sweep that was never interrupted. `lag` = 1 searches in strict sequence; with
`lag` = 8, eight trials run at a time and each knows all but the newest seven.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from orchestrator.training import checkpoints
from orchestrator.config.sections import Configuration, SearchConfig
from orchestrator.training.fold_run import derived_seed
from orchestrator.ledger.ledger import Ledger, Suggestion, TrialRecord
from search_spaces import Space

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    # Every point of a grid is enqueued; nothing is left to sample.
    "grid": lambda seed: RandomSampler(seed=seed),
}


class HopelessError(RuntimeError):
    """So many trials failed in a row that the sweep was ended. The message says what they share."""


def in_common(failed: list[TrialRecord]) -> str:
    """What trials that failed one after the other share: values, ranges, reasons."""
    same, ranges = [], []
    for key in failed[0].hyperparameters:
        values = [record.hyperparameters.get(key) for record in failed]
        if all(value == values[0] for value in values):
            same.append(f"{key} {values[0]}")
        elif all(isinstance(value, int | float) for value in values):
            ranges.append(f"{key} from {min(values):.3g} to {max(values):.3g}")  # type: ignore[type-var]
    reasons = dict.fromkeys(str(record.reason) for record in failed)
    return (
        f"trials {failed[0].number} to {failed[-1].number} failed one after the other, as many as "
        f"cluster.max_failures allows. In common: {'; '.join(same + ranges) or 'nothing'}. "
        f"Reasons: {'; '.join(reasons)}"
    )


class SeededSampler(BaseSampler):
    """A fresh sampler for each trial, seeded by the trial's number.

    One sampler's generator would depend on how often it was asked since it was made, and a
    resumed sweep asks it less often.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._current: tuple[int, BaseSampler] | None = None

    def _of(self, trial: optuna.trial.FrozenTrial) -> BaseSampler:
        if self._current is None or self._current[0] != trial.number:
            seed = derived_seed(self._seed, "search", trial.number) % 2**32
            self._current = (trial.number, self._make(seed))
        return self._current[1]

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return self._of(trial).sample_independent(study, trial, name, distribution)


def rungs(search: SearchConfig, epochs: int) -> list[int]:
    """Epochs at which trials are compared: grace, grace * factor, … below `epochs`."""
    found, rung = [], search.grace_epochs
    while search.scheduler == "asha" and rung < epochs:
        found.append(rung)
        rung *= search.reduction_factor
    return found


def cutoffs(
    ended: list[tuple[list[float], bool]], rungs: list[int], factor: int
) -> dict[int, float]:
    """ASHA's rule: at a rung, go on among the best 1 in `factor` of those that reached it.

    ended : (curve, pruned) of each trial to compare with; the curve of one that was not pruned
        goes on with its last score
    returns : epoch -> score below which a trial is pruned; no rung that nobody has reached
    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", in the
    stopping form, with the compared set fixed when the trial starts.
    """
    found = {}
    for rung in rungs:
        reached = [
            curve[min(rung, len(curve)) - 1]
            for curve, pruned in ended
            if curve and (len(curve) >= rung or not pruned)
        ]
        if reached:
            found[rung] = float(np.percentile(reached, (1 - 1 / factor) * 100))
    return found


class Search(Searcher):
    """Proposes trials to Tune, in order; trials that have ended are told, and never run again.

    lag : proposal n is made from the results of trials 0 to n - lag
    concurrent : trials that run at a time; fewer than `lag` change nothing but the time
    resolve : the configuration and the trial id for a choice of hyperparameters
    taken : points proposed first: those of another sweep whose trials were taken over
    """

    def __init__(
        self,
        space: Space,
        configuration: Configuration,
        ledger: Ledger,
        lag: int,
        concurrent: int,
        resolve: Callable[[dict[str, Any]], tuple[Configuration, str]],
        taken: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(metric="score", mode="max")
        assert configuration.search is not None
        self.config = configuration.search
        self.epochs = configuration.training.last_epoch
        self.max_failures = configuration.cluster.max_failures
        self.ledger = ledger
        self.lag = lag
        self.concurrent = concurrent
        self.resolve = resolve
        ledger.put_damaged_suggestions_aside()
        known = ledger.suggestions()
        points = [suggestion.hyperparameters for suggestion in known]
        grid = self.config.sampler == "grid"
        first = space.grid() if grid else [space.first] if space.first else []
        queue = list(taken or [])
        queue += [point for point in first if point not in queue]
        self.trials = min(self.config.trials, len(queue)) if grid else self.config.trials
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = OptunaSearch(
            space=space.suggest,
            metric="score",
            mode="max",
            points_to_evaluate=points + queue[len(points) :],
            sampler=SeededSampler(SAMPLERS[self.config.sampler], configuration.training.seed),
        )
        self.proposed: list[Suggestion] = []
        self.ended: dict[int, TrialRecord | None] = {}  # None: it broke off, and left no record
        self.running: dict[str, int] = {}  # Tune's id -> number
        self.told = 0
        self.gone: OSError | None = None  # why the ledger could not be asked

    @property
    def done(self) -> bool:
        """Whether every trial has been proposed and has ended with a record."""
        return sum(record is not None for record in self.ended.values()) >= self.trials

    @property
    def failures(self) -> list[TrialRecord]:
        """The trials that failed one after the other, up to the first that has not ended."""
        found: list[TrialRecord] = []
        for number in itertools.count():
            if number not in self.ended:
                return found
            record = self.ended[number]
            if record is not None:  # one that broke off tells nothing
                found = [*found, record] if record.status == "failed" else []
        return found

    @property
    def hopeless(self) -> bool:
        """Whether `cluster.max_failures` trials failed in a row: no further one is started."""
        return len(self.failures) >= self.max_failures

    def advance(self) -> Suggestion | None:
        """Pass over trials that have ended: the first that can start now, or None."""
        while not self.hopeless and (suggestion := self._next()) is not None:
            if any(self.proposed[n].trial == suggestion.trial for n in self.running.values()):
                return None  # the same configuration is being trained: wait for its result
            record = self.ledger.trial(suggestion.trial)
            if record is None:
                self.ledger.put_damage_aside(suggestion.trial)
                return suggestion
            # A kill between the record and this may have left them.
            checkpoints.delete_all(self.ledger.trial_storage(record.id))
            self.ended[suggestion.number] = record
        return None

    def suggest(self, trial_id: str) -> Any:
        """The next configuration to train; None while it must wait; FINISHED at the end."""
        if self.gone is not None or len(self.running) >= self.concurrent:
            return None
        suggestion = self.advance()
        if self.hopeless:
            return Searcher.FINISHED
        if suggestion is None:
            # What cannot go on though nothing runs waits for a trial that broke off.
            ended = len(self.proposed) >= self.trials or not self.running
            return Searcher.FINISHED if ended else None
        self.running[trial_id] = suggestion.number
        configuration, _ = self.resolve(suggestion.hyperparameters)
        return {
            "trial": suggestion.trial,
            "number": suggestion.number,
            "hyperparameters": suggestion.hyperparameters,
            "configuration": configuration.resolved(),
            "cutoffs": self._cutoffs(suggestion.number),
        }

    def _next(self) -> Suggestion | None:
        """The first proposal that was neither started nor ended; None where it must wait."""
        if self.proposed and self._waits(self.proposed[-1].number):
            return self.proposed[-1]
        number = len(self.proposed)
        if number >= self.trials or not self._tell(number - self.lag):
            return None
        chosen = self.optuna.suggest(str(number)) or {}
        _, identity = self.resolve(chosen)
        suggestion = Suggestion(number=number, trial=identity, hyperparameters=chosen)
        self.ledger.write_suggestion(suggestion)
        self.proposed.append(suggestion)
        return suggestion

    def _waits(self, number: int) -> bool:
        return number not in self.ended and number not in self.running.values()

    def _tell(self, last: int) -> bool:
        """Tell Optuna the results up to trial `last`, in order. False where one has not ended."""
        while self.told <= last:
            record = self.ended.get(self.told)
            if record is None:
                return False
            result = None if record.score is None else {"score": record.score}
            self.optuna.on_trial_complete(str(self.told), result, error=result is None)
            self.told += 1
        return True

    def _cutoffs(self, number: int) -> dict[int, float]:
        found = []
        for earlier in range(number - self.lag + 1):
            record = self.ended[earlier]
            if record is not None and record.score is not None:
                found.append((record.curve, record.status == "pruned"))
        return cutoffs(found, rungs(self.config, self.epochs), self.config.reduction_factor)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note the end of a trial. Its record counts, and not what Tune remembers."""
        number, ledger = self.running.pop(trial_id), self.ledger
        if "broke_off" in (result or {}):  # storage failed for long: it is not waited for again
            ledger = Ledger(replace(ledger.storage, waits=()))
        try:
            self.ended[number] = ledger.trial(self.proposed[number].trial)
        except OSError as error:
            self.gone = error  # Tune would take what is raised here for a failure of the trial

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: a trial's record has its whole curve."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher beside its results, and we never read that

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the ledger is the state."""
