"""A trial as the processes that train it receive it, and what each of them does with it.

Several workers form a grid, fold x replica. With W workers and K folds: if W <= K, worker w trains
folds w, w + W, w + 2W and so on. If W = m * K, m workers train each fold, and sum their gradients
over a process group of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
import torch.distributed as dist

from features.cache import CachedFrames
from features.errors import CacheError, FeatureError
from features.storage import Storage
from orchestrator.config.searched import features_key
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.sweep.pruning import why_pruned
from orchestrator.sweep.resources import Resources
from orchestrator.training.cross_validation import Task, World, cross_validate
from orchestrator.training.fold_run import FoldRun, Replica
from orchestrator.training.runs import fold_run


@dataclass(frozen=True)
class Assignment:
    """One trial as its processes receive it.

    data : a Ray reference to the datasets by `features_key`, and the folds
    """

    configuration: Configuration
    record: TrialRecord
    cutoffs: dict[int, float]
    storage: Storage
    resources: Resources
    data: list[Any]


def train(
    assignment: Assignment,
    device: torch.device,
    report: Callable[[dict[str, Any]], None],
    world: World,
    size: int,
) -> None:
    """Train the folds of this process, one of `size`, to the end of the trial.

    Several processes need a `torch.distributed` process group. Raises OSError if this node cannot
    hold the frames, or cannot read them from the storage.
    """
    datasets, folds = _data(assignment.data[0])
    dataset = datasets[features_key(assignment.configuration.features)]
    open_frames(dataset)
    if device.type == "cpu":
        # The number of threads changes the order of sums, and so the bits.
        torch.set_num_threads(1)
    dataset = dataset.on(device)
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


def open_frames(dataset: Dataset) -> None:
    """Open the file of this node with the frames, and build it if it is missing.

    Raises OSError, so that the trial counts as interrupted: its configuration is not at fault.
    """
    if isinstance(dataset.frames, CachedFrames):
        try:
            dataset.frames.array()
        except FeatureError as error:  # a damaged shard is no failure of the trial
            raise CacheError(str(error)) from error


@lru_cache(maxsize=1)
def _data(reference: Any) -> Any:
    """The datasets by `features_key`, and the folds. Read once a process."""
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
    replica = Replica(rank // count, size // count, _groups(size, count)[rank % count])
    return [fold_run(folds[rank % count], dataset, configuration, device, replica)]


@lru_cache(maxsize=1)
def _groups(size: int, count: int) -> list[Any]:
    """The process group of each fold's replicas. Made once for all trials of a process."""
    # Every process takes part in making every group, in the same order.
    return [dist.new_group(list(range(fold, size, count))) for fold in range(count)]
