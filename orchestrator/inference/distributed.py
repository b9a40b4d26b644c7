"""The features of requests over Ray Data. This module imports Ray only if it is used."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from features.sets import FeatureConfig
from orchestrator.inference.inputs import Request
from orchestrator.inference.reading import Progress, Read, Reader, Segment

_BLOCK = 16
"""Requests in a block of Ray Data."""
_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("id", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("piece", pa.bool_()),
        ("values", pa.list_(pa.float32())),
        ("seconds", pa.float64()),
        ("error", pa.string()),
    ]
)


def read(
    requests: Sequence[Request], features: FeatureConfig, segment: Segment, progress: Progress
) -> Iterator[Read]:
    """Read all requests by Ray's workers; yield them in their order, with the same values.

    Ray must be initialised. The workers must see the files under the same names.
    """
    import ray
    import ray.data

    from features.ray_data import quiet_ray_data

    cpus = int(ray.cluster_resources().get("CPU", 1))
    blocks = [
        pa.table({"number": range(start, min(start + _BLOCK, len(requests)))})
        for start in range(0, len(requests), _BLOCK)
    ]
    found: dict[int, list[Read]] = {}
    dims = features.load().dims
    with quiet_ray_data():
        dataset = ray.data.from_arrow(blocks).map_batches(
            _Actor,
            fn_constructor_args=(list(requests), features, segment),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=max(1, min(cpus, len(blocks)))),
            num_cpus=1,
        )
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            assert isinstance(batch, pa.Table)
            for row, values in zip(
                batch.drop_columns(["values"]).to_pylist(), batch["values"], strict=True
            ):
                number = row["number"]
                found.setdefault(number, []).append(_read_of(requests[number], row, values, dims))
            progress(len(found), len(requests))
    for number in range(len(requests)):
        yield from found[number]


def _read_of(request: Request, row: dict[str, Any], values: pa.ListScalar, dims: int) -> Read:
    if row["piece"]:
        ends = {"start": row["start"], "end": row["end"], "id": row["id"]}
        request = replace(request, **ends, dialogue=None, turn=None)
    array = None
    if values.values is not None:
        array = values.values.to_numpy().astype(np.float32).reshape(-1, dims)
    return Read(request, array, row["seconds"], row["error"])


class _Actor:
    """Runs a `Reader` on the blocks of Ray Data."""

    def __init__(self, requests: list[Request], features: FeatureConfig, segment: Segment) -> None:
        self.requests = requests
        self.reader = Reader(features, segment)  # in the worker, which loads the feature set

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [
            {
                "number": number,
                "id": part.request.id,
                "start": part.request.start,
                "end": part.request.end,
                "piece": self.reader.segment is not None,
                "values": None if part.values is None else part.values.ravel(),
                "seconds": part.seconds,
                "error": part.error,
            }
            for number in batch["number"].to_pylist()
            for part in self.reader(self.requests[number])
        ]
        return pa.Table.from_pylist(rows, schema=_SCHEMA)
