"""Proposes configurations: Optuna, asked so that its answers do not depend on the order of events.

Proposal n uses the results of trials 0 to n - `lag`, in that order, and a sampler seeded with
(seed, n). Trial n starts when all those trials are finished and a slot is free. A trial's cutoffs
come from the same trials. So a search is a function of its seed, its lag and the results of its
trials, and on CPUs these results are the same bits everywhere. For this reason a resumed sweep ends
as if it had never been interrupted. With `lag` = 1 the search is strictly sequential. With `lag` =
16, proposals use all earlier results but the newest 15, and at most 16 trials run at the same time.
With eight slots, seven of them can then continue while a slow trial runs.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from orchestrator.config.sections import Configuration
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, TrialRecord
from orchestrator.sweep.pruning import Asha, Paired, fold_curves, rungs
from orchestrator.sweep.sampler import SAMPLERS, SeededSampler
from orchestrator.sweep.tune_compat import SearcherWithoutState
from orchestrator.training import checkpoints
from search_spaces import Space


def default_lag(slots: int, trials: int) -> int:
    """The lag of a search that sets none.

    slots : trials that can run at the same time
    trials : trials of the search

    With a lag of `slots`, every slow trial makes others wait. The larger the lag, the fewer results
    a proposal uses. About 2.25 trials a slot keep slots busy if lengths of trials differ by ten. At
    least four trials and two fifths of the others use results: otherwise a large cluster would
    start all trials at once, and the search could not learn. benchmarks/search_scale.py and
    benchmarks/search_lag.py measured both sides.
    """
    return min(slots + 5 * (slots - 1) // 4, max(2, 3 * (trials - 4) // 5))


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
        self.concurrent = lag  # slots. With fewer, the search only takes longer
        self.resolve = resolve
        ledger.rename_damaged_proposals()
        self.stored = ledger.proposals()
        points = [proposal.hyperparameters for proposal in self.stored]
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
        self.unfinished = 0  # the first number that may be missing in `finished`
        self.running: dict[str, int] = {}  # Tune's id -> number
        self.reported = 0  # number of trials whose results Optuna knows
        self.compared = 0  # number of trials whose curves the rule of pruning knows
        self.asha = Asha(rungs(self.config, self.epochs), self.config.reduction_factor)
        self.paired = Paired(range(self.config.grace_epochs, self.epochs))
        self.storage_error: OSError | None = None

    @property
    def done(self) -> bool:
        """Whether every trial is proposed and has a record."""
        return sum(record is not None for record in self.finished.values()) >= self.trials

    @property
    def failures(self) -> list[TrialRecord]:
        """The newest trials that failed in a row, before the first unfinished trial."""
        while self.unfinished in self.finished:
            self.unfinished += 1
        failed: list[TrialRecord] = []
        for number in reversed(range(self.unfinished)):
            record = self.finished[number]
            if record is not None:  # an interrupted trial says nothing about its configuration
                if record.status != "failed":
                    break
                failed.append(record)
        return failed[::-1]

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
        if self.stored[number : number + 1] != [proposal]:
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
        paired = self.config.scheduler == "paired"
        for earlier in range(self.compared, number - self.lag + 1):
            record = self.finished[earlier]
            if record is None or record.score is None:
                continue
            pruned = record.status == "pruned"
            if paired:
                folds = self.ledger.folds(record.id)
                self.paired.add(fold_curves(folds, self.part, self.selecting), pruned)
            else:
                self.asha.add(record.curve, pruned)
        self.compared = max(self.compared, number - self.lag + 1)
        return self.paired.cutoffs() if paired else self.asha.cutoffs()

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
