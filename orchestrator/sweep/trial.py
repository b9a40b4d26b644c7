"""A trial on Ray: one Tune trial is one Ray Train run, whose workers train all folds.

Workers form a grid, fold x replica. With W workers and K folds: W <= K, worker w trains folds w,
w + W, w + 2W and so on; W = m * K, each fold is trained by m workers, which sum their gradients
over a process group of their own.
"""

import hashlib
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from features.storage import Storage
from orchestrator.training.batches import Dataset
from orchestrator.config.sections import Configuration
from orchestrator.training.cross_validation import Task, World, cross_validate
from orchestrator.training.fold_run import FoldRun, Replica
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import Ledger, TrialRecord, canonical_json
from orchestrator.training.gradient import fold_run

# An empty Train run takes 13 to 17 s with Ray's defaults and 5 to 10 s with these: it is polled
# more often, and what watches for announced preemptions and exports metrics is off.
TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


@dataclass(frozen=True)
class Resources:
    """What the trials of a sweep take: chosen once, from the cluster and the configuration."""

    workers: int
    replicas: int
    gpus_per_worker: float
    concurrent: int


@dataclass(frozen=True)
class Assignment:
    """One trial as its workers receive it. `data` is a Ray reference to (Dataset, folds)."""

    configuration: Configuration
    record: TrialRecord
    cutoffs: dict[int, float]
    storage: Storage
    resources: Resources
    data: list[Any]


def trial_id(
    configuration: Configuration,
    folds: list[Fold],
    ids: list[str],
    fingerprint: str,
    replicas: int = 1,
) -> str:
    """First 10 hex digits of the SHA-1 of all that decides a trial's results, the seed included.

    Where files lie, what searches and what the cluster has decide nothing, and are left out.
    """
    resolved = configuration.resolved()
    content = {
        "corpus": {key: resolved["corpus"][key] for key in ("merge", "classes")},
        "features": {k: v for k, v in resolved["features"].items() if k != "max_errors"},
        "model": resolved["model"],
        "folds": resolved["folds"],
        "training": {k: v for k, v in resolved["training"].items() if k != "checkpoint_every"},
        "parts": [
            [fold.name, *([ids[row] for row in part] for part in _parts(fold))] for fold in folds
        ],
        "data": fingerprint,
        "replicas": replicas,
    }
    return hashlib.sha1(canonical_json(content)).hexdigest()[:10]


def _parts(fold: Fold) -> tuple[Any, Any, Any]:
    return fold.train, fold.validation, fold.test


RESTARTS = 3
"""How often a trial that loses workers, of nodes that stay, goes on from its newest checkpoint."""


def run_trial(assignment: Assignment) -> None:
    """The body of a Tune trial: run its folds under Ray Train, which reports to Tune.

    A trial that ends has a record: one that fails too, which says why. Raises OSError where storage
    failed, and what Ray raises where this process's part of it did: it may be tried again.
    """
    import ray.exceptions
    import ray.train

    ledger = Ledger(assignment.storage)
    if ledger.trial(assignment.record.id) is not None:
        return  # Tune starts a trial again whose process was lost: it had ended before
    limit = _time_limit(assignment, ledger)
    try:
        _fit(assignment)
    except ray.train.WorkerGroupError as error:
        cause = _cause(error)
        if isinstance(cause, OSError):  # of storage that was asked for half a minute
            raise cause from None
        line = (str(cause).splitlines() or [""])[0]
        memory = isinstance(cause, torch.OutOfMemoryError | ray.exceptions.OutOfMemoryError)
        reason = f"{type(cause).__name__}: {cause}"
        if memory or isinstance(cause, ray.exceptions.RayError):
            what = "too little memory" if memory else "lost again and again, as for want of memory,"
            # Fewer workers at a time change no result: the same trial may yet be done.
            reason = (
                f"{what} for {assignment.resources.workers} workers: {line}. "
                f"Lower cluster.workers_per_trial, remove the trial's trial.json, run again"
            )
        failed = assignment.record.model_copy(update={"status": "failed", "reason": reason})
        ledger.write_trial(failed)
    finally:
        limit.cancel()
    if ledger.trial(assignment.record.id) is None:
        raise RuntimeError(f"trial {assignment.record.id} ended and left no whole record")


def _cause(error: Any) -> Exception:
    """Of what the workers raised, that which says why.

    Where storage fails one, or one is lost, the others raise too: they miss it.
    """
    import ray.exceptions

    found = []
    for failure in error.worker_failures.values():
        lost = getattr(failure, "health_check_failure", failure)
        found.append(getattr(failure, "_base_exc", lost))
    kinds = (OSError, ray.exceptions.RayError, Exception)
    return next(cause for kind in kinds for cause in found if isinstance(cause, kind))


def _fit(assignment: Assignment) -> None:
    """Train the trial to its end, with as many workers as there are nodes for.

    Raises WorkerGroupError where a worker raised, or workers of nodes that live were lost more than
    `RESTARTS` times, and OSError where storage failed.
    """
    import ray.exceptions
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    resources = assignment.resources
    share = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker > 0 else {}
    mark = _mark(assignment.storage, assignment.record.id)
    scratch = Storage(assignment.storage.filesystem, assignment.storage.path("tune/train"))
    workers, restarts = resources.workers, 0
    if not assignment.configuration.cluster.grows:  # there are no nodes to wait for
        workers = workers_now(resources, living_nodes().values())
    while True:
        nodes = living_nodes().keys()
        release(assignment.storage, assignment.record.id)
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"assignment": assignment},
            # gloo also on GPUs: NCCL refuses two workers on one GPU, which is how folds share it.
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=workers,
                use_gpu=bool(share),
                resources_per_worker={"CPU": 1, "memory": mark, **share},
            ),
            run_config=ray.train.RunConfig(
                name=f"{assignment.record.id}-{os.urandom(4).hex()}",
                storage_path=scratch.root,
                storage_filesystem=scratch.filesystem,
                callbacks=[TuneReportCallback()],  # type: ignore[list-item]
                # Train would begin again whatever was raised, with the workers there were.
                failure_config=ray.train.FailureConfig(
                    max_failures=0,
                    controller_failure_limit=0,  # type: ignore[call-arg]
                ),
            ),
        )
        try:
            trainer.fit()
            return
        except ray.train.ControllerError as error:
            cause = error.controller_failure
            if isinstance(cause, OSError):
                raise cause from None
            kind = type(cause).__name__
            if not kind.startswith("WorkerGroupStartup") or restarts == RESTARTS:
                raise
            restarts += kind != "WorkerGroupStartupTimeoutError"  # which is: no room as yet
        except ray.train.WorkerGroupError as error:
            cause = _cause(error)
            # What the others raise is seen before the loss itself, at times.
            missed = workers > 1 and isinstance(cause, RuntimeError)
            if restarts == RESTARTS or not (missed or isinstance(cause, ray.exceptions.RayError)):
                raise
            restarts += nodes <= living_nodes().keys()
        # Nodes have gone, or are yet to come: on with those that there are, or wait for one.
        workers = workers_now(resources, living_nodes().values())


def _mark(storage: Storage, trial: str) -> int:
    """Bytes of memory that each worker of a trial asks for: a megabyte or two, and its sign."""
    return 10**6 + int(hashlib.sha1(f"{storage.root}/{trial}".encode()).hexdigest()[:5], 16)


def release(storage: Storage, trial: str) -> None:
    """Free what earlier runs of a trial of the sweep at `storage` still hold of the cluster.

    Train reserves nodes by a placement group. Where its controller is killed, what should remove
    the group asks the dashboard, which a local cluster does not have, and does not know of a group
    whose workers were not up yet: the trial would wait for itself. A group that has lost a node
    even keeps all others from being placed. The groups bear no name, so they are told by the odd
    sum of memory that they ask for.
    """
    import ray
    from ray.util.placement_group import (
        PlacementGroup,
        placement_group_table,
        remove_placement_group,
    )

    mark = _mark(storage, trial)
    for name, group in placement_group_table().items():
        marked = any(bundle.get("memory") == mark for bundle in group["bundles"].values())
        if marked and group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))


def living_nodes() -> dict[str, dict[str, float]]:
    """What each node that is up has, by the node's id."""
    import ray

    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def room(nodes: Iterable[Mapping[str, float]], gpus_per_worker: float) -> int:
    """How many workers of one CPU and a share of a GPU nodes have room for.

    A share is of one GPU: two GPUs hold two workers of 0.6, and not three.
    """
    found = 0
    for node in nodes:
        fits, gpus = int(node.get("CPU", 0)), node.get("GPU", 0.0)
        if gpus_per_worker >= 1:
            fits = min(fits, int(gpus / gpus_per_worker))
        elif gpus_per_worker > 0:
            fits = min(fits, int(gpus) * int(1 / gpus_per_worker + 1e-9))
        found += fits
    return found


def workers_now(resources: Resources, nodes: Iterable[Mapping[str, float]]) -> int:
    """How many of a trial's workers `nodes` could hold; all, where it is none.

    Replicas of a fold are part of a trial's result: their number stays, and they wait.
    """
    fits = room(nodes, resources.gpus_per_worker)
    if resources.replicas > 1 or fits < 1:
        return resources.workers
    return min(resources.workers, fits)


def _time_limit(assignment: Assignment, ledger: Ledger) -> threading.Timer:
    """A clock that ends this process, and with it the trial, after `cluster.trial_minutes`.

    What hangs cannot be asked to stop. Ray ends the workers of a process that is gone.
    """
    minutes = assignment.configuration.cluster.trial_minutes

    def end() -> None:
        record = assignment.record
        if ledger.trial(record.id) is None:
            reason = f"not done after {minutes:g} minutes (cluster.trial_minutes)"
            failed = {"status": "failed", "reason": reason, "seconds": 60 * (minutes or 0)}
            ledger.write_trial(record.model_copy(update=failed))
        os._exit(1)

    clock = threading.Timer(60 * (minutes or 0), end)
    clock.daemon = True
    if minutes is not None:
        clock.start()
    return clock


def _worker(config: dict[str, Any]) -> None:
    """A Train worker: its folds of the trial, in step with the other workers'."""
    import ray
    import ray.train
    import ray.train.torch

    assignment: Assignment = config["assignment"]
    dataset, folds = ray.get(assignment.data[0])
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        # The number of threads changes the order of sums, and so the bits.
        torch.set_num_threads(1)
    runs = assigned_runs(assignment.configuration, dataset, folds, rank, size, device)
    cross_validate(
        Task(
            assignment.record,
            [fold.name for fold in folds],
            assignment.cutoffs,
            assignment.configuration.training.checkpoint_every,
        ),
        runs,
        Ledger(assignment.storage),
        ray.train.report,
        World(rank, _gather if size > 1 else lambda payload: [payload]),
    )


def assigned_runs(
    configuration: Configuration,
    dataset: Dataset,
    folds: list[Fold],
    rank: int,
    size: int,
    device: torch.device,
) -> list[FoldRun]:
    """The folds that the worker `rank` of `size` trains. With replicas, needs a process group."""
    count = len(folds)
    if size <= count:
        mine = folds[rank::size]
        return [fold_run(fold, dataset, configuration, device) for fold in mine]
    replicas = size // count
    # Every process takes part in making every group, in the same order.
    groups = [dist.new_group(list(range(fold, size, count))) for fold in range(count)]
    replica = Replica(rank // count, replicas, groups[rank % count])
    return [fold_run(folds[rank % count], dataset, configuration, device, replica)]


def _gather(payload: Any) -> list[Any]:
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, payload)
    return parts
