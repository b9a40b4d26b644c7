"""Rows of the page's tables, and the CSV files beside the page."""

import io
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from features.errors import shorten
from orchestrator.data.audit import SHOWN
from orchestrator.ledger.records import FOLDS, PartCounts
from orchestrator.report.labels import cell
from orchestrator.results.findings import Findings


def shown(value: Any) -> str:
    """The value of a hyperparameter as a person would write it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def searched(findings: Findings) -> list[dict[str, Any]]:
    """A row for each hyperparameter.

    Keys: `key`, `best` (the value in the best trial), `tried` (the values that the search tried,
    in words) and `distinct` (their number).
    """
    best = findings.best.trial.record.hyperparameters if findings.best else {}
    points = [trial.record.hyperparameters for trial in findings.trials]
    rows = []
    for key in findings.searched:
        values = [point[key] for point in points if key in point]
        hashable = not any(isinstance(value, list | dict) for value in values)
        distinct = list(dict.fromkeys(values)) if hashable else values
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if numeric and len(distinct) > 4:
            tried = f"{shown(min(values))} to {shown(max(values))}"
        else:
            tried = ", ".join(map(shown, sorted(distinct) if numeric else distinct))
        rows.append({"key": key, "best": best.get(key), "tried": tried, "distinct": len(distinct)})
    return rows


def lacking(part: PartCounts) -> str:
    """The speakers who lack a class in a part of a fold, in words."""
    names = [f"{who}: no {', '.join(classes)}" for who, classes in part.lacking.items()]
    return shorten(names, SHOWN)


def failures(findings: Findings) -> dict[str, list[int]]:
    """The numbers of the failed trials, by reason."""
    numbers = defaultdict(list)
    for record in (trial.record for trial in findings.trials):
        if record.status == "failed":
            numbers[record.reason or "no reason recorded"].append(record.number)
    return dict(numbers)


def trials_csv(findings: Findings) -> bytes:
    """One row for each finished trial. Scores are in 0..1, and empty if a trial has none."""
    trials, records = findings.trials, [trial.record for trial in findings.trials]
    columns = {
        "number": [record.number for record in records],
        "trial": [record.id for record in records],
        "model": [record.model for record in records],
        "status": [record.status for record in records],
        "score": [record.score for record in records],
        "test_ua_mean": _defined(trial.ua.value for trial in trials),
        "test_ua_low": _defined(trial.ua.low for trial in trials),
        "test_ua_high": _defined(trial.ua.high for trial in trials),
        "test_wa_mean": _defined(trial.wa.value for trial in trials),
        "epochs": [record.epochs for record in records],
        "seconds": [record.seconds for record in records],
        "seed": [record.seed for record in records],
        "reason": [record.reason for record in records],
    }
    # Text, because the values of one key may be numbers in one trial and names in another.
    for key in findings.searched:
        columns[key] = [
            str(record.hyperparameters[key]) if key in record.hyperparameters else None
            for record in records
        ]
    return csv_bytes(pa.table(columns))


def _defined(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def folds_csv(findings: Findings) -> bytes:
    """The rows of folds.parquet of every trial, with the trial's number and id."""
    tables = []
    for trial in findings.trials:
        if trial.rows is not None:
            count = trial.rows.num_rows
            numbers = pa.array([trial.record.number] * count, pa.int64())
            ids = pa.array([trial.record.id] * count, pa.string())
            table = trial.rows.add_column(0, "number", numbers).add_column(1, "trial", ids)
            tables.append(table.replace_schema_metadata(None))
    if not tables:
        recalls = [f"recall_{name}" for name in findings.sweep.classes]
        columns = ["number", "trial", *FOLDS.names, *recalls]
        return csv_bytes(pa.table({name: pa.array([], pa.string()) for name in columns}))
    return csv_bytes(pa.concat_tables(tables, promote_options="permissive"))


def context_csv(findings: Findings) -> bytes:
    """One row for each context case of the best trial. Scores and shares are in 0..1."""
    classes = findings.sweep.classes
    cases = findings.best.context if findings.best else []
    columns: dict[str, Any] = {
        "same": pa.array([case.same for case in cases], pa.string()),
        "utterances": [case.utterances for case in cases],
        "share": [case.share for case in cases],
        "ua": [case.ua for case in cases],
        "wa": [case.wa for case in cases],
    }
    for name in classes:
        columns[f"recall_{name}"] = _defined(case.recalls[name] for case in cases)
    for name in classes:
        columns[f"utterances_{name}"] = [case.classes[name] for case in cases]
    return csv_bytes(pa.table(columns))


def label_baselines_csv(findings: Findings) -> bytes:
    """One row for each fold and known unit: the UA of guesses from the training labels alone."""
    rows = [
        {"fold": fold.name, "given": given, "ua": ua}
        for fold in findings.sweep.audit.folds
        for given, ua in sorted(fold.label_baselines.items())
    ]
    schema = pa.schema([("fold", pa.string()), ("given", pa.string()), ("ua", pa.float64())])
    return csv_bytes(pa.Table.from_pylist(rows, schema=schema))


def csv_bytes(table: pa.Table) -> bytes:
    """CSV for spreadsheets: names come from corpora, and no name becomes a formula."""
    columns = [
        pa.array(map(cell, column.to_pylist()), pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    sink = io.BytesIO()
    pacsv.write_csv(pa.table(columns, names=list(map(cell, table.column_names))), sink)
    return sink.getvalue()
