"""Compares two sweeps on the same folds: which model is better, and is the difference significant?

Each fold is scored with the configuration that is best on its own validation part (the nested
selection). With `held_out` there is no validation part, so the best configuration scores all folds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.errors import ComparisonError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import FoldSizes, SweepRecord
from orchestrator.metrics import McNemar, TTest, corrected_resampled_t, mcnemar_exact, scores
from orchestrator.results.context import ContextCase, context_cases
from orchestrator.results.findings import Findings, gather
from orchestrator.results.selection import chosen_predictions
from orchestrator.results.summary import plain


@dataclass(frozen=True)
class Side:
    """One of the two sweeps.

    predictions : for the test utterances of all folds, by the configuration of each fold
    folds : test UA of each fold
    """

    name: str
    model: str
    predictions: pa.Table
    folds: dict[str, float]
    context: list[ContextCase]
    record: SweepRecord

    @property
    def optimistic(self) -> bool:
        """Whether the epochs were selected on the reported part."""
        return self.record.optimistic

    @property
    def sizes(self) -> dict[str, FoldSizes]:
        """The sizes of the parts of each fold."""
        return {fold.name: fold for fold in self.record.folds}

    @property
    def ua(self) -> float:
        """Test UA, mean over folds."""
        return float(np.mean(list(self.folds.values())))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "sweep": self.name,
            "model": self.model,
            "ua": self.ua,
            "folds": self.folds,
            "optimistic": self.optimistic,
            "context": plain(self.context),
        }


@dataclass(frozen=True)
class Comparison:
    """`second` minus `first`.

    t_test : of the UA of the folds, corrected for overlapping training parts (Nadeau and Bengio
        2003)
    mcnemar : over utterances, exact; None if several folds test the same utterance, because the
        answers are then not independent
    """

    first: Side
    second: Side
    t_test: TTest
    mcnemar: McNemar | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "first": self.first.as_dict(),
            "second": self.second.as_dict(),
            "difference": plain(self.t_test),
            "mcnemar": None if self.mcnemar is None else self.mcnemar._asdict(),
        }


def compare(first: Ledger, second: Ledger) -> Comparison:
    """Compare two sweeps.

    Raises ComparisonError if their classes, test parts or selections differ, or if a sweep has no
    score.
    """
    findings = [gather(first), gather(second)]
    left, right = (side_of(*pair) for pair in zip(findings, (first, second), strict=True))
    check_comparable(left, right)
    if len(left.folds) < 2:
        both = f"{left.name} and {right.name}"
        raise ComparisonError(f"{both} have a single fold, but the test needs two or more")
    return Comparison(left, right, difference(left, right), agreement(left, right))


def check_comparable(left: Side, right: Side) -> None:
    """Raise ComparisonError if the classes, test parts, sizes or selections differ."""
    if left.record.classes != right.record.classes:
        listed = " and ".join(
            f"{side.name} has {', '.join(side.record.classes)}" for side in (left, right)
        )
        raise ComparisonError(f"the sweeps have different classes: {listed}")
    if left.optimistic != right.optimistic:
        optimistic = left.name if left.optimistic else right.name
        raise ComparisonError(
            f"only {optimistic} selected its epochs on the test part (folds.selection: held_out)"
        )
    _check_tests(left, right)
    for name in left.folds:
        if left.sizes[name] != right.sizes[name]:
            raise ComparisonError(
                f"fold {name}: the parts have different sizes in {left.name} "
                f"({_sizes(left.sizes[name])}) and in {right.name} ({_sizes(right.sizes[name])})"
            )


def difference(left: Side, right: Side) -> TTest:
    """The corrected resampled t-test of the UA of two folds or more, `right` minus `left`."""
    return corrected_resampled_t(
        [right.folds[name] - left.folds[name] for name in left.folds],
        float(np.mean([left.sizes[name].train for name in left.folds])),
        float(np.mean([left.sizes[name].test for name in left.folds])),
    )


def _sizes(fold: FoldSizes) -> str:
    return f"{fold.train} train, {fold.validation} validation, {fold.test} test"


def side_of(findings: Findings, ledger: Ledger) -> Side:
    """A sweep with the configuration of each fold. Raises ComparisonError without a score."""
    sweep = findings.sweep
    if findings.best is None:
        raise ComparisonError(f"{sweep.name} has no trial with a score")
    ids = {trial.record.number: trial.record.id for trial in findings.trials}
    best = findings.best.trial
    choices = {score.fold: best.record.number for score in best.folds}
    if findings.nested is not None:
        choices |= findings.nested.choices
    parts = chosen_predictions(choices, lambda number: ledger.predictions(ids[number]))
    folds = {
        fold: scores(part["truth"], part["prediction"], sweep.classes).ua
        for fold, part in parts.items()
    }
    predictions = pa.concat_tables(parts.values())
    cases = context_cases(predictions, sweep.classes)
    return Side(sweep.name, best.record.model, predictions, folds, cases, sweep)


def _check_tests(left: Side, right: Side) -> None:
    """Raise ComparisonError if a fold does not test the same utterances on both sides."""
    both = f"{left.name} and {right.name}"
    if left.folds.keys() != right.folds.keys():
        odd = sorted(left.folds.keys() ^ right.folds.keys())
        raise ComparisonError(f"{both} have different folds: only one has {', '.join(odd)}")
    columns = ("fold", "utterance", "truth")
    first, second = (
        set(zip(*(side.predictions[name].to_pylist() for name in columns), strict=True))
        for side in (left, right)
    )
    for fold in left.folds:
        if odd := sorted({name for where, name, _ in first ^ second if where == fold}):
            raise ComparisonError(
                f"fold {fold}: {len(odd)} utterances are in only one of the two test parts, or "
                f"have different labels, in {both}; the first is {odd[0]}"
            )


def agreement(left: Side, right: Side) -> McNemar | None:
    """McNemar's test; None if several folds test the same utterance."""
    if len(pc.unique(left.predictions["utterance"])) < len(left.predictions):
        return None
    ordered = (side.predictions.sort_by("utterance") for side in (left, right))
    return mcnemar_exact(*(pc.equal(table["truth"], table["prediction"]) for table in ordered))
