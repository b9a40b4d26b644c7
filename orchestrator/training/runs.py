"""How a model is trained decides the class of its fold runs."""

import torch

from orchestrator.config.sections import Configuration, GradientTraining
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.fitted import FitRun
from orchestrator.training.fold_run import FoldRun, Replica
from orchestrator.training.gradient import GradientRun


def fold_run(
    fold: Fold,
    dataset: Dataset,
    config: Configuration,
    device: torch.device | None = None,
    replica: Replica = Replica(),  # noqa: B008  (frozen)
) -> FoldRun:
    """Return an untrained fold of a configuration, on `device` or else the CPU."""
    kind = GradientRun if isinstance(config.training, GradientTraining) else FitRun
    return kind(fold, dataset, config, device or torch.device("cpu"), replica)
