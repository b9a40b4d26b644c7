"""The driver's record of its running trials, for `ser status`. No result depends on it."""

import time
from contextlib import suppress
from dataclasses import replace

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import RunningTrial, SweepProgress
from orchestrator.sweep.resources import Resources

EVERY = 5.0
"""Seconds between two writes, at least."""


class LiveRecord:
    """Writes the running trials of a sweep, at most every `EVERY` seconds.

    A storage that fails is tried again at the next write, and never stops the sweep.
    """

    def __init__(self, ledger: Ledger, resources: Resources) -> None:
        self.ledger = Ledger(replace(ledger.storage, waits=()))  # the next write is the retry
        self.concurrent = resources.concurrent
        self.gpus = resources.workers * resources.gpus_per_worker
        self.running: dict[str, RunningTrial] = {}
        self.beat = 0
        self.due = 0.0

    def train(self, trial: str, epoch: int = 0, score: float | None = None) -> None:
        """Note that a trial runs, and how far it is."""
        if not epoch and trial in self.running:  # restarted: its epochs come from a checkpoint
            return
        self.running[trial] = RunningTrial(trial=trial, epoch=epoch, score=score)

    def end(self, trial: str) -> None:
        """Note that a trial does not run any more."""
        self.running.pop(trial, None)

    def write(self) -> None:
        """Write the record if it is due, unchanged too: its beat shows that the driver lives."""
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + EVERY
        self.beat += 1
        with suppress(OSError):
            self.ledger.write_progress(
                SweepProgress(
                    beat=self.beat,
                    concurrent=self.concurrent,
                    gpus=self.gpus,
                    running=list(self.running.values()),
                )
            )

    def delete(self) -> None:
        """Delete the record, because the search has ended."""
        with suppress(OSError):
            self.ledger.delete_progress()
