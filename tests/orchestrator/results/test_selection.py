"""Selected epochs and trials, and the nested estimate."""

import math

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.ledger.records import TrialRecord
from orchestrator.metrics import Scores, fold_interval, scores
from orchestrator.results.selection import (
    FoldScore,
    best_trial,
    fold_scores,
    nested_choices,
    nested_estimate,
)

CLASSES = ["ang", "hap", "neu", "sad"]


def score(fold: str, validation: float, test: float) -> FoldScore:
    return FoldScore(fold, 3, 5, validation, Scores(test, test, dict.fromkeys(CLASSES, test)))


def predicted(folds: dict[str, tuple[str, str]]) -> pa.Table:
    """Predictions of each fold, given as (truth, prediction) with one letter for each utterance."""
    rows = [
        {"fold": fold, "truth": t, "prediction": p}
        for fold, (truth, prediction) in folds.items()
        for t, p in zip(truth, prediction, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def test_a_nested_estimate_that_was_computed_by_hand() -> None:
    """Trial 1 has the best mean validation score (0.70), but no fold selects it."""
    trials = {
        0: [score("A", 0.80, 0.75), score("B", 0.50, 0.40)],
        1: [score("A", 0.70, 1.00), score("B", 0.70, 0.75)],
        2: [score("A", 0.40, 0.30), score("B", 0.80, 0.25)],
    }
    tables = {
        0: predicted({"A": ("aabb", "abbb"), "B": ("aabb", "bbba")}),
        1: predicted({"A": ("aabb", "aabb"), "B": ("aabb", "abbb")}),
        2: predicted({"A": ("aabb", "bbab"), "B": ("aabb", "bbba")}),
    }
    records = [
        TrialRecord(
            id=f"{number:010x}",
            number=number,
            model="iaan",
            status="complete",
            hyperparameters={},
            seed=0,
            score=float(np.mean([fold.selection_score for fold in folds])),
        )
        for number, folds in trials.items()
    ]
    best = best_trial(records)
    assert best is not None
    assert best.number == 1
    nested = nested_estimate(trials, tables.__getitem__, ["a", "b"])
    assert nested.choices == {"A": 0, "B": 2}
    assert nested.ua.value == pytest.approx((0.75 + 0.25) / 2)
    # Pooled: fold A of trial 0 (abbb) and fold B of trial 2 (bbba), so a has 1/4 and b has 3/4.
    assert nested.pooled.recalls == {"a": 0.25, "b": 0.75}
    assert nested.pooled.wa == 0.5


def test_a_tie_selects_the_lower_number_and_a_missing_score_is_never_selected() -> None:
    trials = {
        4: [score("A", 0.5, 0.1), score("B", math.nan, 0.1)],
        2: [score("A", 0.5, 0.2)],
        7: [score("A", 0.4, 0.3), score("B", 0.0, 0.3)],
    }
    assert nested_choices(trials) == {"A": 2, "B": 7}
    with pytest.raises(ValueError, match="scores of at least one fold"):
        nested_estimate({}, lambda number: pa.table({}), CLASSES)


def test_the_best_trial_has_a_score_and_the_lowest_number() -> None:
    def record(number: int, value: float | None) -> TrialRecord:
        return TrialRecord(
            id=f"{number:010x}",
            number=number,
            model="iaan",
            status="failed" if value is None else "pruned",
            hyperparameters={},
            seed=0,
            score=value,
        )

    best = best_trial([record(3, 0.5), record(1, 0.5), record(0, None), record(2, 0.4)])
    assert best is not None
    assert best.number == 1
    assert best_trial([record(0, None)]) is None


@pytest.mark.parametrize("metric", ["ua", "wa"])
@pytest.mark.parametrize("seed", range(5))
def test_the_nested_estimate_equals_plain_loops(seed: int, metric: str) -> None:
    """From tables of every epoch, as on disk, to the estimate."""
    rng = np.random.default_rng(seed)
    folds, numbers = ["A", "B", "C"], [0, 1, 2, 3]
    tables, predictions = {}, {}
    for number in numbers:
        rows = []
        for fold in folds:
            epochs = int(rng.integers(2, 6))
            # Coarse steps, so that there are ties.
            validation = rng.integers(0, 6, (epochs, 2)) / 5
            best = int(np.argmax(validation[:, int(metric == "wa")]))
            for epoch, (ua, wa) in enumerate(validation):
                row = {"fold": fold, "epoch": epoch + 1, "selected": epoch == best, "loss": 1.0}
                row |= {"ua": ua, "wa": wa} | {f"recall_{name}": ua for name in CLASSES}
                rows += [row | {"split": "train"}, row | {"split": "validation"}]
            test = {f"recall_{name}": 0.5 for name in CLASSES}
            test |= {"ua": rng.random(), "wa": rng.random(), "loss": 1.0}
            selected = {"fold": fold, "epoch": best + 1, "selected": True, "split": "test"}
            rows.append(selected | test)
        tables[number] = pa.Table.from_pylist(rows)
        predictions[number] = pa.table(
            {
                "fold": np.repeat(folds, 20),
                "truth": np.tile(rng.choice(CLASSES, 20), 3),
                "prediction": rng.choice(CLASSES, 60),
            }
        )
    trials = {n: fold_scores(tables[n], CLASSES, "validation", metric) for n in numbers}
    nested = nested_estimate(trials, predictions.__getitem__, CLASSES)

    test_ua, truth, guess = [], [], []
    for fold in folds:
        winner, highest = None, -1.0
        for number in numbers:
            for row in tables[number].to_pylist():
                candidate = row["fold"] == fold and row["split"] == "validation"
                if candidate and row[metric] > highest:
                    winner, highest = number, row[metric]
        assert nested.choices[fold] == winner
        for row in tables[winner].to_pylist():
            if row["fold"] == fold and row["split"] == "test":
                test_ua.append(row["ua"])
        for row in predictions[winner].to_pylist():
            if row["fold"] == fold:
                truth.append(row["truth"])
                guess.append(row["prediction"])
    assert nested.ua == pytest.approx(fold_interval(test_ua))
    assert nested.pooled == scores(truth, guess, CLASSES)
