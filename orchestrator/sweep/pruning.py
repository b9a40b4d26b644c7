"""When a trial is pruned: cutoffs by epoch, and the test of a trial's curve against them."""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestrator.config.sections import SearchConfig


def rungs(search: SearchConfig, epochs: int) -> list[int]:
    """Epochs at which trials are compared: grace, grace * factor, … below `epochs`."""
    epochs_of_rungs, rung = [], search.grace_epochs
    while search.scheduler == "asha" and rung < epochs:
        epochs_of_rungs.append(rung)
        rung *= search.reduction_factor
    return epochs_of_rungs


class Asha:
    """ASHA's rule: a trial passes a rung if it is among the best 1 in `factor` that reached it.

    Finished trials are added one by one, so that the cost of a further one does not grow.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", in the stopping
    form. Ours: the compared set is fixed when the trial starts.
    """

    def __init__(self, rungs: Iterable[int], factor: int) -> None:
        self.reached: dict[int, list[float]] = {rung: [] for rung in rungs}
        self.factor = factor

    def add(self, curve: list[float], pruned: bool) -> None:
        """Add a trial. The curve of a trial that was not pruned continues with its last score."""
        for rung, scores in self.reached.items():
            if curve and (len(curve) >= rung or not pruned):
                scores.append(curve[min(rung, len(curve)) - 1])

    def cutoffs(self) -> dict[int, float]:
        """Epoch -> score below which a trial is pruned; no rung that no trial has reached."""
        percentile = (1 - 1 / self.factor) * 100
        return {
            rung: float(np.percentile(scores, percentile))
            for rung, scores in self.reached.items()
            if scores
        }


def cutoffs(
    finished: list[tuple[list[float], bool]], rungs: list[int], factor: int
) -> dict[int, float]:
    """The cutoffs of `Asha` from the (curve, pruned) of each trial to compare with."""
    rule = Asha(rungs, factor)
    for curve, pruned in finished:
        rule.add(curve, pruned)
    return rule.cutoffs()


def fold_curves(folds: pa.Table, part: str, metric: str) -> NDArray[np.float64]:
    """(folds, epochs) the best score so far of each fold; constant after the fold has ended.

    folds : `folds.parquet` of a finished trial
    part : the part that selects the epoch, `validation` or `test`
    metric : `ua` or `wa`
    """
    rows = folds.filter(pc.equal(folds["split"], part))
    curves: dict[str, list[float]] = {}
    for fold, score in zip(rows["fold"].to_pylist(), rows[metric].to_pylist(), strict=True):
        curves.setdefault(fold, []).append(score)
    longest = max(map(len, curves.values()))
    held = [curve + [curve[-1]] * (longest - len(curve)) for curve in curves.values()]
    return np.maximum.accumulate(held, axis=1)


class Paired:
    """A trial may be one standard error behind the best trial at the same epoch.

    epochs : the epochs at which a trial is compared, in order

    The best trial has the highest mean over folds at this epoch. The standard error is that of the
    mean over folds of a paired difference to this trial: its variance is pooled over all trials. A
    single trial has no difference, so the variance of its scores takes its place, which is mostly
    larger, because some folds are harder than others. The rule is ours, as is the limit of one
    standard error.
    """

    def __init__(self, epochs: Sequence[int]) -> None:
        self.epochs = np.asarray(epochs, dtype=np.int64)
        self.scores: list[NDArray[np.float64]] = []  # (folds, epochs) of each trial
        self.reached: list[NDArray[np.bool_]] = []  # (epochs,) whether the trial counts there

    def add(self, scores: NDArray[np.float64], pruned: bool) -> None:
        """Add a trial. A trial that was not pruned continues with its last scores.

        scores : as of `fold_curves`, with the same two or more folds for each trial
        """
        trained = scores.shape[1]
        self.scores.append(scores[:, np.minimum(self.epochs, trained) - 1])
        self.reached.append((self.epochs <= trained) | (not pruned))

    def cutoffs(self) -> dict[int, float]:
        """Epoch -> mean over folds below which a trial is pruned, if a trial reached the epoch."""
        by_epoch: dict[int, float] = {}
        if not self.scores:
            return by_epoch
        scores, counts = np.array(self.scores), np.array(self.reached)
        for column, epoch in enumerate(self.epochs.tolist()):
            reached = np.ascontiguousarray(scores[counts[:, column], :, column])  # (trials, folds)
            if not len(reached):
                continue
            means = reached.mean(axis=1)
            best = reached[means.argmax()]
            spread = (reached - best).var(axis=1, ddof=1)  # of the best itself: zero
            variance = spread.sum() / (len(reached) - 1) if len(reached) > 1 else best.var(ddof=1)
            by_epoch[epoch] = float(means.max() - np.sqrt(variance / reached.shape[1]))
        return by_epoch


def why_pruned(curve: list[float], cutoffs: dict[int, float]) -> str | None:
    """The reason to prune a trial after its latest epoch; None if it may continue."""
    epoch = len(curve)
    if epoch in cutoffs and curve[-1] < cutoffs[epoch]:
        return f"epoch {epoch}: {curve[-1]:.4f} is below {cutoffs[epoch]:.4f}"
    return None
