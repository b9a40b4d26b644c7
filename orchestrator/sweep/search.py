"""Proposes configurations: Optuna, asked so that its answers do not depend on the order of events.

Proposal n uses the results of trials 0 to n - `lag`, in that order, and a sampler seeded with
(seed, n). Trial n starts when all those trials are finished. A trial's cutoffs come from the same
trials. So a search is a function of its seed, its lag and the results of its trials, and on CPUs
these results are the same bits everywhere. For this reason a resumed sweep ends as if it had never
been interrupted. With `lag` = 1 the search is strictly sequential. With `lag` = 8, eight trials run
at the same time, and each uses all earlier results but the newest seven.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from orchestrator.config.sections import Configuration
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, TrialRecord
from orchestrator.sweep.pruning import cutoffs, fold_curves, paired_cutoffs, rungs
from orchestrator.sweep.sampler import SAMPLERS, SeededSampler
from orchestrator.sweep.tune_compat import SearcherWithoutState
from orchestrator.training import checkpoints
from search_spaces import Space


def failure_message(failed: list[TrialRecord]) -> str:
    """The message for trials that failed in a row: common values, ranges and reasons."""
    same, ranges = [], []
    for key in failed[0].hyperparameters:
        values = [record.hyperparameters.get(key) for record in failed]
        numbers = [value for value in values if isinstance(value, int | float)]
        if all(value == values[0] for value in values):
            same.append(f"{key} {values[0]}")
        elif len(numbers) == len(values):
            ranges.append(f"{key} from {min(numbers):.3g} to {max(numbers):.3g}")
    reasons = dict.fromkeys(str(record.reason) for record in failed)
    return (
        f"trials {failed[0].number} to {failed[-1].number} failed in a row; cluster.max_failures "
        f"allows no more. They have in common: {'; '.join(same + ranges) or 'nothing'}. "
        f"Reasons: {'; '.join(reasons)}"
    )


class Search(SearcherWithoutState):
    """Proposes trials to Tune, in order. Finished trials count as results and never run again.

    lag : proposal n uses the results of trials 0 to n - lag
    resolve : hyperparameters -> the configuration and the trial id
    taken : points to propose first: those of trials that a fork copied
    """

    def __init__(
        self,
        space: Space,
        configuration: Configuration,
        ledger: Ledger,
        lag: int,
        resolve: Callable[[dict[str, Any]], tuple[Configuration, str]],
        taken: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(metric="score", mode="max")
        assert configuration.search is not None
        self.config = configuration.search
        self.epochs = configuration.training.last_epoch
        self.selecting = configuration.training.metric
        self.part = "test" if configuration.folds.selection == "held_out" else "validation"
        self.max_failures = configuration.cluster.max_failures
        self.ledger = ledger
        self.lag = lag
        self.concurrent = lag  # trials at the same time. With fewer, the search only takes longer
        self.resolve = resolve
        ledger.rename_damaged_proposals()
        points = [proposal.hyperparameters for proposal in ledger.proposals()]
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
        self.proposed: list[Proposal] = []
        self.finished: dict[int, TrialRecord | None] = {}  # None: the trial left no record
        self.curves: dict[str, NDArray[np.float64]] = {}  # id -> (folds, epochs) best scores
        self.running: dict[str, int] = {}  # Tune's id -> number
        self.reported = 0  # number of trials whose results Optuna knows
        self.storage_error: OSError | None = None

    @property
    def done(self) -> bool:
        """Whether every trial is proposed and has a record."""
        return sum(record is not None for record in self.finished.values()) >= self.trials

    @property
    def failures(self) -> list[TrialRecord]:
        """The newest trials that failed in a row, before the first unfinished trial."""
        failed: list[TrialRecord] = []
        for number in itertools.count():
            if number not in self.finished:
                return failed
            record = self.finished[number]
            if record is not None:  # an interrupted trial says nothing about its configuration
                failed = [*failed, record] if record.status == "failed" else []
        return failed

    @property
    def hopeless(self) -> bool:
        """Whether `cluster.max_failures` trials failed in a row: then no further trial starts."""
        return len(self.failures) >= self.max_failures

    def advance(self) -> Proposal | None:
        """Skip finished trials. Returns the first proposal that can start now, or None."""
        while not self.hopeless and (proposal := self._next()) is not None:
            if any(self.proposed[n].trial == proposal.trial for n in self.running.values()):
                return None  # the same configuration is in training: wait for its result
            record = self.ledger.trial(proposal.trial)
            if record is None:
                self.ledger.rename_damage(proposal.trial)
                return proposal
            # A kill between the record and the deletion of checkpoints leaves them behind.
            checkpoints.delete_all(self.ledger.trial_storage(record.id))
            self.finished[proposal.number] = record
        return None

    def suggest(self, trial_id: str) -> Any:
        """The next configuration to train; None to wait; FINISHED at the end."""
        if self.storage_error is not None or len(self.running) >= self.concurrent:
            return None
        proposal = self.advance()
        if self.hopeless:
            return Searcher.FINISHED
        if proposal is None:
            # If nothing runs, an interrupted trial blocks the search. The next run retries it.
            no_more = len(self.proposed) >= self.trials or not self.running
            return Searcher.FINISHED if no_more else None
        self.running[trial_id] = proposal.number
        configuration, _ = self.resolve(proposal.hyperparameters)
        return {
            "trial": proposal.trial,
            "number": proposal.number,
            "hyperparameters": proposal.hyperparameters,
            "configuration": configuration.resolved(),
            "cutoffs": self._cutoffs(proposal.number),
        }

    def _next(self) -> Proposal | None:
        """The first proposal that has not started; None if the search must wait for results."""
        if self.proposed:
            last = self.proposed[-1]
            if last.number not in self.finished and last.number not in self.running.values():
                return last
        number = len(self.proposed)
        if number >= self.trials or not self._report_up_to(number - self.lag):
            return None
        chosen = self.optuna.suggest(str(number)) or {}
        _, identity = self.resolve(chosen)
        proposal = Proposal(number=number, trial=identity, hyperparameters=chosen)
        self.ledger.write_proposal(proposal)
        self.proposed.append(proposal)
        return proposal

    def _report_up_to(self, last: int) -> bool:
        """Report the results up to trial `last` to Optuna; False if one is not finished."""
        while self.reported <= last:
            record = self.finished.get(self.reported)
            if record is None:
                return False
            result = None if record.score is None else {"score": record.score}
            self.optuna.on_trial_complete(str(self.reported), result, error=result is None)
            self.reported += 1
        return True

    def _cutoffs(self, number: int) -> dict[int, float]:
        """Return the cutoffs of trial `number`, from the results that its proposal used."""
        earlier = [self.finished[n] for n in range(number - self.lag + 1)]
        scored = [record for record in earlier if record is not None and record.score is not None]
        if self.config.scheduler == "paired":
            finished = [(self._fold_curves(each), each.status == "pruned") for each in scored]
            return paired_cutoffs(finished, range(self.config.grace_epochs, self.epochs))
        curves = [(record.curve, record.status == "pruned") for record in scored]
        return cutoffs(curves, rungs(self.config, self.epochs), self.config.reduction_factor)

    def _fold_curves(self, record: TrialRecord) -> NDArray[np.float64]:
        """Read the curves of a finished trial's folds once."""
        if record.id not in self.curves:
            folds = self.ledger.folds(record.id)
            self.curves[record.id] = fold_curves(folds, self.part, self.selecting)
        return self.curves[record.id]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the end of a trial. Only the record in the ledger counts."""
        number, ledger = self.running.pop(trial_id), self.ledger
        if "interrupted" in (result or {}):  # the storage failed for long: do not wait again
            ledger = Ledger(replace(ledger.storage, waits=()))
        try:
            self.finished[number] = ledger.trial(self.proposed[number].trial)
        except OSError as failure:
            self.storage_error = failure  # Tune would take a raised error for the trial's failure

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Does nothing: a trial's record has its whole curve."""
