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
    over_seeds : mean over seeds with a t interval
    deviation_seeds : standard deviation of `ua`; NaN for one seed
    deviation_folds : standard deviation over folds, of the means over seeds; NaN for one fold
    """

    ua: dict[int, float]
    folds: dict[str, float]
    over_seeds: Interval
    deviation_seeds: float
    deviation_folds: float


def seed_spread(sweeps: Sequence[OpenedSweep]) -> Seeds | None:
    """The spread of the best trials of sweeps that differ in the seed; None without a score.

    Raises ComparisonError if two sweeps have the same seed.
    """
    ua: dict[int, float] = {}
    by_fold: dict[str, list[float]] = {}
    for sweep in sweeps:
        best = sweep.findings.best
        if best is None:
            continue
        seed = best.trial.record.seed
        if seed in ua:
            raise ComparisonError(
                f"seeds: two sweeps have the training seed {seed}, the second is {sweep.name}. "
                f"Give each seed once"
            )
        ua[seed] = best.trial.ua.value
        for fold in best.trial.folds:
            by_fold.setdefault(fold.fold, []).append(fold.test.ua)
    if not ua:
        return None
    folds = {fold: float(np.mean(values)) for fold, values in by_fold.items()}
    return Seeds(
        ua,
        folds,
        fold_interval(list(ua.values())),
        _deviation(list(ua.values())),
        _deviation(list(folds.values())),
    )


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
