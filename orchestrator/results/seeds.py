"""The spread of a configuration's score over training seeds, apart from its spread over folds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.errors import ComparisonError
from orchestrator.metrics import Interval, fold_interval
from orchestrator.results.opened import OpenedSweep


@dataclass(frozen=True)
class Seeds:
    """One configuration, trained again with other seeds.

    ua : training seed -> test UA, mean over folds
    own : the seed of the search, which selected the configuration; its score can be optimistic
    folds : fold -> test UA, mean over seeds
    over_seeds : mean over seeds with a t interval
    deviation_seeds : standard deviation of `ua`; NaN for one seed
    deviation_folds : standard deviation over folds, of the means over seeds; NaN for one fold
    """

    ua: dict[int, float]
    own: int
    folds: dict[str, float]
    over_seeds: Interval
    deviation_seeds: float
    deviation_folds: float


def seed_spread(sweep: OpenedSweep, others: Sequence[OpenedSweep]) -> Seeds | None:
    """The spread of the best configuration of `sweep` over seeds; None if no trial has a score.

    others : sweeps that trained this configuration again, with other seeds

    Raises ComparisonError if two sweeps have the same seed.
    """
    if sweep.findings.best is None:
        return None
    ua: dict[int, float] = {}
    by_fold: dict[str, list[float]] = {}
    for each in (sweep, *others):
        best = each.findings.best
        if best is None:
            continue
        seed = best.trial.record.seed
        if seed in ua:
            raise ComparisonError(
                f"seeds: two sweeps have the training seed {seed}, the second is {each.name}. "
                f"Give each seed once"
            )
        ua[seed] = best.trial.ua.value
        for fold in best.trial.folds:
            by_fold.setdefault(fold.fold, []).append(fold.test.ua)
    folds = {fold: float(np.mean(values)) for fold, values in by_fold.items()}
    return Seeds(
        ua,
        sweep.findings.best.trial.record.seed,
        folds,
        fold_interval(list(ua.values())),
        _deviation(list(ua.values())),
        _deviation(list(folds.values())),
    )


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
