"""When a trial is pruned: cutoffs at rungs, and the test of a trial's curve against them."""

import numpy as np

from orchestrator.config.sections import SearchConfig


def rungs(search: SearchConfig, epochs: int) -> list[int]:
    """Epochs at which trials are compared: grace, grace * factor, … below `epochs`."""
    epochs_of_rungs, rung = [], search.grace_epochs
    while search.scheduler == "asha" and rung < epochs:
        epochs_of_rungs.append(rung)
        rung *= search.reduction_factor
    return epochs_of_rungs


def cutoffs(
    finished: list[tuple[list[float], bool]], rungs: list[int], factor: int
) -> dict[int, float]:
    """ASHA's rule: a trial passes a rung if it is among the best 1 in `factor` that reached it.

    finished : (curve, pruned) of each trial to compare with. The curve of a trial that was not
        pruned continues with its last score
    returns : epoch -> score below which a trial is pruned; no rung that no trial has reached
    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", in the stopping
    form. Ours: the compared set is fixed when the trial starts.
    """
    by_rung = {}
    for rung in rungs:
        reached = [
            curve[min(rung, len(curve)) - 1]
            for curve, pruned in finished
            if curve and (len(curve) >= rung or not pruned)
        ]
        if reached:
            by_rung[rung] = float(np.percentile(reached, (1 - 1 / factor) * 100))
    return by_rung


def why_pruned(curve: list[float], cutoffs: dict[int, float]) -> str | None:
    """The reason to prune a trial after its latest epoch; None if it may continue."""
    epoch = len(curve)
    if epoch in cutoffs and curve[-1] < cutoffs[epoch]:
        return f"epoch {epoch}: {curve[-1]:.4f} is below {cutoffs[epoch]:.4f}"
    return None
