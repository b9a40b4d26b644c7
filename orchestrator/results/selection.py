"""Which trial is best, and what choosing it did to its score.

The best of many configurations is chosen by the mean over all folds, and one fold's test part is
another's training or validation part: it had a say in the choice, so the plain score of the best
can be optimistic. The nested estimate scores each test fold by the configuration that the fold's
own validation part prefers, which has not seen the test part.

It is nested in the choice, not in the search: a sampler that proposes configurations from earlier
scores has seen the mean over all folds. And it chooses from less data, so the difference of the
two is partly noise and may be negative.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.ledger.ledger import TrialRecord
from orchestrator.metrics import Interval, Label, Scores, fold_interval, scores


@dataclass(frozen=True)
class FoldScore:
    """One fold of one trial at the epoch that was selected for it.

    epoch : the selected epoch, from 1; last_epoch : the last that was run
    selection_score : the metric that selects (UA or WA), on the part that selects
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

    choices : for each fold, the number of the trial that its validation part prefers
    folds : that trial's scores of that fold
    ua, wa : mean over folds with a t interval
    pooled : scores over the test utterances of all folds, each predicted by its fold's choice
    """

    choices: dict[str, int]
    folds: dict[str, FoldScore]
    ua: Interval
    wa: Interval
    pooled: Scores


def best_trial(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The trial with the highest score, a pruned one too; of equals the lowest number.

    None where no trial has a score.
    """
    scored = [record for record in records if record.score is not None and record.score >= 0]
    return min(scored, key=lambda record: (-(record.score or 0.0), record.number), default=None)


def fold_scores(
    table: pa.Table, classes: Sequence[Label], selection: str, metric: str = "ua"
) -> list[FoldScore]:
    """What `folds.parquet` says of each fold at its selected epoch, in the order of the file.

    `selection` is `validation` or `held_out`, `metric` is `ua` or `wa`: what chose the epoch.
    Raises ValueError where a fold has no selected row of the part that selects, or no test row.
    """
    selects = "test" if selection == "held_out" else "validation"
    last: dict[str, int] = {}
    chosen: dict[tuple[str, str], dict] = {}
    for row in table.to_pylist():
        fold = row["fold"]
        last[fold] = max(last.get(fold, 0), row["epoch"])
        # Under `validation` the test part has one row, at the selected epoch.
        if row["selected"] or row["split"] == "test" != selects:
            chosen[fold, row["split"]] = row
    found = []
    for fold, last_epoch in last.items():
        try:
            select, test = chosen[fold, selects], chosen[fold, "test"]
        except KeyError as error:
            raise ValueError(f"fold {fold}: no selected row of part {error.args[0][1]}") from None
        recalls = {name: _number(test.get(f"recall_{name}")) for name in classes}
        reported = Scores(_number(test["ua"]), _number(test["wa"]), recalls)
        found.append(
            FoldScore(fold, select["epoch"], last_epoch, _number(select[metric]), reported)
        )
    return found


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def nested_choices(trials: Mapping[int, Sequence[FoldScore]]) -> dict[str, int]:
    """For each fold, the number of the trial with the highest validation score.

    The score is that of the selected epoch. Of equals the lowest number. A trial that does not
    have a fold, or has no score (NaN) for it, is not a candidate there.
    """
    choices: dict[str, int] = {}
    highest: dict[str, float] = {}
    for number in sorted(trials):
        for score in trials[number]:
            if score.selection_score > highest.get(score.fold, -np.inf):
                highest[score.fold], choices[score.fold] = score.selection_score, number
    return choices


def nested_estimate(
    trials: Mapping[int, Sequence[FoldScore]],
    predictions: Callable[[int], pa.Table],
    classes: Sequence[Label],
) -> Nested:
    """Score each test fold by the trial and epoch that its own validation part prefers.

    trials : each trial's folds, by trial number
    predictions : the test predictions of a trial, by its number; asked for chosen trials only

    The epoch is the one that the trial selected for the fold, by the same validation part.
    Raises ValueError where there is no fold to score.
    """
    choices = nested_choices(trials)
    if not choices:
        raise ValueError("no trial has a validation score")
    by_fold = {number: {score.fold: score for score in trials[number]} for number in trials}
    folds = {fold: by_fold[number][fold] for fold, number in choices.items()}
    tables = {number: predictions(number) for number in sorted(set(choices.values()))}
    truth: list[Label] = []
    predicted: list[Label] = []
    for fold, number in choices.items():
        part = tables[number].filter(pc.equal(tables[number]["fold"], fold))
        truth += part["truth"].to_pylist()
        predicted += part["prediction"].to_pylist()
    return Nested(
        choices=choices,
        folds=folds,
        ua=fold_interval([score.test.ua for score in folds.values()]),
        wa=fold_interval([score.test.wa for score in folds.values()]),
        pooled=scores(truth, predicted, classes),
    )
