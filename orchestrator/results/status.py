"""How far a sweep is, read from its storage alone."""

import re
from collections.abc import Iterable
from typing import Any

from orchestrator.ledger.lease import holder_of
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, SweepRecord, TrialRecord
from orchestrator.results.selection import best_trial

LAST_FAILURES = 3


def sweep_status(ledger: Ledger) -> dict[str, Any]:
    """The status of a sweep, as `StatusReader.read` returns it. Raises NoSweepError."""
    return StatusReader(ledger).read()


class StatusReader:
    """Reads the status of a sweep again and again. Files that do not change are read once.

    Only records are read, and no file is verified, so it is quick on any storage.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.proposals: list[Proposal] = []
        self.finished: dict[str, TrialRecord] = {}

    def read(self) -> dict[str, Any]:
        """The status as plain values. Raises NoSweepError.

        `name`, `model`, `trials` to run, `proposed`, `complete`, `pruned`, `failed`, `unfinished`
        (numbers of proposed trials), `best` (`id` and `score`, or None), `folds`, `epochs` (the
        largest number of a trial);
        `running` : `number`, `id`, `epoch` and `score` (None if it is not known) of each unfinished
            trial. Without a driver, the epoch is that of the newest checkpoint
        `fold_epochs` : `done` and `left`, both upper limits: patience and pruning end folds early
        `seconds_left` : estimated, from the mean epochs and the seconds of an epoch of finished
            trials; None before a trial has finished, and if no driver works on the sweep
        `gpus` : GPUs of a trial; None if no driver works on the sweep
        `failures` : `number` and `reason` of the newest failed trials
        """
        record = self.ledger.sweep()
        self.proposals = self.ledger.proposals(self.proposals)
        for trial in dict.fromkeys(proposal.trial for proposal in self.proposals):
            if trial not in self.finished and (found := self.ledger.record(trial)) is not None:
                self.finished[trial] = found
        unfinished = [p for p in self.proposals if p.trial not in self.finished]
        statuses = [self.finished[p.trial].status for p in self.proposals if p not in unfinished]
        best = best_trial(self.finished.values())
        failed = [trial for trial in self.finished.values() if trial.status == "failed"]
        live = self.ledger.progress()
        known = {trial.trial: trial for trial in live.running} if live is not None else {}
        running: list[dict[str, Any]] = []
        for proposal in unfinished:
            trained = known.get(proposal.trial)
            epoch = trained.epoch if trained else self._checkpoint(proposal.trial)
            row = {"number": proposal.number, "id": proposal.trial, "epoch": epoch}
            running.append(row | {"score": trained.score if trained else None})
        epochs = record.epochs or 1
        concurrent = None if live is None else live.concurrent
        return {
            "name": record.name,
            "model": record.model,
            "trials": record.trials,
            "proposed": len(self.proposals),
            **{status: statuses.count(status) for status in ("complete", "pruned", "failed")},
            "unfinished": [proposal.number for proposal in unfinished],
            "best": None if best is None else {"id": best.id, "score": best.score},
            "folds": len(record.folds),
            "epochs": epochs,
            "running": running,
            "fold_epochs": self._fold_epochs(record, epochs, [row["epoch"] for row in running]),
            "seconds_left": self._seconds_left(record, running, len(statuses), concurrent),
            "gpus": None if live is None else live.gpus,
            "failures": [
                {"number": trial.number, "reason": trial.reason}
                for trial in failed[-LAST_FAILURES:]
            ],
        }

    def signs_of_life(self) -> tuple[Any, Any]:
        """Two records that a living driver rewrites every few seconds; None if one is missing.

        The driver of a study holds the lease of the study, and not that of a sweep.
        """
        return holder_of(self.ledger.storage), self.ledger.progress()

    def _checkpoint(self, trial: str) -> int:
        """The epoch of a trial's newest checkpoint, 0 without one."""
        names = self.ledger.trial_storage(trial).list()
        epochs = (re.fullmatch(r"checkpoint-(\d{5})", name) for name in names)
        return max((int(match[1]) for match in epochs if match), default=0)

    def _fold_epochs(
        self, record: SweepRecord, epochs: int, running: Iterable[int]
    ) -> dict[str, int]:
        folds, current = len(record.folds), sum(running)
        finished = sum(self.finished[p.trial].epochs for p in self._finished_proposals())
        not_finished = max(0, record.trials - len(self._finished_proposals()))
        return {
            "done": folds * (finished + current),
            "left": folds * max(0, not_finished * epochs - current),
        }

    def _finished_proposals(self) -> list[Proposal]:
        return [proposal for proposal in self.proposals if proposal.trial in self.finished]

    def _seconds_left(
        self,
        record: SweepRecord,
        running: list[dict[str, Any]],
        finished: int,
        concurrent: int | None,
    ) -> float | None:
        """Estimated seconds to the end of the search, if its trials take as long as before."""
        measured = [trial for trial in self.finished.values() if trial.epochs and trial.seconds]
        to_start = max(0, record.trials - finished - len(running))
        if not (to_start or running):
            return 0.0
        if not measured or concurrent is None:
            return None
        epochs = sum(trial.epochs for trial in measured)
        mean = epochs / len(measured)
        left = to_start * mean + sum(max(0.0, mean - row["epoch"]) for row in running)
        return left * sum(trial.seconds for trial in measured) / epochs / concurrent
