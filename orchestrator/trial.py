"""A trial on Ray: one Tune trial is one Ray Train run, whose workers train all folds.

Workers form a grid, fold x replica. With W workers and K folds: W <= K, worker w trains folds w,
w + W, w + 2W and so on; W = m * K, each fold is trained by m workers, which sum their gradients
over a process group of their own.
"""

import hashlib
import os
import threading
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from features.storage import Storage
from orchestrator.batches import Dataset
from orchestrator.config import Configuration
from orchestrator.cross_validation import Task, World, cross_validate
from orchestrator.fold_run import FoldRun, Replica
from orchestrator.folds import Fold
from orchestrator.ledger import Ledger, TrialRecord, canonical_json
from orchestrator.training import fold_run

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


def run_trial(assignment: Assignment) -> None:
    """The body of a Tune trial: run its folds under Ray Train, which reports to Tune.

    Raises RuntimeError where the trial fails, with the reason that its record holds.
    """
    import ray.exceptions
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    resources = assignment.resources
    scratch = Storage(assignment.storage.filesystem, assignment.storage.path("tune/train"))
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"assignment": assignment},
        # gloo also on GPUs: NCCL refuses two workers on one GPU, which is how folds share it.
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": 1, "GPU": resources.gpus_per_worker}
            if resources.gpus_per_worker > 0
            else {"CPU": 1},
        ),
        run_config=ray.train.RunConfig(
            name=f"{assignment.record.id}-{os.urandom(4).hex()}",
            storage_path=scratch.root,
            storage_filesystem=scratch.filesystem,
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]
            # A worker that is lost starts again from the trial's newest checkpoint.
            failure_config=ray.train.FailureConfig(max_failures=3),
        ),
    )
    ledger = Ledger(assignment.storage)
    limit = _time_limit(assignment, ledger)
    try:
        trainer.fit()
    except ray.train.WorkerGroupError as error:
        cause = next(iter(error.worker_failures.values()))
        cause = getattr(cause, "_base_exc", cause)
        memory = isinstance(cause, torch.OutOfMemoryError | ray.exceptions.OutOfMemoryError)
        if isinstance(cause, OSError | ray.exceptions.RayError) and not memory:
            raise  # the machine's or the storage's fault: another run may have it
        reason = f"{type(cause).__name__}: {cause}"
        if memory:  # fewer workers at a time change no result: the same trial may yet be done
            reason = (
                f"too little memory for {resources.workers} workers: {str(cause).splitlines()[0]}. "
                f"Lower cluster.workers_per_trial, remove the trial's trial.json, run again"
            )
        failed = assignment.record.model_copy(update={"status": "failed", "reason": reason})
        ledger.write_trial(failed)
    finally:
        limit.cancel()
    record = ledger.trial(assignment.record.id)
    if record is None:
        raise RuntimeError(f"trial {assignment.record.id} ended and left no whole record")
    if record.status == "failed":
        raise RuntimeError(record.reason)


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
