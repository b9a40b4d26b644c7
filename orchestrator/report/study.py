"""The page of a study: today its table of scores."""

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.csv as pacsv

from features.storage import Storage
from orchestrator.report.labels import cell
from orchestrator.results.opened import OpenedSweep


def build_study(
    sweeps: Sequence[OpenedSweep],
    target: Storage,
    name: str,
    *,
    seeds: Mapping[str, Sequence[OpenedSweep]] = {},
) -> list[str]:
    """Write `scores.csv` into `target`: one row for each sweep. Returns the names of the files.

    name : of the study
    seeds : sweep -> the runs of its best configuration with other seeds

    Nested UA is the mean over folds, in 0..1, with its t interval. The values are empty if a sweep
    has no nested estimate. The same sweeps give the same bytes.
    """
    nested = [sweep.findings.nested for sweep in sweeps]
    values = [None if estimate is None else estimate.ua for estimate in nested]
    columns = {
        "sweep": [cell(sweep.name) for sweep in sweeps],
        "model": [cell(sweep.record.model) for sweep in sweeps],
        "trials": pa.array([len(sweep.findings.trials) for sweep in sweeps], pa.int64()),
    }
    for column in ("value", "low", "high"):
        numbers = [None if ua is None else getattr(ua, column) for ua in values]
        columns[f"nested_ua_{column}"] = pa.array(numbers, pa.float64(), from_pandas=True)
    sink = io.BytesIO()
    pacsv.write_csv(pa.table(columns), sink)
    target.write("scores.csv", sink.getvalue())
    return ["scores.csv"]
