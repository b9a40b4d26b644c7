"""What a search found over time, and its cost: fold-epochs, pruning, failures, seconds."""

from collections import defaultdict
from dataclasses import dataclass

from orchestrator.results.findings import Findings, Trial


@dataclass(frozen=True)
class Step:
    """A finished trial in the order of the search.

    fold_epochs : epochs of all folds, of this trial and the trials before it
    best : highest score so far; None before the first score
    """

    number: int
    fold_epochs: int
    best: float | None


@dataclass(frozen=True)
class SearchCost:
    """The search of one sweep.

    planned : number of trials that the sweep searches
    pruning_saved : estimated share of fold-epochs that pruning saved, 0..1; None if no trial was
        pruned, or if no trial is complete
    failures : reason -> numbers of the failed trials
    seconds : status -> training time of the trials, over all their folds
    """

    steps: list[Step]
    counts: dict[str, int]
    planned: int
    fold_epochs: int
    pruning_saved: float | None
    failures: dict[str, list[int]]
    seconds: dict[str, float]


def fold_epochs(trial: Trial, folds: int) -> int:
    """Epochs of all folds. Of a failed trial only its curve is known, so each fold counts it whole.

    folds : number of folds
    """
    if trial.folds:
        return sum(fold.last_epoch for fold in trial.folds)
    return trial.record.epochs * folds


def search_cost(findings: Findings) -> SearchCost:
    """The cost of a search, from its finished trials.

    Without pruning, a pruned trial would have trained as long as a complete trial does on average.
    Its saving is the difference. This is an estimate: nobody knows when the trial would have ended.
    """
    folds = len(findings.sweep.folds)
    steps: list[Step] = []
    spent, best = 0, None
    by_status: dict[str, list[int]] = defaultdict(list)
    failures: dict[str, list[int]] = defaultdict(list)
    for trial in findings.trials:
        record, cost = trial.record, fold_epochs(trial, folds)
        spent += cost
        by_status[record.status].append(cost)
        if record.score is not None and (best is None or record.score > best):
            best = record.score
        steps.append(Step(record.number, spent, best))
        if record.status == "failed":
            failures[record.reason or "no reason recorded"].append(record.number)
    saved = None
    if by_status["pruned"] and by_status["complete"]:
        whole = sum(by_status["complete"]) / len(by_status["complete"])
        avoided = sum(max(0.0, whole - cost) for cost in by_status["pruned"])
        saved = avoided / (avoided + spent) if avoided + spent else None
    seconds = dict.fromkeys(("complete", "pruned", "failed"), 0.0)
    for trial in findings.trials:
        seconds[trial.record.status] += trial.record.seconds
    return SearchCost(
        steps, findings.counts, findings.sweep.trials, spent, saved, dict(failures), seconds
    )
