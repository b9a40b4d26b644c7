"""Two sweeps on the same folds: which model is better, and whether the difference is one.

Each fold is scored by the configuration that its own validation part prefers (the nested choice),
or under `held_out`, where there is no such part, by the best one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.ledger.ledger import Ledger
from orchestrator.metrics import McNemar, TTest, corrected_resampled_t, mcnemar_exact, scores
from orchestrator.results.context import ContextCase, context_cases
from orchestrator.results.findings import Findings, gather


class ComparisonError(ValueError):
    """Two sweeps whose scores cannot be set against each other."""


@dataclass(frozen=True)
class Side:
    """What one sweep brings.

    predictions : of the test utterances of all folds, by each fold's choice
    folds : test UA of each fold
    """

    name: str
    model: str
    predictions: pa.Table
    folds: dict[str, float]
    context: list[ContextCase]
    optimistic: bool

    @property
    def ua(self) -> float:
        """Mean over folds."""
        return float(np.mean(list(self.folds.values())))


@dataclass(frozen=True)
class Comparison:
    """`second` minus `first`.

    t_test : of the folds' UA, corrected for training parts that overlap (Nadeau and Bengio 2003)
    mcnemar : over utterances, exact; None where an utterance is tested in several folds, whose
        answers are not independent
    """

    first: Side
    second: Side
    t_test: TTest
    mcnemar: McNemar | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **{name: _side(getattr(self, name)) for name in ("first", "second")},
            "difference": self.t_test._asdict(),
            "mcnemar": None if self.mcnemar is None else self.mcnemar._asdict(),
        }


def _side(side: Side) -> dict[str, Any]:
    return {
        "sweep": side.name,
        "model": side.model,
        "ua": side.ua,
        "folds": side.folds,
        "optimistic": side.optimistic,
        "context": [
            {
                "same": case.same,
                "utterances": case.utterances,
                "share": case.share,
                "ua": case.scores.ua,
                "wa": case.scores.wa,
            }
            for case in side.context
        ],
    }


def compare(first: Ledger, second: Ledger) -> Comparison:
    """Compare two sweeps. Raises ComparisonError where their test parts are not the same."""
    found = [gather(first), gather(second)]
    sides = [_gathered(*pair) for pair in zip(found, (first, second), strict=True)]
    one, two = sides
    if found[0].classes != found[1].classes:
        raise ComparisonError(
            f"{one.name} has the classes {', '.join(found[0].classes)}, and {two.name} "
            f"{', '.join(found[1].classes)}"
        )
    if one.optimistic != two.optimistic:
        late = one.name if one.optimistic else two.name
        raise ComparisonError(f"only {late} chose its epochs on the part that is reported")
    _same_tests(one, two)
    sizes = {fold["name"]: fold for fold in found[0].sweep["folds"]}
    others = {fold["name"]: fold for fold in found[1].sweep["folds"]}
    for name, fold in sizes.items():
        if fold != others[name]:
            raise ComparisonError(
                f"fold {name}: its parts have other sizes in {one.name} ({_sizes(fold)}) and in "
                f"{two.name} ({_sizes(others[name])})"
            )
    differences = [two.folds[name] - one.folds[name] for name in one.folds]
    t_test = corrected_resampled_t(
        differences,
        float(np.mean([sizes[name]["train"] for name in one.folds])),
        float(np.mean([sizes[name]["test"] for name in one.folds])),
    )
    return Comparison(one, two, t_test, _mcnemar(one.predictions, two.predictions))


def _sizes(fold: dict[str, Any]) -> str:
    return ", ".join(f"{fold[part]} {part}" for part in ("train", "validation", "test"))


def _gathered(findings: Findings, ledger: Ledger) -> Side:
    if findings.best is None:
        raise ComparisonError(f"{findings.name} has no trial with a score")
    numbers = {trial.record.number: trial.record for trial in findings.trials}
    folds = [score.fold for score in findings.best.trial.folds]
    choices = dict.fromkeys(folds, findings.best.trial.record.number)
    if findings.nested is not None:
        choices |= findings.nested.choices
    parts = []
    for fold, number in choices.items():
        table = ledger.predictions(numbers[number].id)
        parts.append(table.filter(pc.equal(table["fold"], fold)))
    scored = {}
    for fold, part in zip(choices, parts, strict=True):
        truth, guess = part["truth"].to_pylist(), part["prediction"].to_pylist()
        scored[fold] = scores(truth, guess, findings.classes).ua
    predictions = pa.concat_tables(parts)
    return Side(
        findings.name,
        findings.best.trial.record.model,
        predictions,
        scored,
        context_cases(predictions, findings.classes),
        findings.optimistic,
    )


def _same_tests(one: Side, two: Side) -> None:
    """Raise ComparisonError where a fold does not test the same utterances on both sides."""
    if one.folds.keys() != two.folds.keys():
        odd = sorted(one.folds.keys() ^ two.folds.keys())
        raise ComparisonError(f"{one.name} and {two.name} have other folds: {', '.join(odd)}")
    if len(one.folds) < 2:
        raise ComparisonError(f"{one.name} and {two.name} have one fold: a test needs two or more")
    for fold in one.folds:
        rows = [
            set(zip(part["utterance"].to_pylist(), part["truth"].to_pylist(), strict=True))
            for side in (one, two)
            for part in [side.predictions.filter(pc.equal(side.predictions["fold"], fold))]
        ]
        if odd := sorted(name for name, _ in rows[0] ^ rows[1]):
            raise ComparisonError(
                f"fold {fold}: {len(set(odd))} utterances are not tested, or not labelled, alike "
                f"in {one.name} and {two.name}; the first is {odd[0]}"
            )


def _mcnemar(one: pa.Table, two: pa.Table) -> McNemar | None:
    right = []
    for table in (one, two):
        names = table["utterance"].to_pylist()
        hits = pc.equal(table["truth"], table["prediction"]).to_pylist()
        by_name = dict(zip(names, hits, strict=True))
        if len(by_name) < len(names):
            return None
        right.append(by_name)
    return mcnemar_exact(list(right[0].values()), [right[1][name] for name in right[0]])
