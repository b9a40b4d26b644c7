"""Rows for the page and for trials.csv and folds.csv."""

import io
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from orchestrator.metrics import Scores
from orchestrator.results.findings import Findings, Trial, mapping
from orchestrator.report.labels import cell


@dataclass(frozen=True)
class FoldRow:
    """A fold of the best trial; sizes are utterances, None where sweep.yaml has none."""

    fold: str
    train: int | None
    validation: int | None
    test: int
    epoch: int
    last_epoch: int
    selection_score: float
    scores: Scores
    nested_choice: int | None


@dataclass(frozen=True)
class SearchedRow:
    """A hyperparameter: its best value and what the search tried."""

    key: str
    best: Any
    tried: str
    distinct: int


def shown(value: Any) -> str:
    """A hyperparameter's value as one would write it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def hyperparameter_keys(findings: Findings) -> list[str]:
    """Every searched key, in the order in which the trials first name it."""
    keys = (key for trial in findings.trials for key in trial.record.hyperparameters)
    return list(dict.fromkeys(keys))


def searched(findings: Findings) -> list[SearchedRow]:
    """The best trial's value of each hyperparameter beside the values that were tried."""
    best = findings.best.trial.record.hyperparameters if findings.best else {}
    rows = []
    for key in hyperparameter_keys(findings):
        values = [
            trial.record.hyperparameters[key]
            for trial in findings.trials
            if key in trial.record.hyperparameters
        ]
        distinct = list(dict.fromkeys(values, None)) if _hashable(values) else values
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if numeric and len(distinct) > 4:
            tried = f"{shown(min(values))} to {shown(max(values))}"
        else:
            tried = ", ".join(map(shown, sorted(distinct) if numeric else distinct))
        rows.append(SearchedRow(key, best.get(key), tried, len(distinct)))
    return rows


def _hashable(values: list[Any]) -> bool:
    return not any(isinstance(value, list | dict) for value in values)


def fold_rows(findings: Findings) -> list[FoldRow]:
    """The folds of the best trial."""
    if findings.best is None:
        return []
    listed = findings.sweep.get("folds") or []
    sizes = {str(fold.get("name")): fold for fold in listed if isinstance(fold, dict)}
    choices = findings.nested.choices if findings.nested else {}
    return [
        FoldRow(
            fold=fold.fold,
            train=mapping(sizes, fold.fold).get("train"),
            validation=mapping(sizes, fold.fold).get("validation"),
            test=findings.best.by_fold[fold.fold][0] if fold.fold in findings.best.by_fold else 0,
            epoch=fold.epoch,
            last_epoch=fold.last_epoch,
            selection_score=fold.selection_score,
            scores=fold.test,
            nested_choice=choices.get(fold.fold),
        )
        for fold in findings.best.trial.folds
    ]


def failures(findings: Findings) -> dict[str, list[int]]:
    """Numbers of the failed trials, by reason."""
    found: dict[str, list[int]] = {}
    for trial in findings.trials:
        if trial.record.status == "failed":
            found.setdefault(trial.record.reason or "no reason recorded", []).append(
                trial.record.number
            )
    return found


def trials_csv(findings: Findings) -> bytes:
    """One row a trial; scores in 0..1, empty where a trial has none."""
    rows = [_trial_row(findings, trial) for trial in findings.trials]
    fixed = [
        ("number", pa.int64()),
        ("trial", pa.string()),
        ("model", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("test_ua_mean", pa.float64()),
        ("test_ua_low", pa.float64()),
        ("test_ua_high", pa.float64()),
        ("test_wa_mean", pa.float64()),
        ("epochs", pa.int64()),
        ("seconds", pa.float64()),
        ("seed", pa.int64()),
        ("reason", pa.string()),
    ]
    # Text, since one key's values may be numbers in one trial and names in another.
    keys = [(key, pa.string()) for key in hyperparameter_keys(findings)]
    return _csv(pa.Table.from_pylist(rows, schema=pa.schema(fixed + keys)))


def _trial_row(findings: Findings, trial: Trial) -> dict[str, Any]:
    record, ua, wa = trial.record, trial.ua, trial.wa
    row = {
        "number": record.number,
        "trial": record.id,
        "model": record.model,
        "status": record.status,
        "score": record.score,
        "test_ua_mean": ua.value if ua else None,
        "test_ua_low": _defined(ua.low) if ua else None,
        "test_ua_high": _defined(ua.high) if ua else None,
        "test_wa_mean": wa.value if wa else None,
        "epochs": record.epochs,
        "seconds": record.seconds,
        "seed": record.seed,
        "reason": record.reason,
    }
    chosen = record.hyperparameters
    return row | {key: str(chosen[key]) for key in hyperparameter_keys(findings) if key in chosen}


def _defined(value: float) -> float | None:
    return None if value != value else value


def folds_csv(findings: Findings) -> bytes:
    """folds.parquet of every trial, one under the other, with the trial's number and id."""
    tables = []
    for trial in findings.trials:
        if trial.rows is not None:
            count = trial.rows.num_rows
            numbers = pa.array([trial.record.number] * count, pa.int64())
            ids = pa.array([trial.record.id] * count, pa.string())
            table = trial.rows.add_column(0, "number", numbers).add_column(1, "trial", ids)
            tables.append(table.replace_schema_metadata(None))
    if not tables:
        columns = ["number", "trial", "fold", "epoch", "split", "selected", "loss", "ua", "wa"]
        columns += [f"recall_{name}" for name in findings.classes]
        return _csv(pa.table({name: pa.array([], pa.string()) for name in columns}))
    return _csv(pa.concat_tables(tables, promote_options="permissive"))


def _csv(table: pa.Table) -> bytes:
    """CSV that a spreadsheet may open: names come from corpora, and none becomes a formula."""
    columns = [
        pa.array(map(cell, column.to_pylist()), pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    sink = io.BytesIO()
    pacsv.write_csv(pa.table(columns, names=list(map(cell, table.column_names))), sink)
    return sink.getvalue()
