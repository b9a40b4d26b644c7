"""Selects the best trial, and estimates its score with and without the effect of the selection.

The best trial has the highest mean score over all folds. The test part of one fold is training or
validation data of another fold, so it takes part in the selection, and the plain score of the best
trial can be optimistic. The nested estimate selects the trial for each test fold on that fold's own
validation part, which contains no utterance of the test part.

The selection is nested, but the search is not: a sampler that learns from earlier trials uses their
mean over all folds. The nested selection uses less data. So the difference of the two scores is
partly noise, and it can be negative.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.ledger.records import TrialRecord
from orchestrator.metrics import Interval, Label, Scores, fold_interval, scores


@dataclass(frozen=True)
class FoldScore:
    """One fold of one trial at its selected epoch.

    epoch : the selected epoch, from 1
    last_epoch : the last epoch of this fold
    selection_score : UA or WA on the part that selects, at the selected epoch
    test : scores of the test part
    """

    fold: str
    epoch: int
    last_epoch: int
    selection_score: float
    test: Scores


@dataclass(frozen=True)
class Nested:
    """The nested estimate.

    choices : for each fold, the number of the trial with the best score on its validation part
    ua, wa : scores of these trials on these folds, mean over folds with a t interval
    pooled : scores over the test utterances of all folds, each predicted by its fold's trial
    """

    choices: dict[str, int]
    ua: Interval
    wa: Interval
    pooled: Scores


def best_trial(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The trial with the highest score, complete or pruned. If scores tie, the lowest number wins.

    Returns None if no trial has a score.
    """
    scored = [record for record in records if record.score is not None and record.score >= 0]
    return min(scored, key=lambda record: (-(record.score or 0.0), record.number), default=None)


def fold_scores(
    table: pa.Table, classes: Sequence[Label], selection: str, metric: str = "ua"
) -> list[FoldScore]:
    """The scores of each fold at its selected epoch, in the order of the file.

    table : `folds.parquet`
    selection : `validation` or `held_out`
    metric : `ua` or `wa`, the score that selected the epoch
    """
    selects = "test" if selection == "held_out" else "validation"
    last: dict[str, int] = {}
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table.to_pylist():
        fold = row["fold"]
        last[fold] = max(last.get(fold, 0), row["epoch"])
        # With `validation`, the test part has a single row: the selected epoch.
        if row["selected"] or row["split"] == "test" != selects:
            chosen[fold, row["split"]] = row
    by_fold = []
    for fold, last_epoch in last.items():
        select, test = chosen[fold, selects], chosen[fold, "test"]
        recalls = {name: test[f"recall_{name}"] for name in classes}
        reported = Scores(test["ua"], test["wa"], recalls)
        by_fold.append(FoldScore(fold, select["epoch"], last_epoch, select[metric], reported))
    return by_fold


def nested_choices(trials: Mapping[int, Sequence[FoldScore]]) -> dict[str, int]:
    """For each fold, the number of the trial with the highest validation score.

    The score is taken at the selected epoch. If scores tie, the lowest number wins. A trial without
    this fold, or with NaN as its score, is not a candidate.
    """
    choices: dict[str, int] = {}
    highest: dict[str, float] = {}
    for number in sorted(trials):
        for score in trials[number]:
            if score.selection_score > highest.get(score.fold, -np.inf):
                highest[score.fold], choices[score.fold] = score.selection_score, number
    return choices


def chosen_predictions(
    choices: Mapping[str, int], predictions: Callable[[int], pa.Table]
) -> dict[str, pa.Table]:
    """For each fold, the test predictions of its trial.

    predictions : returns the test predictions of a trial, by its number
    """
    tables = {number: predictions(number) for number in sorted(set(choices.values()))}
    return {
        fold: tables[number].filter(pc.equal(tables[number]["fold"], fold))
        for fold, number in choices.items()
    }


def nested_estimate(
    trials: Mapping[int, Sequence[FoldScore]],
    predictions: Callable[[int], pa.Table],
    classes: Sequence[Label],
) -> Nested:
    """Score each test fold with the trial that is best on the fold's own validation part.

    trials : the folds of each trial, by trial number
    predictions : returns the test predictions of a trial; called for the selected trials only

    The epoch is the epoch that the trial selected for the fold, on the same validation part.
    Raises ValueError if no trial has a validation score.
    """
    choices = nested_choices(trials)
    by_fold = {number: {score.fold: score.test for score in trials[number]} for number in trials}
    tests = [by_fold[number][fold] for fold, number in choices.items()]
    ua, wa = fold_interval([test.ua for test in tests]), fold_interval([test.wa for test in tests])
    parts = chosen_predictions(choices, predictions)
    pooled = pa.concat_tables(part.select(["truth", "prediction"]) for part in parts.values())
    return Nested(choices, ua, wa, scores(pooled["truth"], pooled["prediction"], classes))
