"""Computes everything that a report says, once, from the ledger of a sweep."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator import metrics
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import SweepRecord, TrialRecord
from orchestrator.metrics import Interval, Scores, fold_interval
from orchestrator.results import selection
from orchestrator.results.baselines import LabelBaselines, compared_with_labels
from orchestrator.results.below_chance import below_chance
from orchestrator.results.context import ContextCase, context_cases

BOOTSTRAP_SEED = 0
BOOTSTRAP_SAMPLES = 2000
FEW_SPEAKERS = 10


@dataclass(frozen=True)
class Trial:
    """A finished trial. `rows` (folds.parquet) is None and `folds` is empty if the trial failed."""

    record: TrialRecord
    rows: pa.Table | None
    folds: list[selection.FoldScore]

    @cached_property
    def ua(self) -> Interval:
        """Test UA, mean over folds with a t interval. NaN if the trial failed."""
        return fold_interval([fold.test.ua for fold in self.folds] or [math.nan])

    @cached_property
    def wa(self) -> Interval:
        """Test WA, mean over folds with a t interval. NaN if the trial failed."""
        return fold_interval([fold.test.wa for fold in self.folds] or [math.nan])


@dataclass(frozen=True)
class Best:
    """A trial in detail. `Findings.best` is the trial with the highest score.

    pooled : scores over all test utterances, with intervals over speakers
    recalls : mean over the folds whose test part has the class
    confusion : counts pooled over folds, (class, class); a row is a true class
    context : scores by the number of previous turns that have the utterance's class
    inspection : embeddings and attention (`orchestrator.training.inspection`), None without them
    by_fold : scores, computed from the predictions
    by_speaker : number of test utterances, and scores
    chance_ua : UA of a random guess
    chance_wa : WA if the answer is always the most frequent class
    """

    trial: Trial
    pooled: metrics.Bootstrap
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
    """The results of a sweep.

    trials : the finished trials, in the order of the search
    unfinished : number of proposed trials that have not finished
    nested_reason : why `nested` is None, else empty
    labels : the label-only baselines beside the model's UA; None if no trial has a score, or if an
        older version started the sweep
    warnings : notes for a careful reader of the scores, in whole sentences
    alarm : if the best trial's UA is below chance, a sentence that says so, and the likely causes
    """

    sweep: SweepRecord
    trials: list[Trial]
    unfinished: int
    best: Best | None
    nested: selection.Nested | None
    nested_reason: str
    labels: LabelBaselines | None
    warnings: list[str]
    alarm: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status; `unfinished` trials were proposed and have not finished."""
        statuses = [trial.record.status for trial in self.trials]
        finished = {status: statuses.count(status) for status in ("complete", "pruned", "failed")}
        return {**finished, "unfinished": self.unfinished}

    @property
    def searched(self) -> list[str]:
        """Every searched key, in the order in which the trials first name it."""
        return hyperparameter_keys(trial.record for trial in self.trials)


def hyperparameter_keys(records: Iterable[TrialRecord]) -> list[str]:
    """Every searched key, in the order in which the trials first name it."""
    return list(dict.fromkeys(key for record in records for key in record.hyperparameters))


def gather(ledger: Ledger) -> Findings:
    """Read a sweep and compute the content of its report.

    Raises NoSweepError if the folder holds no sweep, LedgerError if a file is damaged.
    """
    sweep = ledger.sweep()
    trials = []
    for record in ledger.trials():
        rows = None if record.status == "failed" else ledger.folds(record.id)
        folds = []
        if rows is not None:
            folds = selection.fold_scores(rows, sweep.classes, sweep.selection, sweep.metric)
        trials.append(Trial(record, rows, folds))
    by_number = {trial.record.number: trial for trial in trials}

    best, nested, reason = None, None, "No finished trial has a score."
    top = selection.best_trial(trial.record for trial in trials)
    if top is not None:
        predictions = ledger.predictions(top.id)
        best = in_detail(by_number[top.number], predictions, ledger.inspection(top), sweep.classes)
        if sweep.optimistic:
            reason = (
                "The epoch was selected on the test part, so there is no validation part on which "
                "each fold could select its own configuration."
            )
        else:
            reason = ""
            nested = selection.nested_estimate(
                {number: trial.folds for number, trial in by_number.items() if trial.folds},
                lambda number: ledger.predictions(by_number[number].record.id),
                sweep.classes,
            )
    alarm = []
    if best is not None:
        point = best.trial.record.hyperparameters
        alarm = below_chance(best.pooled.ua, best.chance_ua, sweep, point)
    proposed = {proposal.trial for proposal in ledger.proposals()}
    return Findings(
        sweep=sweep,
        trials=trials,
        unfinished=len(proposed) - len(trials),
        best=best,
        nested=nested,
        nested_reason=reason,
        labels=_labels(sweep, best, nested) if best else None,
        warnings=list(cautions(best, sweep.epochs)) if best else [],
        alarm=alarm,
    )


def in_detail(
    trial: Trial, predictions: pa.Table, inspection: pa.Table | None, classes: list[str]
) -> Best:
    """Compute the detailed scores of a trial from its predictions."""
    truth, guess, speakers = (
        predictions[name].to_pylist() for name in ("truth", "prediction", "speaker")
    )
    counts = metrics.confusion(truth, guess, classes)
    of_class = counts.sum(axis=1)
    recalls = {}
    for name in classes:
        values = [fold.test.recalls[name] for fold in trial.folds]
        # A fold without the class has no recall for it (0/0), so the mean leaves the fold out.
        defined = [value for value in values if not math.isnan(value)]
        recalls[name] = fold_interval(defined or [math.nan])
    return Best(
        trial=trial,
        pooled=metrics.speaker_bootstrap(
            truth, guess, speakers, classes, BOOTSTRAP_SEED, BOOTSTRAP_SAMPLES
        ),
        recalls=recalls,
        confusion=counts,
        context=context_cases(predictions, classes),
        inspection=inspection,
        by_fold=_groups(predictions, "fold", classes),
        by_speaker=_groups(predictions, "speaker", classes),
        chance_ua=1 / int((of_class > 0).sum()),
        chance_wa=float(of_class.max() / of_class.sum()),
    )


def _labels(
    sweep: SweepRecord, best: Best, nested: selection.Nested | None
) -> LabelBaselines | None:
    score = best.trial.ua if nested is None else nested.ua
    if len(best.trial.folds) == 1:  # pooled and mean are equal, and only pooled has an interval
        score = best.pooled.ua
    return compared_with_labels(sweep, score, nested is not None)


def _groups(
    predictions: pa.Table, column: str, classes: list[str]
) -> dict[str, tuple[int, Scores]]:
    """Number of utterances and scores for each value of a column, in the order of the file."""
    groups = {}
    for value in pc.unique(predictions[column]).to_pylist():
        part = predictions.filter(pc.equal(predictions[column], value))
        scored = metrics.scores(part["truth"], part["prediction"], classes)
        groups[value] = (part.num_rows, scored)
    return groups


def cautions(best: Best, epochs: int | None, called: str = "the best trial") -> Iterator[str]:
    """Sentences for a careful reader of a trial's scores.

    epochs : the configured number of epochs
    called : the name of the trial in a sentence
    """
    folds = best.trial.folds
    if best.trial.record.status == "pruned":
        yield (
            f"The search stopped {called} early. With more training its score may be higher "
            "or lower."
        )
    if len(folds) == 1:
        yield "There is one fold, so there is no interval over folds."
    speakers = best.pooled.speakers
    if speakers == 1:
        yield "There is one test speaker, so there is no interval over speakers."
    elif speakers < FEW_SPEAKERS:
        yield f"The bootstrap draws from {speakers} speakers only, so its interval is too narrow."
    for name in folds[0].test.recalls:
        recalls = {fold.fold: fold.test.recalls[name] for fold in folds}
        if absent := [fold for fold, recall in recalls.items() if math.isnan(recall)]:
            yield (
                f"No test utterance is {name} in {_listed(absent)}. There, UA is the mean over the "
                "other classes."
            )
        if never := [fold for fold, recall in recalls.items() if recall == 0]:
            yield f"The model never recognised {name} in {_listed(never)}."
    at_end = [fold.fold for fold in folds if fold.epoch == epochs]
    if at_end and best.trial.record.status == "complete":
        yield (
            f"In {len(at_end)} of {len(folds)} folds the last epoch ({epochs}) was the best. "
            "A larger training.epochs may give a higher score."
        )
    for fold in folds:
        recomputed = best.by_fold.get(fold.fold)
        # Recorded scores may be in single precision.
        if recomputed is None or abs(recomputed[1].ua - fold.test.ua) > 1e-5:
            yield (
                f"Fold {fold.fold}: the recorded test UA does not match the recorded predictions. "
                "Do not trust this trial."
            )


def _listed(folds: list[str]) -> str:
    return f"fold {folds[0]}" if len(folds) == 1 else f"folds {', '.join(folds)}"
