"""Who computes features. Imports Ray, which takes a second, only if there is a cluster."""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from features import pool

if TYPE_CHECKING:
    from features.extract import Compute
    from features.extractor import Extractor, Status
    from features.shards import Row


def extraction() -> "Compute":
    """Who computes features: the cluster's workers if there is a cluster, else this machine.

    There is one if Ray is initialised already, or if RAY_ADDRESS is set. Call this function before
    `orchestrator.sweep.connection.cluster`, which initialises Ray.
    """
    ray = sys.modules.get("ray")
    given = os.environ.get("RAY_ADDRESS") or (ray is not None and ray.is_initialized())
    return _compute_on_cluster if given else pool.compute


@contextmanager
def early_extraction() -> "Iterator[Compute]":
    """As `extraction`. Processes of this machine start at once, and end with this context.

    They import their libraries while this process imports its own and reads the corpus.
    """
    compute = extraction()
    if compute is not pool.compute:
        yield compute
        return
    with pool.Pool(pool.cpus()) as early:
        early.start()
        yield functools.partial(pool.compute, early=early)


def _compute_on_cluster(
    extractor: "Extractor", batches: "list[list[Row]]", workers: int | None
) -> "Iterator[Status]":
    from features import ray_data
    from orchestrator.sweep.connection import check_own_code, cluster

    with cluster():
        check_own_code([("features", extractor.config.name)])
        yield from ray_data.compute(extractor, batches, workers)
