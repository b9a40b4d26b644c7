"""Compare rules that stop trials early, by replay on recorded curves.

    python benchmarks/search_rules.py [TABLE] [--searches 100] [--trials 40] [--slots 4]

A search draws `--trials` of the recorded configurations in random order. Trial n uses the results
of trials 0 to n - slots, as a sweep does. A fold ends by the patience of its corpus's example. The
full search trains every fold to this end, and all rules are compared with it on the same draws.
The chosen configuration has the highest recorded score, as in a sweep. Prints a Markdown table:

    fold-epochs   percentage of the fold-epochs of the full search
    UA lost       validation UA, in points, of the best configuration of the full search, minus that
                  of the chosen one if it trains to its end
    within SE     share of searches whose loss is at most the standard error over folds of the
                  paired difference (in brackets: of the score of the best configuration)
    test UA lost  the same loss on the test parts. Negative: the chosen configuration is better

Values are means over the searches, with the 5th and the 95th percentile in brackets. Medians would
hide losses, because most are zero.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from curves import TABLE, Array, Curves, Indices, read

from orchestrator.sweep.pruning import cutoffs, why_pruned
from orchestrator.training.seeds import derived_seed

GRACE, FACTOR = 4, 3

Rule = Callable[[Curves, Indices, int], Indices]
"""(curves, order of arrival, slots) -> (trials, folds) epochs that the rule trains each fold."""


def rungs(epochs: int, grace: int = GRACE, factor: int = FACTOR) -> list[int]:
    """Return grace, grace * factor, … below `epochs`."""
    values, rung = [], grace
    while rung < epochs:
        values.append(rung)
        rung *= factor
    return values


def full(curves: Curves, order: Indices, slots: int) -> Indices:
    """Train every trial to its end."""
    return np.full((len(order), curves.folds), curves.epochs)


def asha(
    curves: Curves, order: Indices, slots: int, grace: int = GRACE, factor: int = FACTOR
) -> Indices:
    """The scheduler `asha` of a sweep: cutoffs for the mean over folds, at rungs."""
    ends = curves.ends[order].max(axis=1)
    stops = _asha(curves.mean[:, -1, order].T, ends, slots, grace, factor)
    return np.repeat(stops[:, None], curves.folds, axis=1)


def asha_one_fold(curves: Curves, order: Indices, slots: int) -> Indices:
    """ASHA on the first fold. The other folds of a trial that it does not prune train to the end.

    A pruned trial has the score of one fold, so it cannot be chosen.
    """
    stops = _asha(curves.best[order, 0], curves.ends[order, 0], slots)
    trained = np.zeros((len(order), curves.folds), dtype=np.int64)
    trained[stops == curves.epochs] = curves.epochs
    trained[:, 0] = stops
    return trained


def _asha(
    scores: Array, ends: Indices, slots: int, grace: int = GRACE, factor: int = FACTOR
) -> Indices:
    """Return the epochs of each trial by (trials, epochs) scores: all if it is not pruned."""
    count = scores.shape[1]
    finished: list[tuple[list[float], bool]] = []
    stops = np.full(len(scores), count)
    for number, (curve, end) in enumerate(zip(scores.tolist(), ends.tolist(), strict=True)):
        known = finished[: max(0, number - slots + 1)]
        limits = cutoffs(known, rungs(count, grace, factor), factor)
        for rung in limits:
            if rung <= end and why_pruned(curve[:rung], limits):
                stops[number] = rung
                break
        finished.append((curve[: min(int(stops[number]), end)], bool(stops[number] < count)))
    return stops


def median_stopping(curves: Curves, order: Indices, slots: int) -> Indices:
    """Stop a trial whose best score is below the median of the others' running averages.

    Source: Golovin et al. 2017, "Google Vizier", section 3.2.1. Ours: compared are all earlier
    trials that reached the epoch, at least three, and no trial stops before epoch GRACE.
    """
    best, latest = curves.mean[:, -1, order], curves.latest[order].mean(axis=1).T
    averages = np.cumsum(latest, axis=0) / np.arange(1, curves.epochs + 1)[:, None]
    stops = np.full(len(order), curves.epochs)
    for number in range(slots - 1, len(order)):
        before = stops[: number - slots + 1]
        for epoch in range(GRACE, curves.epochs):
            others = averages[epoch - 1, : len(before)][before >= epoch]
            if len(others) >= 3 and best[epoch - 1, number] < np.median(others):
                stops[number] = epoch
                break
    return np.repeat(stops[:, None], curves.folds, axis=1)


def successive_halving(curves: Curves, order: Indices, slots: int) -> Indices:
    """All trials train to the first rung, the best third of them to the second, and so on."""
    return _brackets(curves, order, [(np.arange(len(order)), 0)])


def hyperband(curves: Curves, order: Indices, slots: int) -> Indices:
    """Brackets of successive halving that start at different rungs, in turn.

    Source: Li et al. 2018, "Hyperband", algorithm 1.
    """
    last = len(rungs(curves.epochs))
    brackets, begin = [], 0
    while begin < len(order):
        for start in range(last + 1):
            depth = last - start
            size = int(np.ceil((last + 1) / (depth + 1) * FACTOR**depth))
            brackets.append((np.arange(begin, min(begin + size, len(order))), start))
            begin += size
    return _brackets(curves, order, brackets)


def _brackets(curves: Curves, order: Indices, brackets: list[tuple[Indices, int]]) -> Indices:
    """Return the epochs of brackets: the trials of each, and the rung at which it starts."""
    scores = curves.mean[:, -1, order]
    trained = full(curves, order, 1)
    for members, start in brackets:
        left = members
        for rung in rungs(curves.epochs)[start:]:
            ranked = left[np.argsort(-scores[rung - 1, left], kind="stable")]
            kept = max(1, len(left) // FACTOR)
            trained[ranked[kept:]] = rung
            left = ranked[:kept]
    return trained


Stage = tuple[int, int]
"""The first so many folds, trained to so many epochs: then a trial is compared."""


def together(folds: int, epochs: int, first: int) -> list[Stage]:
    """Return stages of all folds: every epoch from `first` on."""
    return [(folds, epoch) for epoch in range(first, epochs)]


def one_by_one(folds: int, epochs: int, first: int) -> list[Stage]:
    """Return stages that add folds one by one at epoch `first`, then continue with all folds."""
    return [(fold, first) for fold in range(1, folds)] + together(folds, epochs, first)


def paired(
    curves: Curves,
    order: Indices,
    slots: int,
    stages: Callable[[int, int, int], list[Stage]],
    first: int,
    errors: float,
) -> Indices:
    """Stop a trial whose paired difference to the best trial at the same epoch says it is behind.

    The best trial has the highest mean over all folds at this epoch. The trial stops if the mean
    difference over its folds is below minus `errors` standard errors. The variance of differences
    between folds is pooled over all earlier trials that trained all folds to this epoch. If there
    is only one, the variance between its folds takes its place, which is larger.
    """
    folds = curves.folds
    trained = np.zeros((len(order), folds), dtype=np.int64)
    plan = stages(folds, curves.epochs, first)
    for number, own in enumerate(order):
        before = max(0, number - slots + 1)
        reach = trained[:before].min(axis=1)
        end = curves.ends[own].max()
        for count, epoch in plan:
            if epoch > end:  # the trial has ended by itself
                continue
            trained[number, :count] = epoch
            whole = order[:before][reach >= epoch]
            if not len(whole):
                continue
            mean = curves.mean[epoch - 1]
            reference = whole[mean[-1, whole].argmax()]
            squares = curves.squares[epoch - 1]
            spread = squares[-1, reference, whole].sum() / (folds - 1)
            if len(whole) > 1:
                spread /= len(whole) - 1
            else:
                spread = curves.best[reference, :, epoch - 1].var(ddof=1)
            difference = mean[count - 1, own] - mean[count - 1, reference]
            if difference < -errors * (spread / count) ** 0.5:
                break
        else:
            trained[number] = curves.epochs
    return trained


RULES: dict[str, Rule] = {
    "full search": full,
    **{
        f"ASHA on the fold mean (`asha`), from epoch {grace}": partial(asha, grace=grace)
        for grace in (GRACE, 2, 1)
    },
    "ASHA on one fold": asha_one_fold,
    "median stopping": median_stopping,
    "successive halving": successive_halving,
    "Hyperband": hyperband,
    **{
        f"paired (`paired`), {errors} SE, from epoch {first}": partial(
            paired, stages=together, first=first, errors=errors
        )
        for first, errors in ((GRACE, 1), (2, 1), (1, 1), (1, 2))
    },
    **{
        f"paired, folds one by one, {errors} SE, from epoch {first}": partial(
            paired, stages=one_by_one, first=first, errors=errors
        )
        for first, errors in ((GRACE, 1), (1, 1))
    },
}


@dataclass(frozen=True)
class Outcome:
    """What a search spent and lost, as the columns of the table."""

    share: float
    lost: float
    within_paired: bool
    within_own: bool
    test_lost: float


def outcome(curves: Curves, order: Indices, trained: Indices) -> Outcome:
    """Compare a search with the full search of the same trials."""
    reached = curves.best[order[:, None], np.arange(curves.folds), np.maximum(trained, 1) - 1]
    scores = np.where((trained == 0).any(axis=1), -np.inf, reached.mean(axis=1))
    final = curves.best[order, :, -1]
    chosen, best = scores.argmax(), final.mean(axis=1).argmax()
    difference = final[best] - final[chosen]
    lost = float(difference.mean())
    paired_error, own_error = (
        float(values.std(ddof=1) / np.sqrt(len(values))) for values in (difference, final[best])
    )
    ends, test = curves.ends[order], curves.test[order]
    return Outcome(
        share=float(np.minimum(trained, ends).sum() / ends.sum()),
        lost=lost,
        within_paired=lost <= paired_error,
        within_own=lost <= own_error,
        test_lost=float((test[best] - test[chosen]).mean()),
    )


def searches(curves: Curves, rule: Rule, count: int, trials: int, slots: int) -> list[Outcome]:
    """Return the outcomes of `count` searches. Search i has the same trials with every rule."""
    outcomes = []
    for number in range(count):
        random = np.random.default_rng(derived_seed("search rules", number))
        order = random.permutation(len(curves.ends))[:trials]
        outcomes.append(outcome(curves, order, rule(curves, order, slots)))
    return outcomes


def row(name: str, outcomes: list[Outcome]) -> str:
    """Return a row of the table."""

    def mean(values: list[float], digits: int) -> str:
        low, high = np.percentile(values, [5, 95])
        return f"{np.mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    paired_share, own_share = (
        np.mean([getattr(each, f"within_{which}") for each in outcomes])
        for which in ("paired", "own")
    )
    cells = (
        name,
        mean([100 * each.share for each in outcomes], 0),
        mean([100 * each.lost for each in outcomes], 2),
        f"{100 * paired_share:.0f} ({100 * own_share:.0f})",
        mean([100 * each.test_lost for each in outcomes], 2),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", default=TABLE)
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--no-patience", action="store_true", help="folds train all epochs")
    options = parser.parse_args()
    for case, curves in read(options.table, not options.no_patience).items():
        count, folds, epochs = curves.best.shape
        chosen = f"{options.trials} of {count} configurations"
        print(
            f"\n| {case}: {chosen}, {folds} folds, at most {epochs} epochs | fold-epochs, % |",
            end="",
        )
        print(" UA lost, points | within SE, % | test UA lost, points |")
        print("|---|---|---|---|---|")
        for name, rule in RULES.items():
            found = searches(curves, rule, options.searches, options.trials, options.slots)
            print(row(name, found), flush=True)


if __name__ == "__main__":
    main()
