"""Workarounds for Ray Train and Ray Tune 2.60, each with its reason.

A workaround names the public issue, if there is one. `orchestrator.sweep.ray_compat` has the
workarounds for the start of Ray.

tests/orchestrator/sweep/test_tune_compat.py fails when a workaround is no longer needed, if that
can be tested.
"""

import hashlib
import logging
import os
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ray.air._internal import usage
from ray.tune.execution import tune_controller
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import Searcher
from ray.tune.utils.object_cache import _ObjectCache

from orchestrator.sweep.ray_compat import IMPORT_REMEDY, replaced


def reservation_mark(actor: str) -> int:
    """Bytes of memory that each worker of a slot reserves: 1.0 to 2.05 MB.

    Train's placement groups have no name. This unusual number identifies those that the process of
    a trial has made. `actor` is the id of that process.
    """
    return 10**6 + int(hashlib.sha1(actor.encode()).hexdigest()[:5], 16)


def release_reservations(actors: Iterable[str]) -> None:
    """Release what the slots of processes reserve. `actors` are the processes' ids.

    Train reserves resources with a placement group. If its controller is killed, the cleanup
    process asks the dashboard, which a local cluster does not have, and may not know a new group
    (ray-project/ray#62753, #65881). A trial would then wait for what an earlier process reserved. A
    group that has lost a node even blocks all other placements.
    """
    import ray
    from ray.util import placement_group_table, remove_placement_group
    from ray.util.placement_group import PlacementGroup

    marks = set(map(reservation_mark, actors))
    for name, group in placement_group_table().items() if marks else ():
        marked = any(bundle.get("memory") in marks for bundle in group["bundles"].values())
        if marked and group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))


def is_dead(actor: str) -> bool:
    """Whether the process with this id has ended. `ray.util.state` would need the dashboard."""
    from ray._private.state import state

    return state.actor_table(actor).get("State") == "DEAD"


def no_own_retries() -> Any:
    """A failure configuration for Train without retries: the trial itself retries.

    By default, Train retries errors of its controller forever (`controller_failure_limit`, a
    hidden option).
    """
    import ray.train

    options: dict[str, Any] = {"max_failures": 0, "controller_failure_limit": 0}
    return ray.train.FailureConfig(**options)


def start_failure(error: Exception) -> str | None:
    """Why Train's worker group did not start: `timeout` or `failure`; None for other errors.

    Train raises internal exceptions, which can only be recognised by name.
    """
    kind = type(error).__name__
    if not kind.startswith("WorkerGroupStartup"):
        return None
    return "timeout" if kind == "WorkerGroupStartupTimeoutError" else "failure"


def cause_of(error: Any) -> Exception:
    """The worker's error that explains a failed Train run.

    If the storage fails for one worker, or a worker is lost, the others raise errors too, because
    they miss it. Train wraps each error in another type.
    """
    import ray.exceptions

    causes = []
    for failure in error.worker_failures.values():
        lost = getattr(failure, "health_check_failure", failure)
        causes.append(getattr(failure, "_base_exc", lost))
    kinds = (OSError, ray.exceptions.RayError, Exception)
    return next(cause for kind in kinds for cause in causes if isinstance(cause, kind))


def import_failure(text: str) -> str | None:
    """What to do if Ray's text of an error says that a worker could not import this program.

    None for other errors. Ray raises RaySystemError or RuntimeError, with a trace in the text.
    """
    lines = [line.strip() for line in text.splitlines()]
    kinds = ("ModuleNotFoundError: ", "ImportError: ")
    line = next((line for line in reversed(lines) if line.startswith(kinds)), None)
    return line and f"a worker cannot import this program ({line}). {IMPORT_REMEDY}"


def configure_tune() -> None:
    """Let Ctrl-C end the sweep, allow trials without a score, and turn off Tune's tracebacks.

    Tune's own SIGINT handler ends the sweep as if it were complete (ray-project/ray#50358). A trial
    that failed has no score, and Tune would refuse that. Tune's loggers would write each trial in
    three forms, and again if it resumes: `orchestrator.tracking` writes it once.
    """
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    for name in ("ray.tune", "ray.train._internal.storage"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class NoProgress(TrialProgressCallback):
    """Prints nothing. It takes the place of the callback that Tune would add.

    Even with `verbose=0`, that callback prints a line on stdout if a trial ends without a report.
    A resumed trial does that if all its epochs were trained before.
    """

    def on_trial_result(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    on_trial_error = on_trial_complete = on_trial_result


class IdleProcesses(_ObjectCache):
    """Keeps every process that waits for a trial, until the search has proposed its last trial.

    Tune keeps one, and ends the others, although the search often waits for a result before it
    proposes the next trials. A new process takes seconds, and a new slot takes longer.
    """

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep a process. Returns True."""
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        """Yield the processes to end: all or none."""
        if force_all:
            yield from super().flush_cached_objects(force_all=True)


def idle_processes_kept() -> AbstractContextManager[None]:
    """Let Tune use `IdleProcesses` in this context."""
    return replaced(tune_controller, "_ObjectCache", IdleProcesses)


class WithoutEnvironment(_ActorClassCache):
    """Lets trials run in the processes that a local Ray has started for the driver.

    Tune gives trials an environment of their own, so Ray prepares it and starts further processes,
    while its first ones stay idle. They have the driver's environment anyway.
    """

    def get(self, trainable_cls: Any) -> Any:
        """The actor class of trials."""
        import ray

        if trainable_cls not in self._cache:
            self._cache[trainable_cls] = ray.remote(trainable_cls)
        return self._cache[trainable_cls]


def first_processes_used() -> AbstractContextManager[None]:
    """Let Tune use `WithoutEnvironment` in this context. Only for a local Ray of this driver."""
    return replaced(tune_controller, "_ActorClassCache", WithoutEnvironment)


def no_trackers_imported() -> AbstractContextManager[None]:
    """Keep Tune from importing the trackers that are installed, in this context.

    Tune counts the callbacks of each kind for Ray's usage statistics. For that it imports MLflow,
    Weights & Biases, Comet and Aim, which takes a second.
    """
    return replaced(usage, "tag_callbacks", lambda callbacks: False)  # it has recorded nothing


def process_of(trial: Any) -> str | None:
    """The id of the actor of a running Tune trial, or None."""
    actor = trial.temporary_state.ray_actor
    return actor and str(actor._actor_id.hex())


def end_process(trial: Any) -> None:
    """Kill the process of a Tune trial. A process that hangs cannot be asked to stop."""
    import ray

    if (actor := trial.temporary_state.ray_actor) is not None:
        ray.kill(actor)


def _newest_error(trial: Any) -> str:
    """The newest error of a Tune trial as text.

    Tune keeps some errors (out of memory) only as text, in a file of the driver that has no copy
    on object stores at that moment.
    """
    file = Path(trial.error_file or "")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    _, _, newest = text.rpartition("Failure # ")
    return newest.partition("\n")[2]


def process_lost(trial: Any) -> bool:
    """Whether a Tune trial ended because its process died, and not because the process raised."""
    text = _newest_error(trial)
    return text.startswith("The actor died unexpectedly") or _memory_line(text) is not None


def _memory_line(text: str) -> str | None:
    """The line that says that Ray's memory monitor killed a process, or None."""
    return next((line for line in text.splitlines() if "running low on memory" in line), None)


def interruption_reason(trial: Any) -> str:
    """Why a Tune trial ended without a record, in one line. The trial's own report is best."""
    if reported := (trial.last_result or {}).get("interrupted"):
        return str(reported)
    newest = _newest_error(trial)
    if remedy := import_failure(newest):
        return remedy
    lines = newest.strip().splitlines() or ["no reason given"]
    # The memory monitor's long report continues with how it chose the process.
    return _memory_line(newest) or lines[-1]


class SearcherWithoutState(Searcher):
    """A searcher that saves nothing: Tune pickles its searcher again and again for a restore.

    The ledger is the state; Tune's own restore loses results (ray-project/ray#30861 is similar).
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Does nothing."""
