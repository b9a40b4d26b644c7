"""Who computes features. Imports Ray, which takes a second, only if there is a cluster."""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
    """Choose as `extraction` does. Processes of this machine start at once.

    They import their libraries while this process imports its own and reads the corpus. They end
    with this context.
    """
    compute = extraction()
    with ExitStack() as stack:
        if compute is pool.compute:
            with suppress(OSError):  # no room for processes, but perhaps no work either
                early = stack.enter_context(pool.Pool(pool.cpus()))
                early.start()
                compute = functools.partial(pool.compute, early=early)
        yield compute


def _compute_on_cluster(
    extractor: "Extractor", batches: "list[list[Row]]", workers: int | None
) -> "Iterator[Status]":
    from features import ray_data
    from orchestrator.sweep.connection import check_own_code, cluster

    with cluster():
        check_own_code([("features", extractor.config.name)])
        yield from ray_data.compute(extractor, batches, workers)
