"""The tables beside a study's page: scores, pairs and trials as CSV, predictions as Parquet."""

import math
from typing import Any

import pyarrow as pa

from orchestrator.ledger.seals import parquet_bytes
from orchestrator.metrics import Interval
from orchestrator.report.tables import csv_bytes, shown
from orchestrator.results.published import differences, published
from orchestrator.results.searches import SearchCost, fold_epochs
from orchestrator.results.study import Study

ACROSS = "model and configuration selected for each fold"
"""The row of scores.csv for the nested estimate across models."""


def scores_csv(study: Study, costs: dict[str, SearchCost]) -> bytes:
    """One row for each sweep, and one for the nested estimate across models.

    Scores are in 0..1 and empty if a sweep has none; `ua` and `wa` are those of the configuration
    of each fold (`nested`, or `optimistic`). The best trial's own scores begin with `plain`.
    """
    rows = []
    for entry in study.entries:
        findings, cost = entry.findings, costs[entry.label]
        row: dict[str, Any] = {
            "sweep": entry.label,
            "model": entry.record.model,
            "estimate": "optimistic" if entry.record.optimistic else "nested",
            **{f"trials_{status}": count for status, count in cost.counts.items()},
            "fold_epochs": cost.fold_epochs,
        }
        if findings.best is not None:
            best = findings.best
            row["best_trial"] = best.trial.record.id
            row |= _interval("ua_mean", entry.score.ua) | _interval("wa_mean", entry.score.wa)
            row |= _interval("ua_pooled", entry.score.pooled.ua)
            row |= _interval("wa_pooled", entry.score.pooled.wa)
            for name, recall in entry.score.pooled.recalls.items():
                row |= _interval(f"recall_{name}", recall)
            row["plain_ua_mean"], row["plain_ua_pooled"] = best.trial.ua.value, best.pooled.ua.value
        if paper := published(entry.record):
            row["published_ua"] = None if paper.ua is None else paper.ua / 100
            row["published_wa"] = None if paper.wa is None else paper.wa / 100
            row["published_source"] = paper.protocol.source
            row["published_differs"] = "; ".join(differences(paper, entry.record))
        rows.append(row)
    if study.across is not None:
        across = study.across
        row = {"sweep": ACROSS, "estimate": "nested"}
        row |= _interval("ua_mean", across.ua) | _interval("wa_mean", across.wa)
        row |= _interval("ua_pooled", across.pooled.ua) | _interval("wa_pooled", across.pooled.wa)
        for name, recall in across.pooled.recalls.items():
            row |= _interval(f"recall_{name}", recall)
        rows.append(row)
    return csv_bytes(_table(rows))


def _interval(name: str, interval: Interval) -> dict[str, float | None]:
    """Three columns; NaN becomes an empty cell."""
    names = (name, f"{name}_low", f"{name}_high")
    return {
        key: None if math.isnan(value) else value
        for key, value in zip(names, interval, strict=True)
    }


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows that lack a column have null there. Columns come in the order in which rows name them.

    A longer row names most columns, so the longest decides the order.
    """
    longest = max(rows, key=len)
    keys = list(dict.fromkeys([*longest, *(key for row in rows for key in row)]))
    return pa.table({key: [row.get(key) for row in rows] for key in keys})


PAIRS = {
    "first": pa.string(),
    "second": pa.string(),
    "difference": pa.float64(),
    "low": pa.float64(),
    "high": pa.float64(),
    "t": pa.float64(),
    "t_p": pa.float64(),
    "t_p_holm": pa.float64(),
    "mcnemar_first_only": pa.int64(),
    "mcnemar_second_only": pa.int64(),
    "mcnemar_p": pa.float64(),
    "mcnemar_p_holm": pa.float64(),
}


def pairs_csv(study: Study) -> bytes:
    """One row for each pair of sweeps: the UA of the first minus that of the second, with tests."""
    rows = []
    for pair in study.pairs:
        row: dict[str, Any] = {"first": pair.first, "second": pair.second}
        if pair.t_test is not None:
            mean, low, high, t, p_value = pair.t_test
            row |= {"difference": mean, "low": low, "high": high, "t": t, "t_p": p_value}
            row["t_p_holm"] = pair.t_holm
        if pair.mcnemar is not None:
            first, second, p_value = pair.mcnemar
            row |= {"mcnemar_first_only": first, "mcnemar_second_only": second}
            row |= {"mcnemar_p": p_value, "mcnemar_p_holm": pair.mcnemar_holm}
        rows.append(row)
    return csv_bytes(pa.Table.from_pylist(rows, schema=pa.schema(list(PAIRS.items()))))


def trials_csv(study: Study) -> bytes:
    """One row for each finished trial of every sweep."""
    rows = trial_rows(study)
    names = ["sweep", "number", "trial", "model", "status", "score", "test_ua", "epochs"]
    names += ["fold_epochs", "seconds", "seed", "hyperparameters", "reason"]
    return csv_bytes(pa.table({name: [row[name] for row in rows] for name in names}))


def trial_rows(study: Study) -> list[dict[str, Any]]:
    """The finished trials of every sweep, as plain values. A missing number is None."""
    rows = []
    for entry in study.entries:
        for trial in entry.findings.trials:
            record = trial.record
            chosen = ", ".join(f"{k}={shown(v)}" for k, v in record.hyperparameters.items())
            rows.append(
                {
                    "sweep": entry.label,
                    "number": record.number,
                    "trial": record.id,
                    "model": record.model,
                    "status": record.status,
                    "score": record.score,
                    "test_ua": None if math.isnan(trial.ua.value) else trial.ua.value,
                    "epochs": record.epochs,
                    "fold_epochs": fold_epochs(trial, len(entry.record.folds)),
                    "seconds": record.seconds,
                    "seed": record.seed,
                    "hyperparameters": chosen,
                    "reason": record.reason,
                }
            )
    return rows


def predictions_parquet(study: Study) -> bytes:
    """The test predictions of each sweep's best configuration, in one table.

    Columns: sweep, model, trial, and those of predictions.parquet of a trial
    (`OpenedSweep.predictions`).
    """
    tables = []
    for entry in study.ranking:
        table, best = entry.sweep.predictions(), entry.sweep.trial()
        added = {"sweep": entry.label, "model": best.model, "trial": best.id}
        for place, (name, value) in enumerate(added.items()):
            column = pa.array([value] * len(table), pa.string())
            table = table.add_column(place, name, column)
        tables.append(table.replace_schema_metadata(None))
    if not tables:
        names = ("sweep", "model", "trial", "fold", "utterance", "speaker", "truth", "prediction")
        return parquet_bytes(pa.table({name: pa.array([], pa.string()) for name in names}))
    return parquet_bytes(pa.concat_tables(tables, promote_options="permissive"))
