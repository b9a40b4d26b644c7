"""A trial on Ray: the Tune trial's own process trains all folds, or the workers of a slot do.

A single worker needs no Train run, whose controller and helpers would only wait. Several workers
form a slot, which stays for the next trial of the process (`orchestrator.sweep.slot`).
"""

import os
import time
from collections.abc import Callable
from typing import Any

import torch

from orchestrator.errors import ClusterError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.sweep import tune_compat
from orchestrator.sweep.assignment import Assignment, train
from orchestrator.sweep.resources import living_nodes, workers_now
from orchestrator.sweep.slot import Slot
from orchestrator.training.cross_validation import World

RESTARTS = 3
"""How often a trial that loses processes on nodes that live restarts from its checkpoint."""
REPORTS = 50
"""Reports a second from all trials together, at most. A report takes some milliseconds of the
driver (benchmarks/search_ray.py), and its trial waits until the driver has read it."""
LOST = "lost again and again, as if out of memory"

_slot: Slot | None = None
"""The slot of this process, from its latest trial with several workers."""


def run_trial(assignment: Assignment) -> None:
    """The body of a Tune trial: train its folds, and report epochs to Tune.

    A finished trial has a record. A failed trial has one too, with the reason. Raises OSError if
    the storage fails, ClusterError if a worker cannot import this program, and Ray's error if this
    process's part fails: Tune may then retry.
    """
    import ray.train

    ledger = Ledger(assignment.storage)
    if ledger.trial(assignment.record.id) is not None:
        return  # Tune restarts a trial whose process was lost, and this trial was finished
    try:
        if assignment.resources.workers == 1:
            _train_here(assignment, ledger)
        else:
            _train_in_slot(assignment)
    except ray.train.WorkerGroupError as error:
        cause = tune_compat.cause_of(error)
        if isinstance(cause, OSError):  # our storage has retried, and Train writes by itself
            raise cause from None
        ledger.write_trial(failed(assignment, cause))
    if ledger.trial(assignment.record.id) is None:
        raise RuntimeError(f"trial {assignment.record.id} ended without a complete record")


def spaced(report: Callable[[Any], None], seconds: float) -> Callable[[Any], None]:
    """`report`, which then ignores calls for so many seconds.

    Reports only show the progress of a trial: its record has every epoch.
    """
    due = time.monotonic()

    def spaced_report(values: Any) -> None:
        nonlocal due
        if time.monotonic() >= due:
            report(values)
            due = time.monotonic() + seconds

    return spaced_report


def _report_of(assignment: Assignment) -> Callable[[Any], None]:
    """Tune's `report`, as often as the driver of so many trials bears."""
    from ray import tune

    return spaced(tune.report, assignment.resources.concurrent / REPORTS)


def failed(assignment: Assignment, cause: Exception) -> TrialRecord:
    """The record of a trial that failed because a worker raised `cause` or was lost."""
    import ray.exceptions

    reason = f"{type(cause).__name__}: {cause}"
    memory = isinstance(cause, torch.OutOfMemoryError | ray.exceptions.OutOfMemoryError)
    if memory or isinstance(cause, ray.exceptions.RayError):
        event = "too little memory" if memory else LOST
        reason = with_remedy(event, str(cause), assignment.resources.workers)
    return assignment.record.model_copy(update={"status": "failed", "reason": reason})


def with_remedy(event: str, cause: str, workers: int) -> str:
    """The reason of a trial that failed most likely because memory is too small."""
    remedy = "Use nodes with more memory"
    if workers > 1:  # fewer workers at a time do not change the result
        event, remedy = f"{event} with {workers} workers", "Lower cluster.workers_per_trial"
    line = (cause.splitlines() or [""])[0]
    return f"{event}: {line}. {remedy}, remove the trial's trial.json, and run again"


def _train_here(assignment: Assignment, ledger: Ledger) -> None:
    """Train all folds in this process.

    An error ends the process after the record is written: what it leaves behind, such as a broken
    GPU context, cannot reach the next trial.
    """
    import ray.exceptions

    device = torch.device("cuda" if assignment.resources.gpus_per_worker > 0 else "cpu")
    try:
        train(assignment, device, _report_of(assignment), World(), size=1)
    except (OSError, ray.exceptions.RayError):
        raise
    except Exception as error:
        ledger.write_trial(failed(assignment, error))
        os._exit(1)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # trials of other processes may share the GPU


def _train_in_slot(assignment: Assignment) -> None:
    """Train the trial to its end, with as many workers as fit on the nodes.

    Raises WorkerGroupError if a worker raised an error, or if workers on living nodes were lost
    more than `RESTARTS` times, ClusterError if a worker cannot import this program, and OSError if
    the storage failed.
    """
    import ray.exceptions
    import ray.train

    resources = assignment.resources
    workers, restarts = resources.workers, 0
    if _slot is not None or not assignment.configuration.cluster.can_grow:
        # No further node will come, or further nodes did not come before.
        workers = workers_now(resources, living_nodes().values())
    while True:
        nodes = living_nodes().keys()
        try:
            _run(slot_of(workers, assignment), assignment)
            return
        except ray.train.ControllerError as error:
            cause = error.controller_failure
            if isinstance(cause, OSError):  # Train writes to the storage by itself
                raise cause from None
            start = tune_compat.start_failure(cause)
            if start is None or restarts == RESTARTS:
                raise
            restarts += start != "timeout"  # a timeout only means that there is no room yet
        except ray.train.WorkerGroupError as error:
            cause = tune_compat.cause_of(error)
            # The errors of the other workers sometimes arrive before the loss of the first.
            follows_a_loss = workers > 1 and isinstance(cause, RuntimeError)
            lost = isinstance(cause, ray.exceptions.RayError)
            if restarts == RESTARTS or not (follows_a_loss or lost):
                raise
            restarts += nodes <= living_nodes().keys()
        # Nodes were lost, or are not up yet: use the workers that fit, or wait for a node.
        workers = workers_now(resources, living_nodes().values())


def slot_of(workers: int, assignment: Assignment) -> Slot:
    """The slot of this process if it has `workers` living workers, or else a new slot."""
    global _slot
    if _slot is not None and not _slot.ended and _slot.workers != workers:
        _slot.close()
    if _slot is None or _slot.ended:
        _slot = Slot(workers, assignment.resources, assignment.storage)
    return _slot


def _run(slot: Any, assignment: Assignment) -> None:
    """Train in a slot. A trial whose workers are lost after they wrote its record is finished.

    Raises Train's error, or ClusterError if a worker cannot import this program.
    """
    import ray.train

    try:
        slot.train(assignment, _report_of(assignment))
    except ray.train.TrainingFailedError as error:
        if Ledger(assignment.storage).trial(assignment.record.id) is not None:
            return
        if remedy := tune_compat.import_failure(str(error)):
            raise ClusterError(remedy) from None
        raise
