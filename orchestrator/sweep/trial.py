"""A trial on Ray: the Tune trial's own process trains all folds, or the workers of a Train run do.

A single worker needs no Train run: its controller and four helpers would start for each trial, and
then only wait. Several workers form a grid, fold x replica. With W workers and K folds: if W <= K,
worker w trains folds w, w + W, w + 2W and so on. If W = m * K, m workers train each fold, and sum
their gradients over a process group of their own.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
import torch.distributed as dist

from features.storage import Storage
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.errors import ClusterError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.sweep import ray_compat
from orchestrator.sweep.pruning import why_pruned
from orchestrator.sweep.resources import Resources, living_nodes, workers_now
from orchestrator.training.cross_validation import Task, World, cross_validate
from orchestrator.training.fold_run import FoldRun, Replica
from orchestrator.training.runs import fold_run

RESTARTS = 3
"""How often a trial that loses processes on nodes that live restarts from its checkpoint."""
LOST = "lost again and again, as if out of memory"


@dataclass(frozen=True)
class Assignment:
    """One trial as its workers receive it.

    data : a Ray reference to the datasets by value of `features.normalize`, and the folds
    """

    configuration: Configuration
    record: TrialRecord
    cutoffs: dict[int, float]
    storage: Storage
    resources: Resources
    data: list[Any]


def run_trial(assignment: Assignment) -> None:
    """The body of a Tune trial: train its folds, and report each epoch to Tune.

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
            _fit(assignment)
    except ray.train.WorkerGroupError as error:
        cause = ray_compat.cause_of(error)
        if isinstance(cause, OSError):  # our storage has retried, and Train writes by itself
            raise cause from None
        ledger.write_trial(failed(assignment, cause))
    if ledger.trial(assignment.record.id) is None:
        raise RuntimeError(f"trial {assignment.record.id} ended without a complete record")


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
    from ray import tune

    device = torch.device("cuda" if assignment.resources.gpus_per_worker > 0 else "cpu")
    try:
        _train(assignment, device, tune.report, World(), size=1)
    except (OSError, ray.exceptions.RayError):
        raise
    except Exception as error:
        ledger.write_trial(failed(assignment, error))
        os._exit(1)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # trials of other processes may share the GPU


def _fit(assignment: Assignment) -> None:
    """Train the trial to its end, with as many workers as fit on the nodes.

    Raises WorkerGroupError if a worker raised an error, or if workers on living nodes were lost
    more than `RESTARTS` times, ClusterError if a worker cannot import this program, and OSError if
    the storage failed.
    """
    import ray.exceptions
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    resources = assignment.resources
    share = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker > 0 else {}
    mark = ray_compat.reservation_mark(assignment.storage, assignment.record.id)
    scratch = Storage(assignment.storage.filesystem, assignment.storage.path("tune/train"))
    callbacks: list[Any] = [TuneReportCallback()]
    workers, restarts = resources.workers, 0
    if not assignment.configuration.cluster.can_grow:  # no further node will come
        workers = workers_now(resources, living_nodes().values())
    while True:
        nodes = living_nodes().keys()
        ray_compat.release_reservations(assignment.storage, assignment.record.id)
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"assignment": assignment},
            # gloo on GPUs too: folds share a GPU, and NCCL refuses two workers on one GPU.
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
                callbacks=callbacks,
                failure_config=ray_compat.no_own_retries(),
            ),
        )
        try:
            _run(trainer, assignment)
            return
        except ray.train.ControllerError as error:
            cause = error.controller_failure
            if isinstance(cause, OSError):  # Train writes to the storage by itself
                raise cause from None
            start = ray_compat.start_failure(cause)
            if start is None or restarts == RESTARTS:
                raise
            restarts += start != "timeout"  # a timeout only means that there is no room yet
        except ray.train.WorkerGroupError as error:
            cause = ray_compat.cause_of(error)
            # The errors of the other workers sometimes arrive before the loss of the first.
            follows_a_loss = workers > 1 and isinstance(cause, RuntimeError)
            lost = isinstance(cause, ray.exceptions.RayError)
            if restarts == RESTARTS or not (follows_a_loss or lost):
                raise
            restarts += nodes <= living_nodes().keys()
        # Nodes were lost, or are not up yet: use the workers that fit, or wait for a node.
        workers = workers_now(resources, living_nodes().values())


def _run(trainer: Any, assignment: Assignment) -> None:
    """Run Train. A trial whose workers are lost after they wrote its record is finished.

    Raises Train's error, or ClusterError if a worker cannot import this program.
    """
    import ray.train

    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        if Ledger(assignment.storage).trial(assignment.record.id) is not None:
            return
        if remedy := ray_compat.import_failure(str(error)):
            raise ClusterError(remedy) from None
        raise


def _worker(config: dict[str, Any]) -> None:
    """A Train worker: trains its folds of the trial in lockstep with the other workers."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    world = World(context.get_world_rank(), _gather)
    device, size = ray.train.torch.get_device(), context.get_world_size()
    if size == 1:  # of several workers, the nodes that are left hold only one
        world = World()
    _train(config["assignment"], device, ray.train.report, world, size)


def _train(
    assignment: Assignment,
    device: torch.device,
    report: Callable[[dict[str, Any]], None],
    world: World,
    size: int,
) -> None:
    """Train the folds of this process, one of `size`, to the end of the trial."""
    datasets, folds = _data(assignment.data[0])
    dataset = datasets[assignment.configuration.features.normalize]
    if device.type == "cpu":
        # The number of threads changes the order of sums, and so the bits.
        torch.set_num_threads(1)
    runs = assigned_runs(assignment.configuration, dataset, folds, world.rank, size, device)
    cross_validate(
        Task(
            assignment.record,
            [fold.name for fold in folds],
            partial(why_pruned, cutoffs=assignment.cutoffs),
            assignment.configuration.training.checkpoint_every,
        ),
        runs,
        Ledger(assignment.storage),
        report,
        world,
    )


@lru_cache(maxsize=1)
def _data(reference: Any) -> Any:
    """The datasets by value of `features.normalize`, and the folds. Read once a process."""
    import ray

    return ray.get(reference)


def assigned_runs(
    configuration: Configuration,
    dataset: Dataset,
    folds: list[Fold],
    rank: int,
    size: int,
    device: torch.device,
) -> list[FoldRun]:
    """The folds that worker `rank` of `size` trains. Replicas need a process group."""
    count = len(folds)
    if size <= count:
        return [fold_run(fold, dataset, configuration, device) for fold in folds[rank::size]]
    replicas = size // count
    # Every process takes part in making every group, in the same order.
    groups = [dist.new_group(list(range(fold, size, count))) for fold in range(count)]
    replica = Replica(rank // count, replicas, groups[rank % count])
    return [fold_run(folds[rank % count], dataset, configuration, device, replica)]


def _gather(payload: Any) -> list[Any]:
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, payload)
    return parts
