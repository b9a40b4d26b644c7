"""The extraction on a cluster: an actor pool of Ray Data."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from features.errors import FeatureError, StorageError
from features.extractor import Extractor, Status
from features.shards import SHARD_SCHEMA, TASK_SCHEMA, Entry, Row


def compute(
    extractor: Extractor, batches: list[list[Row]], workers: int | None
) -> Iterator[Status]:
    """Extract the batches on Ray; yield the status of each utterance.

    workers : actors of one CPU, or of the share of a GPU that the feature set asks for; by default
        as many as the cluster has room for

    Raises FeatureError if Ray is not initialised, if the cluster has no GPU for a set that needs
    one, if a worker cannot load the set, or if the workers keep crashing or cannot import this
    program.
    """
    import ray
    import ray.data

    if not ray.is_initialized():
        raise FeatureError("features are missing and Ray is not running: call ray.init() first")
    share = extractor.config.load().gpu
    size = max(1, min(workers or room(ray.cluster_resources(), share), len(batches)))
    tables = [pa.Table.from_pylist(batch, schema=TASK_SCHEMA) for batch in batches]
    with quiet_ray_data():
        with warnings.catch_warnings():
            # Ray 2.60 deprecates max_task_retries without a replacement.
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = ray.data.from_arrow(tables).map_batches(
                _Actor,
                fn_constructor_args=(extractor,),
                batch_size=None,  # one block is one batch is one shard
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=size),
                num_cpus=1,
                num_gpus=share,
                # Without a limit, a batch that always crashes its worker is retried forever.
                max_task_retries=3,
            )
        try:
            for row in dataset.iter_rows():
                if row["failure"]:
                    raise (FeatureError if row["unready"] else StorageError)(row["failure"])
                yield Status(row["id"], row["error"], _entry(row["entry"]))
        except ray.exceptions.RayTaskError:
            raise  # an error in our code
        except ray.exceptions.RayError as error:
            if cause := re.search(r"^\s*(ModuleNotFoundError|ImportError): (.+)", str(error), re.M):
                raise FeatureError(
                    f"a worker of the extraction cannot import this program ({cause[2]}). Install "
                    f"the same version of it on every node, then run the same command"
                ) from error
            raise FeatureError(
                f"a worker of the extraction crashed: {str(error).strip().splitlines()[0]} "
                "Finished utterances are kept: give each worker more memory, or start Ray with "
                "fewer CPUs, then run the same command"
            ) from error


def room(resources: dict[str, float], share: float) -> int:
    """Actors that fit into a cluster. Each takes a CPU, and `share` of a GPU if that is not 0.

    Ray never divides an actor among GPUs, so each GPU has room for a whole number of actors.
    Raises FeatureError if actors need a GPU and the cluster has none.
    """
    cpus = int(resources.get("CPU", 1))
    if not share:
        return cpus
    if not (gpus := int(resources.get("GPU", 0))):
        raise FeatureError(
            "features.device is cuda, but the cluster has no GPU. Set features.device to cpu"
        )
    return min(cpus, gpus * int(1 / share))


_ENTRY = [
    ("shard", pa.string()),
    ("row", pa.int64()),
    *((name, SHARD_SCHEMA.field(name).type) for name in Entry._fields[2:]),
]
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("error", pa.string()),
        ("entry", pa.struct(_ENTRY)),
        ("failure", pa.string()),
        ("unready", pa.bool_()),  # whether the failure is that of the feature set
    ]
)


class _Actor:
    """Runs an `Extractor` on the blocks of Ray Data."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.to_pylist()
        try:
            status = [
                {**row._asdict(), "entry": row.entry and row.entry._asdict(), "failure": None}
                for row in self.extractor(rows)
            ]
        except (StorageError, FeatureError) as error:  # Ray Data drops the cause of an exception
            unready = isinstance(error, FeatureError)
            failed = {"id": rows[0]["id"], "entry": None, "failure": str(error)}
            status = [failed | {"unready": unready}]
        return pa.Table.from_pylist(status, schema=_SCHEMA)


def _entry(cells: dict[str, Any] | None) -> Entry | None:
    """The entry of a row of `_SCHEMA`."""
    if cells is None:
        return None
    sums = {key: np.asarray(cells[key]) for key in ("mean", "squares") if cells[key] is not None}
    return Entry(**{**cells, **sums})


@contextmanager
def quiet_ray_data() -> Iterator[None]:
    """Hide Ray Data's progress bars and its log on the console: `progress` replaces them."""
    import ray.data

    context = ray.data.DataContext.get_current()
    # Ray Data 2.60 warns in the second logger that its progress bars are off. In the third, it
    # prints the trace of every error that it raises.
    levels = {
        "ray.data": logging.WARNING,
        "ray.data._internal.progress": logging.ERROR,
        "ray.data.exceptions": logging.CRITICAL,
    }
    bars, before = context.enable_progress_bars, {n: logging.getLogger(n).level for n in levels}
    context.enable_progress_bars = False
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
