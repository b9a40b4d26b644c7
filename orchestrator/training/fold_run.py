"""One fold of a trial: its model, its best weights so far, its scores and its predictions."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from features.sets import FeatureConfig
from orchestrator.config import registry
from orchestrator.config.sections import Configuration, ModelConfig
from orchestrator.data.dataset import Dataset, Indices
from orchestrator.data.folds import Fold
from orchestrator.metrics import scores
from orchestrator.training import evaluation
from orchestrator.training.inspection import Outputs, inspect
from orchestrator.training.seeds import seeded
from orchestrator.training.state import Progress, State, prefixed
from ser_models.base import EmotionModel, Sizes
from ser_models.sequences import Output
from ser_models.standardised import Standardised

Row = dict[str, Any]


class TrainingError(RuntimeError):
    """A fold with numbers that are not finite, or whose model cannot be fitted. Fails the trial."""


class Finished(NamedTuple):
    """The best epoch of a fold, and rows for folds, predictions and inspection.parquet."""

    scores: list[Row]
    predictions: list[Row]
    inspection: list[Row]
    best_epoch: int


@dataclass(frozen=True)
class Replica:
    """The share of a fold's batches that this process computes: every `size`-th piece.

    group : the process group of the fold. Gradients are summed over this group only. A sum over
        all processes would mix the folds, and so leak test speakers into training.
    """

    index: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None


def build_model(config: Configuration, sizes: Sizes) -> EmotionModel:
    """Return the configured model with fresh weights. Raises ValueError for impossible sizes."""
    return build_network(config.model, config.features, sizes)


def build_network(model: ModelConfig, features: FeatureConfig, sizes: Sizes) -> EmotionModel:
    """Return the network of these sections of a configuration, as `build_model` does."""
    network = registry.model(model.name)(sizes, **model.model_dump(exclude={"name"}))
    return Standardised(network, sizes.dims) if features.normalize == "train" else network


@dataclass
class FoldRun(ABC):
    """One fold in training. Subclasses define an epoch.

    After each epoch the model is scored on the fold's selection part: the validation part, or the
    test part if there is no validation part. `best_weights` are the weights of `best_epoch`, the
    first epoch with the highest score, `best_score`.
    """

    fold: Fold
    dataset: Dataset
    config: Configuration
    device: torch.device
    replica: Replica

    def __post_init__(self) -> None:
        self.epoch = self.best_epoch = 0
        self.best_score = -math.inf
        # A model may learn to tell apart the speakers of this fold's training part only.
        known = sorted({self.dataset.speakers[row] for row in self.fold.train})
        number = {name: index for index, name in enumerate(known)}
        self.speaker_of = np.asarray([number.get(name, -1) for name in self.dataset.speakers])
        segment = self.dataset.segment or 1
        classes, groups = len(self.dataset.classes), self.dataset.groups
        sizes = Sizes(self.dataset.dims, classes, len(known), segment, groups)
        with seeded(self.device, self.config.training.seed, self.fold.name, "weights"):
            self.model = build_model(self.config, sizes).to(self.device)
        if isinstance(self.model, Standardised):
            _, mean, deviation = self.dataset.statistics[self.fold.name]
            self.model.set_statistics(mean, deviation)
        self.best_weights = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the fold trains no further epoch."""

    @abstractmethod
    def _train(self) -> Row:
        """Train epoch `self.epoch`. Returns the score row of the training part."""

    def train_epoch(self) -> list[Row]:
        """Train one epoch. Returns score rows of the training part and of the selection part.

        Raises TrainingError if the loss or the network's outputs are not finite.
        """
        self.epoch += 1
        self.model.train()
        rows = [self._train(), self._selection_row()]
        score = rows[-1][self.config.training.metric]
        if score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            self.best_weights = self._weights()
        return rows

    def _selection_row(self) -> Row:
        """Score the selection part. All replicas take the row of the first, so that they agree."""
        part = "validation" if len(self.fold.validation) else "test"
        if self.replica.size == 1:
            return self.evaluate(part)
        box: list[Any] = [None]
        if self.replica.index == 0:
            try:
                box = [self.evaluate(part)]
            except TrainingError as error:
                box = [error]
        dist.broadcast_object_list(box, group=self.replica.group, group_src=0)
        if isinstance(box[0], TrainingError):
            raise box[0]
        return box[0]

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which the network computes: float32 by default."""
        return nullcontext()

    def outputs(self, rows: Indices) -> Iterator[tuple[Indices, Output]]:
        """Yield the network's output for batches of `rows` (`orchestrator.training.evaluation`)."""
        return evaluation.outputs(self.model, self.dataset, rows, self.device, self.precision)

    def predict(self, rows: Indices, outputs: Outputs | None = None) -> Tensor:
        """Return log-posteriors of the utterances `rows`, (rows, classes) float64.

        outputs : the network's `outputs` for `rows`, if they are computed already
        """
        return evaluation.log_posteriors(self.dataset, rows, outputs or self.outputs(rows))

    def evaluate(self, part: str) -> Row:
        """Score a part of the fold."""
        rows = getattr(self.fold, part)
        return self._row(part, self.dataset.labels[rows], self.predict(rows), self.epoch)

    def _row(self, part: str, labels: Indices, logits: Tensor, epoch: int) -> Row:
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
        if not math.isfinite(loss):
            place = f"fold {self.fold.name}, epoch {self.epoch}"
            raise TrainingError(f"{place}: the loss of the {part} part is {loss}")
        part_scores = scores(labels, logits.argmax(1).numpy(), self.dataset.classes)
        return {
            "fold": self.fold.name,
            "epoch": epoch,
            "split": part,
            "loss": loss,
            "ua": part_scores.ua,
            "wa": part_scores.wa,
            **{f"recall_{name}": part_scores.recalls[name] for name in self.dataset.classes},
        }

    def finish(self) -> Finished:
        """Load the best weights, then score, predict and inspect the test part with them.

        If the test part selects the epoch, its score rows exist already, and none is added.
        """
        self.model.load_state_dict(self.best_weights)
        dataset, rows = self.dataset, np.sort(self.fold.test)
        outputs = list(self.outputs(rows))
        logarithms = self.predict(rows, outputs)
        added = []
        if len(self.fold.validation):
            added = [self._row("test", dataset.labels[rows], logarithms, self.best_epoch)]
        posteriors, predicted = logarithms.exp().numpy(), logarithms.argmax(1).numpy()
        columns = [f"posterior_{name}" for name in dataset.classes]
        names = [*dataset.classes, None]  # position -1: no such turn, or a turn without a class
        previous = np.maximum(dataset.previous, -1)
        predictions = [
            {
                "fold": self.fold.name,
                "utterance": dataset.ids[row],
                "speaker": dataset.speakers[row],
                "truth": dataset.classes[dataset.labels[row]],
                "prediction": dataset.classes[choice],
                **dict(zip(columns, posterior.tolist(), strict=True)),
                "own_previous": names[previous[0, row]],
                "other_previous": names[previous[1, row]],
            }
            for row, choice, posterior in zip(rows, predicted, posteriors, strict=True)
        ]
        inspection = inspect(self.fold.name, dataset, rows, outputs)
        return Finished(added, predictions, inspection, self.best_epoch)

    def state(self) -> State:
        """Return all that another process needs to continue from here to the same bits."""
        progress = Progress(
            epoch=self.epoch, best_epoch=self.best_epoch, best_score=self.best_score
        )
        weights = prefixed("model", self.model.state_dict())
        return State(progress, weights | prefixed("best", self.best_weights))

    def templates(self) -> dict[str, Tensor]:
        """Return tensors with the names, shapes and types of those in a trained fold's `state`."""
        return self.state().tensors

    def load_state(self, state: State) -> None:
        """Continue from `state`, whose tensors are like `templates`."""
        self.model.load_state_dict(state.part("model"))
        self.best_weights = {name: t.to(self.device) for name, t in state.part("best").items()}
        self.epoch, self.best_epoch = state.progress.epoch, state.progress.best_epoch
        self.best_score = state.progress.best_score
