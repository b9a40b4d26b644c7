"""How many workers a trial has, on which share of a GPU, and how many trials run together."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.config.sections import Configuration
from orchestrator.errors import ConfigError


@dataclass(frozen=True)
class Resources:
    """The resources of a trial: chosen once, from the cluster and the configuration.

    `replicas` workers train one fold together, and `concurrent` trials run at the same time.
    """

    workers: int
    replicas: int
    gpus_per_worker: float
    concurrent: int


def living_nodes() -> dict[str, dict[str, float]]:
    """The resources of each node that is up, by the node's id."""
    import ray

    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def workers_that_fit(nodes: Iterable[Mapping[str, float]], gpus_per_worker: float) -> int:
    """How many workers of one CPU and a share of a GPU fit on the nodes.

    A share is a part of one GPU: two GPUs hold two workers with a share of 0.6, not three.
    """
    total = 0
    for node in nodes:
        fits, gpus = int(node.get("CPU", 0)), node.get("GPU", 0.0)
        if gpus_per_worker >= 1:
            fits = min(fits, int(gpus / gpus_per_worker))
        elif gpus_per_worker > 0:
            fits = min(fits, int(gpus) * int(1 / gpus_per_worker + 1e-9))
        total += fits
    return total


def workers_now(resources: Resources, nodes: Iterable[Mapping[str, float]]) -> int:
    """How many of a trial's workers can run on the nodes; all of them if not a single one fits.

    The number of replicas is part of a trial's result, so such a trial waits for all its workers.
    """
    fits = workers_that_fit(nodes, resources.gpus_per_worker)
    if resources.replicas > 1 or fits < 1:
        return resources.workers
    return min(resources.workers, fits)


def choose_resources(configuration: Configuration, folds: int, started: bool = False) -> Resources:
    """Choose the resources of each trial, on the cluster as it is now or as it can grow.

    With GPUs, a trial uses one GPU, which a worker for each fold shares. Without GPUs, one worker
    trains all folds, and as many trials run as there are CPUs.

    started : the sweep has started before. Then it resumes with fewer workers if all do not fit and
        their number does not change the results

    Raises ConfigError for workers that never fit on the cluster.
    """
    nodes, cluster = list(living_nodes().values()), configuration.cluster
    cpus = max(sum(int(node.get("CPU", 0)) for node in nodes), cluster.cpus or 0)
    gpus = max(sum(node.get("GPU", 0.0) for node in nodes), cluster.gpus or 0.0)
    # So many workers that every GPU has a trial. A hundredth of a GPU is the smallest share.
    shared = min(folds, 100, max(1, int(cpus // gpus))) if gpus else 1
    workers = cluster.workers_per_trial or shared
    share = cluster.gpus_per_worker
    if share is None:
        share = math.floor(100 / workers) / 100 if gpus else 0.0
    fits = workers_that_fit(nodes, share)
    if cluster.can_grow:  # of future nodes, only the totals are known
        fits = max(fits, min(cpus, int(gpus / share + 1e-9) if share else cpus))
    if workers > fits:
        if not (started and workers <= folds and fits):
            raise ConfigError(
                f"cluster: a trial needs {workers} CPUs and {workers * share:g} GPUs, but the "
                f"cluster has {cpus} CPUs and {gpus:g} GPUs, on which {fits} such workers fit. "
                f"Lower cluster.workers_per_trial or cluster.gpus_per_worker, wait until all nodes "
                f"are up, or set cluster.cpus and cluster.gpus if more nodes start on demand"
            )
        workers = fits
    concurrent = min(max(1, fits // workers), cluster.concurrent_trials or fits)
    return Resources(workers, replicas_of(configuration, folds), share, concurrent)


def replicas_of(configuration: Configuration, folds: int) -> int:
    """How many workers train one fold together. By default, a trial has no more than its folds."""
    return max(1, (configuration.cluster.workers_per_trial or 1) // folds)


def check_this_machine(resources: Resources) -> None:
    """Raise ConfigError if a trial waits for nodes, although Ray is a local Ray without others."""
    nodes = list(living_nodes().values())
    if workers_that_fit(nodes, resources.gpus_per_worker) < resources.workers:
        cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
        raise ConfigError(
            f"cluster: a trial needs {resources.workers} CPUs and "
            f"{resources.workers * resources.gpus_per_worker:g} GPUs, but this machine has "
            f"{cpus:g} CPUs and {gpus:g} GPUs. cluster.cpus and cluster.gpus are for a cluster "
            f"that grows: set RAY_ADDRESS to its address, or remove these keys"
        )
