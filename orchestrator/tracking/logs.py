"""The content of a tracker's run, computed from the records of a sweep."""

import hashlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import pyarrow.compute as pc

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import SweepRecord, TrialRecord

METRICS = ("loss", "ua", "wa")


class Value(NamedTuple):
    """A value of a curve: of one fold, or of the mean over folds.

    name : `<part>_<metric>`, or `score`
    series : the fold; empty for the mean over folds
    step : the epoch, from 1
    """

    name: str
    series: str
    step: int
    value: float


class TrialLog(NamedTuple):
    """A finished trial as trackers show it.

    values : in the order of epochs
    scores : `score` (of the part that selects), `test_ua` and `test_wa` (means over folds); empty
        if the trial failed
    """

    record: TrialRecord
    values: list[Value]
    scores: dict[str, float]

    @property
    def title(self) -> str:
        """The name of the run. It sorts as the trials do."""
        return f"{self.record.number:03d}-{self.record.id}"


class Tracker(Protocol):
    """Copies finished trials, each of them once."""

    def has(self, trial: str) -> bool:
        """Whether the tracker has all of a trial, by its id."""

    def add(self, log: TrialLog) -> None:
        """Copy a trial, in place of an incomplete copy."""

    def finish(self, scores: dict[str, float], report: Storage) -> None:
        """Copy the scores of the sweep, and the files of its report."""


def trial_log(ledger: Ledger, record: TrialRecord) -> TrialLog:
    """Read the curves and scores of a finished trial. Raises LedgerError for damage."""
    values = [Value("score", "", epoch, score) for epoch, score in enumerate(record.curve, 1)]
    scores = {} if record.score is None else {"score": record.score}
    if record.status != "failed":
        rows = ledger.folds(record.id)
        values += [
            Value(f"{row['split']}_{metric}", row["fold"], row["epoch"], row[metric])
            for row in rows.to_pylist()
            for metric in METRICS
        ]
        tested = rows.filter(pc.and_(rows["selected"], pc.equal(rows["split"], "test")))
        for metric in ("ua", "wa"):
            scores[f"test_{metric}"] = float(pc.mean(tested[metric]).as_py())
    values = [value for value in values if math.isfinite(value.value)]
    return TrialLog(record, sorted(values, key=lambda value: value.step), scores)


def sweep_scores(summary: dict[str, Any]) -> dict[str, float]:
    """The scores of a sweep by a plain name.

    summary : as `orchestrator.results.summary.summarise` returns it
    """
    best, nested, chance = summary["best"], summary["nested"], summary["chance"]
    scores: dict[str, float | None] = {}
    for metric in ("ua", "wa") if best else ():
        scores[f"best_{metric}_pooled"] = best["pooled"][metric]["value"]
        scores[f"best_{metric}_mean_over_folds"] = best["mean_over_folds"][metric]["value"]
        scores[f"chance_{metric}"] = chance[metric]
        if nested:
            scores[f"nested_{metric}_pooled"] = nested["pooled"][metric]
            scores[f"nested_{metric}_mean_over_folds"] = nested["mean_over_folds"][metric]["value"]
    return {name: value for name, value in scores.items() if value is not None}


def sweep_key(sweep: SweepRecord) -> str:
    """A name that no other sweep has: its name, and a hash of its start and its data."""
    text = "/".join((sweep.name, sweep.created, sweep.fingerprint))
    return f"{sweep.name}-{hashlib.sha1(text.encode()).hexdigest()[:10]}"


def flat(values: dict[str, Any], key: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested dictionaries by dotted keys."""
    for name, value in values.items():
        dotted = f"{key}.{name}".lstrip(".")
        if isinstance(value, dict):
            yield from flat(value, dotted)
        else:
            yield dotted, value
