"""What the driver does when trials start, report and end: it prints lines, and ends lost trials."""

import math
import time
from collections.abc import Callable
from importlib import import_module
from threading import Thread
from typing import Any

from orchestrator.config.sections import Configuration
from orchestrator.ledger.records import TrialRecord
from orchestrator.progress import Narrator
from orchestrator.sweep.live import LiveRecord
from orchestrator.sweep.resources import living_nodes
from orchestrator.sweep.search import Search
from orchestrator.sweep.trial import LOST, with_remedy
from orchestrator.sweep.tune_compat import (
    end_process,
    interruption_reason,
    is_dead,
    process_lost,
    process_of,
    release_reservations,
)


def name_of(trial: Any) -> str:
    """The name of a trial in Tune's own files."""
    return f"{trial.config['number']}-{trial.config['trial']}"


def events(
    configuration: Configuration,
    search: Search,
    narrator: Narrator,
    record_of: Callable[[dict[str, Any]], TrialRecord],
    workers: int,
    live: LiveRecord,
) -> Any:
    """A callback for Tune: reports events, ends trials at `cluster.trial_minutes`, and writes the
    records of trials whose process is lost again and again.

    record_of : Tune's configuration of a trial -> its record before training
    workers : of a trial
    live : the record of the running trials, for readers of the storage

    The callback raises the storage's OSError, and so ends the sweep, if it cannot read or write.
    """
    from ray import tune

    epochs, minutes = configuration.training.last_epoch, configuration.cluster.trial_minutes
    limit = math.inf if minutes is None else 60 * minutes

    class Events(tune.Callback):
        def __init__(self) -> None:
            self.release_at = 0.0
            self.alive: set[str] = set()  # ids of the trials' processes, idle ones too
            self.dead: set[str] = set()
            self.ends: dict[str, float] = {}
            self.nodes: dict[str, set[str]] = {}
            self.overdue: set[str] = set()

        def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
            if search.storage_error is not None:
                raise search.storage_error
            live.write()
            for trial in trials:
                if trial.trial_id not in self.nodes:  # its process may be lost before it starts
                    self.nodes[trial.trial_id] = set(living_nodes())
            running = [trial for trial in trials if trial.status == "RUNNING"]
            for trial in running:
                if time.monotonic() > self.ends[trial.trial_id]:
                    self.overdue.add(trial.trial_id)
                    self.ends[trial.trial_id] = math.inf
                    end_process(trial)
            if workers == 1:
                return  # then the process of a trial has no slot
            busy = {actor for actor in map(process_of, running) if actor}
            self.alive |= busy
            if time.monotonic() > self.release_at:
                self.dead |= set(filter(is_dead, self.alive - busy))
                self.alive -= self.dead
                release_reservations(self.dead)
                self.release_at = time.monotonic() + 5

        def release_all(self) -> None:
            """Release what all slots reserve, because the search has ended."""
            release_reservations(self.alive | self.dead)

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.ends[trial.trial_id] = time.monotonic() + limit
            chosen = ", ".join(
                f"{key.split('.')[-1]} {value:.3g}"
                if isinstance(value, float)
                else f"{key.split('.')[-1]} {value}"
                for key, value in trial.config["hyperparameters"].items()
            )
            name = f"trial {trial.config['number']} ({trial.config['trial']})"
            narrator.say(f"{name}: {chosen}" if chosen else name)
            live.train(trial.config["trial"])
            if trial.config["number"] == search.trials - 1:
                # The report needs it after the search. Until then, this process mostly waits.
                # Not a daemon: a process that ends in the middle of this import would abort.
                Thread(target=import_module, args=("sklearn.manifold",)).start()

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if "epoch" in result:
                name, note = f"trial {trial.config['number']}", f"score {result['score']:.3f}"
                narrator.bar(name, result["epoch"], epochs, note)
                live.train(trial.config["trial"], result["epoch"], result["score"])

        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._end_overdue(trial)
            self.release_at = 0.0
            nodes = set(living_nodes())
            if not self.nodes.get(trial.trial_id, nodes) <= nodes:
                trial.max_failures += 1  # lost with its node: this says nothing about the trial
            self.nodes[trial.trial_id] = nodes

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self._end_overdue(trial)
            if search.finished.get(trial.config["number"]) is None and process_lost(trial):
                self._fail(trial, with_remedy(LOST, interruption_reason(trial), workers))
            self.on_trial_complete(iteration, trials, trial)

        def _end_overdue(self, trial: Any) -> None:
            """Write the record of a trial whose process was killed at its time limit.

            Tune starts the trial again, and it ends at once, because it has a record.
            """
            if trial.trial_id in self.overdue:
                reason = f"not finished after {minutes:g} minutes (cluster.trial_minutes)"
                self._fail(trial, reason, seconds=limit)

        def _fail(self, trial: Any, reason: str, **fields: Any) -> None:
            record = record_of(trial.config)
            if search.ledger.trial(record.id) is None:
                outcome = {"status": "failed", "reason": reason, **fields}
                record = record.model_copy(update=outcome)
                search.ledger.write_trial(record)
                if record.number in search.finished:
                    search.finished[record.number] = record

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            number = trial.config["number"]
            live.end(trial.config["trial"])
            narrator.remove(f"trial {number}")
            record = search.finished.get(number)  # Tune informs the search first
            if record is None:
                narrator.say(f"trial {number} interrupted: {interruption_reason(trial)}")
            elif record.status == "complete":
                narrator.say(f"trial {number} complete: score {record.score:.4f}")
            else:
                narrator.say(f"trial {number} {record.status}: {record.reason}")

    return Events()
