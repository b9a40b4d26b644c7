"""Everything that a report says, worked out once from what a sweep left on storage."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.training.inspection import check
from orchestrator.ledger.ledger import Ledger, TrialRecord, unfit
from orchestrator.metrics import (
    Bootstrap,
    Interval,
    Scores,
    confusion,
    fold_interval,
    scores,
    speaker_bootstrap,
)
from orchestrator.results.context import ContextCase, context_cases
from orchestrator.results.selection import FoldScore, Nested, best_trial, fold_scores, nested_estimate

BOOTSTRAP_SEED = 0
BOOTSTRAP_SAMPLES = 2000
FEW_SPEAKERS = 10


@dataclass(frozen=True)
class Trial:
    """An ended trial; `rows` and `folds` are empty where it failed."""

    record: TrialRecord
    rows: pa.Table | None
    folds: list[FoldScore]

    @cached_property
    def ua(self) -> Interval | None:
        """Test UA, mean over folds."""
        return fold_interval([fold.test.ua for fold in self.folds]) if self.folds else None

    @cached_property
    def wa(self) -> Interval | None:
        """Test WA, mean over folds."""
        return fold_interval([fold.test.wa for fold in self.folds]) if self.folds else None


@dataclass(frozen=True)
class Best:
    """The trial with the highest score, in detail.

    recalls : mean over the folds whose test part has the class
    confusion : counts pooled over folds, (class, class), rows are truth
    context : scores by how many of the two turns before have the utterance's class
    inspection : embeddings and attention (`orchestrator.inspection`), where the model has them
    by_fold, by_speaker : utterances and scores recomputed from the predictions
    chance_ua, chance_wa : of a guess that knows nothing, and of always the most frequent class
    """

    trial: Trial
    pooled: Bootstrap
    ua: Interval
    wa: Interval
    recalls: dict[str, Interval]
    confusion: NDArray[np.int64]
    context: list[ContextCase]
    inspection: pa.Table | None
    by_fold: dict[str, tuple[int, Scores]]
    by_speaker: dict[str, tuple[int, Scores]]
    chance_ua: float
    chance_wa: float


@dataclass(frozen=True)
class Findings:
    """What is known of a sweep. `nested` is None where `nested_reason` says why."""

    sweep: dict[str, Any]
    name: str
    classes: list[str]
    selection: str
    metric: str
    trials: list[Trial]
    unfinished: int
    best: Best | None
    nested: Nested | None
    nested_reason: str
    warnings: list[str]

    @property
    def optimistic(self) -> bool:
        """Whether the epoch was chosen on the part that is reported."""
        return self.selection == "held_out"

    @property
    def counts(self) -> dict[str, int]:
        """Trials by status; `unfinished` are proposed trials that have not ended."""
        statuses = [trial.record.status for trial in self.trials]
        ended = {status: statuses.count(status) for status in ("complete", "pruned", "failed")}
        return {**ended, "unfinished": self.unfinished}


def mapping(parent: Any, key: str) -> dict[str, Any]:
    """`parent[key]` where both are mappings, else an empty one: sweep.yaml may lack any key."""
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


def gather(ledger: Ledger) -> Findings:
    """Read a sweep and work out what its report says. Raises LedgerError where there is none."""
    sweep = ledger.sweep()
    classes = [str(name) for name in sweep.get("classes") or []]
    configuration = mapping(sweep, "configuration")
    selection = str(mapping(configuration, "folds").get("selection", "validation"))
    metric = "wa" if mapping(configuration, "training").get("metric") == "wa" else "ua"
    trials = []
    for record in ledger.trials():
        failed = record.status == "failed"
        rows = None if failed else ledger.folds(record.id)
        try:
            folds = [] if rows is None else fold_scores(rows, classes, selection, metric)
        except (ValueError, TypeError) as error:
            raise unfit(ledger.trial_storage(record.id), "folds.parquet", error) from error
        trials.append(Trial(record, rows, folds))
    proposed = {suggestion.trial for suggestion in ledger.suggestions()}
    by_number: dict[int, Trial] = {}
    for trial in trials:
        other = by_number.setdefault(trial.record.number, trial)
        if other is not trial:
            twice = ValueError(f"its number {trial.record.number} is also {other.record.id}'s")
            raise unfit(ledger.trial_storage(trial.record.id), "trial.json", twice)

    def predictions(number: int) -> pa.Table:
        return _predictions(ledger, by_number[number], classes)

    best, nested, reason = None, None, "No trial has ended with a score."
    top = best_trial(trial.record for trial in trials)
    if top is not None:
        found = predictions(top.number)
        best = _best(by_number[top.number], found, _inspection(ledger, top, classes), classes)
        if selection == "held_out":
            reason = (
                "The epoch was chosen on the part that is reported, so there is no validation "
                "part by which each fold could choose its own configuration."
            )
        else:
            reason = ""
            scored = {number: trial.folds for number, trial in by_number.items() if trial.folds}
            nested = nested_estimate(scored, predictions, classes)
    return Findings(
        sweep=sweep,
        name=str(sweep.get("name") or "sweep"),
        classes=classes,
        selection=selection,
        metric=metric,
        trials=trials,
        unfinished=len(proposed) - len(trials),
        best=best,
        nested=nested,
        nested_reason=reason,
        warnings=_warnings(best, configuration, selection),
    )


def _predictions(ledger: Ledger, trial: Trial, classes: list[str]) -> pa.Table:
    """A trial's predictions. Raises LedgerError where they are of other classes or folds."""
    table = ledger.predictions(trial.record.id)
    wrong = [
        f"{column} {name!r} is no class of the sweep, {', '.join(classes)}"
        for column in ("truth", "prediction")
        for name in sorted(set(table[column].to_pylist()) - set(classes))
    ]
    absent = {score.fold for score in trial.folds} - set(table["fold"].to_pylist())
    wrong += [f"fold {name} has no row" for name in sorted(absent)]
    if wrong:
        folder = ledger.trial_storage(trial.record.id)
        raise unfit(folder, "predictions.parquet", ValueError(wrong[0]))
    return table


def _inspection(ledger: Ledger, record: TrialRecord, classes: list[str]) -> pa.Table | None:
    """What the trial's network attended to. Raises LedgerError where it cannot be drawn."""
    table = ledger.inspection(record)
    try:
        if table is not None:
            check(table, classes)
    except ValueError as error:
        raise unfit(ledger.trial_storage(record.id), "inspection.parquet", error) from error
    return table


def _best(
    trial: Trial, predictions: pa.Table, inspection: pa.Table | None, classes: list[str]
) -> Best:
    truth = predictions["truth"].to_pylist()
    guess = predictions["prediction"].to_pylist()
    counts = confusion(truth, guess, classes)
    of_class = counts.sum(axis=1)
    recalls = {}
    for name in classes:
        values = [fold.test.recalls[name] for fold in trial.folds]
        # A fold without the class has no recall for it (0/0), so it cannot enter the mean.
        defined = [value for value in values if not math.isnan(value)]
        recalls[name] = fold_interval(defined or [math.nan])
    return Best(
        trial=trial,
        pooled=speaker_bootstrap(
            truth,
            guess,
            predictions["speaker"].to_pylist(),
            classes,
            seed=BOOTSTRAP_SEED,
            samples=BOOTSTRAP_SAMPLES,
        ),
        ua=fold_interval([fold.test.ua for fold in trial.folds]),
        wa=fold_interval([fold.test.wa for fold in trial.folds]),
        recalls=recalls,
        confusion=counts,
        context=context_cases(predictions, classes),
        inspection=inspection,
        by_fold=_groups(predictions, "fold", classes),
        by_speaker=_groups(predictions, "speaker", classes),
        chance_ua=1 / int((of_class > 0).sum()),
        chance_wa=float(of_class.max() / of_class.sum()),
    )


def _groups(
    predictions: pa.Table, column: str, classes: list[str]
) -> dict[str, tuple[int, Scores]]:
    """Utterances and scores by the values of a column, in the order of the file."""
    found = {}
    for value in pc.unique(predictions[column]).to_pylist():
        part = predictions.filter(pc.equal(predictions[column], value))
        scored = scores(part["truth"].to_pylist(), part["prediction"].to_pylist(), classes)
        found[str(value)] = (part.num_rows, scored)
    return found


def _warnings(best: Best | None, configuration: dict[str, Any], selection: str) -> list[str]:
    """What a careful reader of the scores should know, in whole sentences."""
    found: list[str] = []
    if best is None:
        return found
    folds = best.trial.folds
    if best.trial.record.status == "pruned":
        found.append(
            "The best trial was stopped early by the search; trained longer it may score otherwise."
        )
    if len(folds) == 1:
        found.append("There is one fold, so there is no interval over folds.")
    speakers = best.pooled.speakers
    if speakers == 1:
        found.append("There is one test speaker, so there is no interval over speakers.")
    elif speakers < FEW_SPEAKERS:
        found.append(
            f"The bootstrap resamples {speakers} speakers; with so few its interval is too narrow."
        )
    for name in best.trial.folds[0].test.recalls:
        recalls = {fold.fold: fold.test.recalls[name] for fold in folds}
        absent = [fold for fold, recall in recalls.items() if math.isnan(recall)]
        if absent:
            found.append(
                f"No test utterance is {name} in {_listed(absent)}; UA there is over the other "
                "classes."
            )
        never = [fold for fold, recall in recalls.items() if recall == 0]
        if never:
            found.append(f"{name} was never recognised in {_listed(never)}.")
    asked = mapping(configuration, "training").get("epochs")
    at_end = [fold.fold for fold in folds if fold.epoch == asked]
    if at_end and best.trial.record.status == "complete":
        found.append(
            f"In {len(at_end)} of {len(folds)} folds the last allowed epoch ({asked}) was the best "
            "one: longer training may score higher."
        )
    for fold in folds:
        recomputed = best.by_fold.get(fold.fold)
        # Recorded scores may have been kept in single precision.
        if recomputed is None or abs(recomputed[1].ua - fold.test.ua) > 1e-5:
            found.append(
                f"Fold {fold.fold}: the recorded test UA does not follow from the recorded "
                "predictions. Do not trust this trial."
            )
    if selection not in ("validation", "held_out"):
        found.append(f"Unknown selection {selection!r} in sweep.yaml; taken as validation.")
    return found


def _listed(folds: list[str]) -> str:
    return f"fold {folds[0]}" if len(folds) == 1 else f"folds {', '.join(folds)}"
