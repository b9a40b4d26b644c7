"""Compares several sweeps on the same corpus and folds: which model is ahead, and is it really?

A model's score is its nested estimate: each test fold is scored with the configuration that is best
on the fold's own validation part. With `held_out` there is no validation part, so the best
configuration scores all folds, and all scores are optimistic.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator import metrics
from orchestrator.errors import ComparisonError
from orchestrator.ledger.records import SweepRecord
from orchestrator.metrics import Bootstrap, Interval, McNemar, Scores, TTest, fold_interval, holm
from orchestrator.results import selection
from orchestrator.results.comparison import (
    Side,
    agreement,
    check_comparable,
    difference,
    side_of,
)
from orchestrator.results.findings import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, Findings
from orchestrator.results.opened import OpenedSweep
from orchestrator.results.seeds import Seeds, seed_spread

LEVEL = 0.05
"""A difference counts if its p-value, corrected by Holm, is below this level."""


@dataclass(frozen=True)
class Scored:
    """The scores of a sweep, with the configuration of each fold.

    pooled : over all test utterances, with intervals over speakers
    ua, wa : mean over folds, with t intervals
    confusion : counts pooled over folds, (class, class); a row is a true class
    by_speaker : number of test utterances, and scores
    """

    side: Side
    pooled: Bootstrap
    ua: Interval
    wa: Interval
    confusion: NDArray[np.int64]
    by_speaker: dict[str, tuple[int, Scores]]

    @property
    def headline(self) -> Interval:
        """UA, mean over folds; with a single fold pooled, because only this has an interval."""
        return self.ua if len(self.side.folds) > 1 else self.pooled.ua


@dataclass(frozen=True)
class Entry:
    """One sweep of a study.

    label : the sweep's name, unique in the study
    scored : None if no trial has a score
    """

    label: str
    sweep: OpenedSweep
    scored: Scored | None

    @property
    def record(self) -> SweepRecord:
        """The sweep's record."""
        return self.sweep.record

    @property
    def findings(self) -> Findings:
        """Everything that the sweep's own report says."""
        return self.sweep.findings

    @property
    def score(self) -> Scored:
        """The scores. Raises ValueError if no trial has a score."""
        if self.scored is None:
            raise ValueError(f"{self.label} has no score")
        return self.scored


@dataclass(frozen=True)
class Pair:
    """The UA of `first` minus that of `second`; `first` has the higher rank.

    t_test : None with a single fold
    t_holm : its p-value, corrected over all pairs
    mcnemar, mcnemar_holm : None if several folds test the same utterance
    """

    first: str
    second: str
    t_test: TTest | None
    t_holm: float | None
    mcnemar: McNemar | None
    mcnemar_holm: float | None

    @property
    def p_value(self) -> float | None:
        """The corrected p-value that decides: of the t-test, or McNemar's with a single fold."""
        return self.mcnemar_holm if self.t_test is None else self.t_holm

    @property
    def differs(self) -> bool:
        """Whether the difference is significant."""
        return self.p_value is not None and self.p_value < LEVEL


@dataclass(frozen=True)
class AcrossModels:
    """The nested estimate if the model is selected too.

    choices : fold -> label of the sweep, and number of the trial, with the best validation score
    pooled : over all test utterances, with intervals over speakers
    ua, wa : mean over folds, with t intervals
    """

    choices: dict[str, tuple[str, int]]
    pooled: Bootstrap
    ua: Interval
    wa: Interval


@dataclass(frozen=True)
class Study:
    """Several sweeps and their comparison.

    entries : in the given order
    pairs : all pairs of entries with a score, in the order of the ranking
    across_reason : why `across` is None, else empty
    seeds : label -> spread over seeds, with the seed of the search
    """

    name: str
    entries: list[Entry]
    pairs: list[Pair]
    across: AcrossModels | None
    across_reason: str
    seeds: dict[str, Seeds]

    @property
    def record(self) -> SweepRecord:
        """The first sweep's record. Corpus, classes and folds are the same in all."""
        return self.entries[0].record

    @cached_property
    def ranking(self) -> list[Entry]:
        """The entries with a score, the highest UA (mean over folds) first."""
        return _ranking(self.entries)

    @cached_property
    def speakers(self) -> list[str]:
        """The test speakers, whom all entries with a score have."""
        names = [entry.score.by_speaker for entry in self.ranking]
        return [name for name in (names[0] if names else {}) if all(name in n for n in names)]

    def pair(self, first: str, second: str) -> Pair:
        """The pair of two labels, in the order of the ranking."""
        return next(each for each in self.pairs if (each.first, each.second) == (first, second))

    @cached_property
    def groups(self) -> list[list[str]]:
        """Neighbours in the ranking of which no two differ significantly; two labels or more.

        As in the critical difference diagrams of Demšar 2006 (Statistical Comparisons of
        Classifiers over Multiple Data Sets, section 3.2.4): no group is part of another.
        """
        labels = [entry.label for entry in self.ranking]
        found: list[list[str]] = []
        reached = 0
        for start in range(len(labels)):
            end = start + 1
            while end < len(labels) and not any(
                self.pair(label, labels[end]).differs for label in labels[start:end]
            ):
                end += 1
            if end - start > 1 and end > reached:
                found.append(labels[start:end])
                reached = end
        return found


def study(
    name: str, sweeps: Sequence[OpenedSweep], seeds: Mapping[str, Sequence[OpenedSweep]] = {}
) -> Study:
    """Compare sweeps.

    seeds : name of a sweep -> sweeps of its best configuration with other seeds

    Raises ComparisonError if a sweep occurs twice, or if corpora, classes or folds differ.
    """
    if not sweeps:
        raise ComparisonError("a study needs a sweep: give at least one")
    _check_once(sweeps)
    for other in sweeps[1:]:
        _check_same_folds(sweeps[0], other)
    entries = [
        Entry(label, sweep, _scored(sweep))
        for label, sweep in zip(_labels(sweeps), sweeps, strict=True)
    ]
    ranked = _ranking(entries)
    for entry in ranked[1:]:
        check_comparable(ranked[0].score.side, entry.score.side)
    across, reason = _across(ranked)
    return Study(name, entries, _pairs(ranked), across, reason, _all_seeds(entries, seeds))


def _ranking(entries: Sequence[Entry]) -> list[Entry]:
    return sorted((e for e in entries if e.scored is not None), key=lambda e: -e.score.ua.value)


def _check_once(sweeps: Sequence[OpenedSweep]) -> None:
    seen: dict[tuple[str, ...], OpenedSweep] = {}
    for sweep in sweeps:
        for key in ((sweep.ledger.storage.root,), (sweep.name, sweep.record.created)):
            if key in seen:
                where = f"{seen[key].ledger.storage.root} and {sweep.ledger.storage.root}"
                raise ComparisonError(
                    f"the sweep {sweep.name} is given twice ({where}). Name each sweep once"
                )
            seen[key] = sweep


def _labels(sweeps: Sequence[OpenedSweep]) -> list[str]:
    """The names; two sweeps of one name get the place of their folder too."""
    names = [sweep.name for sweep in sweeps]
    return [
        sweep.name
        if names.count(sweep.name) == 1
        else f"{sweep.name} ({sweep.ledger.storage.root})"
        for sweep in sweeps
    ]


def _check_same_folds(first: OpenedSweep, second: OpenedSweep) -> None:
    """Raise ComparisonError for the first difference. Sweeps without a score are checked too."""
    one, two = first.record, second.record
    remedy = "Compare sweeps of the same corpus and folds, and leave the others out"

    def refuse(what: str, left: object, right: object) -> None:
        if left != right:
            raise ComparisonError(
                f"{what}: {left} in {first.name}, but {right} in {second.name}. {remedy}"
            )

    refuse("corpus", one.corpus.corpus, two.corpus.corpus)
    refuse("classes", ", ".join(one.classes), ", ".join(two.classes))
    for key in ("only", "merge"):
        refuse(f"corpus.{key}", *(each.configuration["corpus"].get(key) for each in (one, two)))
    folds = [each.configuration["folds"] for each in (one, two)]
    for key in dict.fromkeys(itertools.chain(*folds)):
        refuse(f"folds.{key}", *(each.get(key) for each in folds))
    refuse("number of folds", len(one.folds), len(two.folds))
    for left, right in zip(one.folds, two.folds, strict=True):
        sizes = (
            f"{fold.train}, {fold.validation} and {fold.test} utterances" for fold in (left, right)
        )
        refuse("name of a fold", left.name, right.name)
        refuse(f"train, validation and test part of fold {left.name}", *sizes)


def _scored(sweep: OpenedSweep) -> Scored | None:
    if sweep.findings.best is None:
        return None
    side, classes = side_of(sweep.findings, sweep.ledger), sweep.record.classes
    parts = _by(side.predictions, "fold", classes)
    truth, guess = side.predictions["truth"], side.predictions["prediction"]
    return Scored(
        side,
        _bootstrap(side.predictions, classes),
        fold_interval([scores.ua for _, scores in parts.values()]),
        fold_interval([scores.wa for _, scores in parts.values()]),
        metrics.confusion(truth, guess, classes),
        _by(side.predictions, "speaker", classes),
    )


def _bootstrap(predictions: pa.Table, classes: list[str]) -> Bootstrap:
    truth, guess, speakers = (
        predictions[name].to_pylist() for name in ("truth", "prediction", "speaker")
    )
    return metrics.speaker_bootstrap(
        truth, guess, speakers, classes, BOOTSTRAP_SEED, BOOTSTRAP_SAMPLES
    )


def _by(
    predictions: pa.Table, column: str, classes: list[str]
) -> dict[str, tuple[int, metrics.Scores]]:
    """Number of utterances and scores for each value of a column, in natural order of rows."""
    names = ("truth", "prediction", column)
    rows: dict[str, tuple[list[str], list[str]]] = {}
    for truth, guess, value in zip(*(predictions[n].to_pylist() for n in names), strict=True):
        of_value = rows.setdefault(value, ([], []))
        of_value[0].append(truth)
        of_value[1].append(guess)
    return {
        value: (len(truth), metrics.scores(truth, guess, classes))
        for value, (truth, guess) in rows.items()
    }


def _pairs(ranked: list[Entry]) -> list[Pair]:
    pairs = []
    for better, worse in itertools.combinations(ranked, 2):
        left, right = better.score.side, worse.score.side
        t_test = difference(right, left) if len(left.folds) > 1 else None
        pairs.append((better.label, worse.label, t_test, agreement(left, right)))
    t_holm = iter(holm([test.p_value for *_, test, _ in pairs if test is not None]))
    m_holm = iter(holm([found.p_value for *_, found in pairs if found is not None]))
    return [
        Pair(
            first,
            second,
            t_test,
            None if t_test is None else next(t_holm),
            mcnemar,
            None if mcnemar is None else next(m_holm),
        )
        for first, second, t_test, mcnemar in pairs
    ]


def _across(ranked: list[Entry]) -> tuple[AcrossModels | None, str]:
    """Select model and configuration for each fold on its validation part, over all sweeps.

    If validation scores tie, the model with the higher rank wins, then the lower trial number.
    """
    if not ranked:
        return None, "No sweep has a score."
    if ranked[0].record.optimistic:
        return None, (
            "The epoch was selected on the test part, so there is no validation part on which "
            "each fold could select its own model and configuration."
        )
    if len({entry.record.metric for entry in ranked}) > 1:
        return None, "The sweeps select by different scores (training.metric: ua and wa)."
    candidates = [
        (entry, trial) for entry in ranked for trial in entry.findings.trials if trial.folds
    ]
    folds = {number: trial.folds for number, (_, trial) in enumerate(candidates)}
    chosen = selection.nested_choices(folds)

    def predictions(number: int) -> pa.Table:
        entry, trial = candidates[number]
        table = entry.sweep.ledger.predictions(trial.record.id)
        return table.select(["fold", "truth", "prediction", "speaker"])

    parts = selection.chosen_predictions(chosen, predictions)
    classes = ranked[0].record.classes
    table = pa.concat_tables(parts.values())
    by_fold = _by(table, "fold", classes)
    choices = {
        fold: (candidates[number][0].label, candidates[number][1].record.number)
        for fold, number in chosen.items()
    }
    return AcrossModels(
        choices,
        _bootstrap(table, classes),
        fold_interval([scores.ua for _, scores in by_fold.values()]),
        fold_interval([scores.wa for _, scores in by_fold.values()]),
    ), ""


def _all_seeds(
    entries: Sequence[Entry], seeds: Mapping[str, Sequence[OpenedSweep]]
) -> dict[str, Seeds]:
    labels = {entry.sweep.name: entry for entry in entries}
    if unknown := sorted(seeds.keys() - labels.keys()):
        raise ComparisonError(
            f"seeds: {unknown[0]} is not a sweep of the study (its sweeps: {', '.join(labels)})"
        )
    found = {}
    for name, others in seeds.items():
        for other in others:
            _check_same_folds(labels[name].sweep, other)
        if others and (spread := seed_spread(labels[name].sweep, others)):
            found[labels[name].label] = spread
    return found
