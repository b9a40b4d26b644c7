"""Small models on the toy corpus, cross-validated in this process, with and without a kill."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from features.sets import FEATURES
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.training.cross_validation import Task, cross_validate
from orchestrator.training.fold_run import FoldRun
from orchestrator.training.runs import fold_run
from orchestrator.training.state import pack_state, unpack_state
from ser_models import MODELS

TRIAL = "0123456789"

_CRNN = {"first_maps": 2, "maps": 3, "conv_layers": 1, "linear_size": 5, "hidden_size": 4}
_CRNN |= {"embedding_size": 6}
_IAAN = {"hidden_size": 8, "attention_size": 8}
_SIZES: dict[str, dict[str, float]] = {
    "bilstm_att": {"dense_size": 8, "hidden_size": 4},
    "acrnn": _CRNN,
    "acrnn_r": _CRNN,
    "ssa_crnn_r": _CRNN,
    "adrnn": {"maps": 2, "last_maps": 3, "linear_size": 5, "hidden_size": 4, "embedding_size": 6},
    "linear_svm": {},
    "svm_trees": {},
    "mdnn": {"hidden_size": 8, "local_size": 4, "embedding_size": 6, "dropout": 0.2},
    "cmn": {"hidden_size": 8},
    "layer_sum": {"projection_size": 6},
    "mean_pool": {"hidden_size": 8},
}
VECTORS = tuple(name for name, model in MODELS.items() if model.reads == "vector")
"""Models that read one vector for each utterance."""


class KilledError(Exception):
    """Raised in place of a kill: the trial runs no statement after it."""


class Touch:
    """Creates a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def small(model: str) -> dict[str, float]:
    """Return the sizes of a small `model`."""
    return _SIZES.get(model, _IAAN)


def with_model(configuration: Configuration, model: str, **training: object) -> Configuration:
    """Return `configuration` with a small model, and with the default features of the model."""
    raw = configuration.resolved()
    del raw["features"]
    raw["model"] = {"name": model, **_SIZES.get(model, _IAAN)}
    raw["training"] = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, **training}
    if MODELS[model].fitted:
        raw["training"] = {}
    return parse(raw)


def in_form(model: str, dataset: Dataset) -> Dataset:
    """Return the toy corpus as `model` reads it: frames, segments of four frames, or means.

    For `mdnn`, the means are repeated, because its groups are columns of the real feature set.
    """
    features = MODELS[model].features
    if model in VECTORS:
        parts = np.split(dataset.frames, dataset.offsets[1:-1])
        means = np.stack([part.mean(0) for part in parts])
        groups = dataset.groups
        if model == "mdnn":
            feature_set = FEATURES[features]().load()
            groups = feature_set.groups
            means = np.resize(means.T, (feature_set.dims, len(means))).T.copy()
        offsets = np.arange(len(means) + 1)
        return dataclasses.replace(
            dataset, frames=means, offsets=offsets, groups=groups, picture=None
        )
    return dataclasses.replace(dataset, segment=4) if features == "logmel3d" else dataset


def trained(run: FoldRun, epochs: int) -> list[dict[str, Any]]:
    """Train `epochs` epochs, or fewer if the fold ends. Returns the score rows."""
    rows = []
    for _ in range(epochs):
        if not run.ended:
            rows += run.train_epoch()
    return rows


def resumed(run: FoldRun) -> FoldRun:
    """Return a new run that has loaded the state of `run` from bytes."""
    new = fold_run(run.fold, run.dataset, run.config, run.device)
    new.load_state(unpack_state(pack_state(run.state()), new.templates()))
    return new


def cross_validated(
    folder: Path,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
    kill_after: int | None = None,
    why_pruned: Callable[[list[float]], str | None] = lambda curve: None,
) -> tuple[TrialRecord, list[dict[str, Any]]]:
    """Cross-validate with a checkpoint after every epoch. Returns the record and the reports.

    kill_after : raise KilledError in the report of that epoch, which precedes its checkpoint
    """
    record = TrialRecord(
        id=TRIAL,
        number=0,
        model=configuration.model.name,
        status="complete",
        hyperparameters={},
        seed=0,
    )
    task = Task(record, [fold.name for fold in folds], why_pruned, checkpoint_every=0.0)
    reports: list[dict[str, Any]] = []

    def report(metrics: dict[str, Any]) -> None:
        reports.append(metrics)
        if metrics["epoch"] == kill_after:
            raise KilledError

    runs = [fold_run(fold, dataset, configuration) for fold in folds]
    return cross_validate(task, runs, Ledger(Storage.open(str(folder))), report), reports


def trial_files(folder: Path) -> dict[str, bytes]:
    """Return the result files of the trial, without its record, which holds times."""
    trial = folder / "trials" / TRIAL
    return {path.name: path.read_bytes() for path in trial.iterdir() if path.name != "trial.json"}
