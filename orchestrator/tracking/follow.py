"""Follows a running sweep, and gives each finished trial to the trackers.

A thread of the driver reads the storage every few seconds, as `ser status --watch` does. A tracker
that fails is left out for the rest of the run, after one warning: it never stops the sweep. The
next run of the same command copies the trials that are missing.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from features.storage import Storage
from orchestrator.errors import NoSweepError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, SweepRecord
from orchestrator.results.opened import OpenedSweep
from orchestrator.tracking.logs import Tracker, TrialLog, sweep_scores, trial_log
from orchestrator.tracking.mlflow import MLflow
from orchestrator.tracking.tensorboard import TensorBoard
from orchestrator.tracking.wandb import WandB

TRACKERS: dict[str, Callable[[SweepRecord, Storage], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}
EVERY = 5.0
"""Seconds between two looks at the storage."""
PATIENCE = 300.0
"""Seconds after the end of a sweep that slow trackers get."""
PATIENCE_AFTER_STOP = 10.0
"""Seconds that a tracker gets for what it writes at the moment of an error or of Ctrl-C."""


@contextmanager
def followed(names: Sequence[str], ledger: Ledger, warn: Callable[[str], None]) -> Iterator[None]:
    """Give the finished trials of a sweep to trackers inside this context.

    At its end, copy the trials that are left, the scores of the sweep and its report. After an
    error or Ctrl-C, the next run does that.

    names : of `TRACKERS`
    warn : gets one line for each tracker that fails
    """
    if not names:
        yield
        return
    follower = Follower(names, ledger, warn)
    thread = threading.Thread(target=follower.run, daemon=True)
    thread.start()
    try:
        yield
        follower.end()
        thread.join(PATIENCE)
        if thread.is_alive():
            warn("trackers are slow, so this run ends without them. Run the same command to retry")
    finally:
        follower.stop()
        # Python ends the threads that are left when the process ends. In the middle of a C++
        # function, such as Arrow's reader, this aborts the process, and its exit code is lost.
        thread.join(PATIENCE_AFTER_STOP)


class Follower:
    """Reads a sweep again and again, and gives new trials to its trackers."""

    def __init__(self, names: Sequence[str], ledger: Ledger, warn: Callable[[str], None]) -> None:
        self.ledger, self.warn = ledger, warn
        self.waiting = list(names)
        self.trackers: dict[str, Tracker] = {}
        self.proposals: list[Proposal] = []
        self.seen: set[str] = set()
        self._ended = threading.Event()
        self._stopped = threading.Event()

    def end(self) -> None:
        """Let `run` copy the remaining trials, and return."""
        self._ended.set()

    def stop(self) -> None:
        """Let `run` return as soon as it can."""
        self._stopped.set()
        self._ended.set()

    def run(self) -> None:
        """Copy finished trials until `end` or `stop`."""
        try:
            while not self._ended.wait(EVERY):
                self._look()
            self._look()
            if self.trackers and not self._stopped.is_set():
                self._finish()
        except Exception as error:  # the storage failed: the sweep itself reports that
            if not self._stopped.is_set():
                self.warn(f"trackers stopped: {_line(error)}. Run the same command to retry")

    def _look(self) -> None:
        """Give each trial that has finished since the last look to all trackers, until `stop`."""
        if self._stopped.is_set():
            return
        if self.waiting:
            try:
                sweep = self.ledger.sweep()
            except NoSweepError:  # it has not started yet
                return
            while self.waiting:
                self._attempt(self.waiting.pop(0), self._open, sweep)
        self.proposals = self.ledger.proposals(self.proposals)
        for trial in dict.fromkeys(proposal.trial for proposal in self.proposals):
            if self._stopped.is_set():
                return
            record = None if trial in self.seen else self.ledger.trial(trial, weights=False)
            if record is not None:
                self.seen.add(trial)
                log = trial_log(self.ledger, record)
                for name in list(self.trackers):
                    self._attempt(name, self._add, log)

    def _finish(self) -> None:
        """Give the scores and the report to all trackers."""
        scores = sweep_scores(OpenedSweep(self.ledger).scores())
        for name in list(self.trackers):
            self._attempt(name, self._report, scores)

    def _open(self, name: str, sweep: SweepRecord) -> None:
        self.trackers[name] = TRACKERS[name](sweep, self.ledger.storage)

    def _add(self, name: str, log: TrialLog) -> None:
        if not self.trackers[name].has(log.record.id):
            self.trackers[name].add(log)

    def _report(self, name: str, scores: dict[str, float]) -> None:
        self.trackers[name].finish(scores, self.ledger.storage.child("report"))

    def _attempt(self, name: str, action: Callable[[str, Any], None], value: Any) -> None:
        """Do something with a tracker. If it fails, warn once and leave the tracker out."""
        if self._stopped.is_set():
            return
        try:
            action(name, value)
        except ModuleNotFoundError as error:
            package = (error.name or name).split(".")[0]
            remedy = f"pip install 'ser-orchestrator[{name}]'" if package == name else str(error)
            self._drop(name, f"the package {package} is missing: {remedy}")
        except Exception as error:
            self._drop(name, _line(error))

    def _drop(self, name: str, reason: str) -> None:
        self.trackers.pop(name, None)
        self.warn(
            f"tracker {name} failed: {reason}. The sweep continues without it. Run the same "
            f"command to retry"
        )


def _line(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
