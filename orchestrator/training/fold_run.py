"""One fold of a trial: its model, its best weights so far, and its scores. It knows no Ray.

How a fold is trained is in `orchestrator.training`.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from features.sets import FEATURES
from orchestrator.training.batches import Dataset, evaluation_batches, make_batch
from orchestrator.config.sections import Configuration
from orchestrator.data.folds import Fold
from orchestrator.training.inspection import inspect
from orchestrator.metrics import scores
from ser_models import MODELS, Sizes
from ser_models.sequences import Output

Row = dict[str, Any]
Indices = NDArray[np.int64]

EVALUATED = {True: 64, False: 256}
"""Pieces of a batch without gradients: segments of images are large, and turns are not."""


class TrainingError(RuntimeError):
    """A fold whose numbers are not finite. It fails the trial; it never leaves a mean."""


class Finished(NamedTuple):
    """What a fold leaves: rows of folds.parquet, of predictions.parquet and inspection.parquet."""

    scores: list[Row]
    predictions: list[Row]
    inspection: list[Row]


@dataclass(frozen=True)
class Replica:
    """Which part of a fold's batches this process computes: every `size`-th piece.

    group : the fold's own process group. Gradients are summed over it and never over the world,
        which would average them across folds: a leak from test speakers.
    """

    index: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from the SHA-256 of what it is for."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


@contextmanager
def seeded(device: torch.device, *parts: object) -> Iterator[None]:
    """Torch's generators seeded by `parts`, and as they were after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derived_seed(*parts))
        yield


def build_model(config: Configuration, sizes: Sizes) -> nn.Module:
    """The configured model with fresh weights. Raises ValueError for sizes that cannot be."""
    hyperparameters = config.model.model_dump(exclude={"name"})
    return MODELS[config.model.name](sizes, **hyperparameters)


def check_tensors(found: Any, wanted: dict[str, Any], what: str) -> None:
    """Raise ValueError where `found` has not the names, shapes and types of `wanted`."""
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise ValueError(f"{what} has other names than this model's")
    for name, tensor in wanted.items():
        if not is_like(found[name], tensor):
            raise ValueError(f"{what}: {name} is not of {tensor.dtype}, {tuple(tensor.shape)}")


def is_like(found: Any, tensor: Tensor) -> bool:
    """Whether `found` is a plain tensor in memory with the type and shape of `tensor`."""
    return (
        isinstance(found, Tensor)
        and (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        and (found.layout, found.device.type) == (torch.strided, "cpu")
    )


@dataclass
class FoldRun(ABC):
    """One fold in training; what an epoch is, a subclass says.

    `best_score` is the score on the fold's selection part at `best_epoch`, which `best_weights`
    are the weights of.
    """

    fold: Fold
    dataset: Dataset
    config: Configuration
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    replica: Replica = Replica()

    def __post_init__(self) -> None:
        self.epoch = 0
        self.best_epoch = 0
        self.best_score = -math.inf
        # Speakers that a model may learn to tell apart are those of this fold's training part.
        known = sorted({self.dataset.speakers[row] for row in self.fold.train})
        place = {name: index for index, name in enumerate(known)}
        self.speaker_of = np.asarray([place.get(name, -1) for name in self.dataset.speakers])
        segment = self.dataset.segment or 1
        sizes = Sizes(self.dataset.dims, len(self.dataset.classes), len(known), segment)
        with seeded(self.device, self.config.training.seed, self.fold.name, "weights"):
            self.model = build_model(self.config, sizes).to(self.device)
        self.best_weights = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether no further epoch will be trained."""

    @abstractmethod
    def _train(self) -> Row:
        """Train epoch `self.epoch`; its score row for the training part."""

    def train_epoch(self) -> list[Row]:
        """Train one epoch and score it: a row for `train` and one for the selection part.

        Raises TrainingError where the loss is not finite.
        """
        self.epoch += 1
        self.model.train()
        found = [self._train(), self._selection_row()]
        score = found[-1][self.config.training.metric]
        if score > self.best_score:
            self.best_score = score
            self.best_epoch = self.epoch
            self.best_weights = self._weights()
        return found

    def _selection_row(self) -> Row:
        """The score on the selection part; replicas take the first one's, so that all agree."""
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
        row: Row = box[0]
        return row

    def precision(self) -> AbstractContextManager[Any]:
        """In what numbers the network computes: as they are, float32."""
        return nullcontext()

    @torch.no_grad()
    def outputs(self, rows: Indices) -> Iterator[tuple[Indices, Output]]:
        """What the network makes of `rows` with the present weights, batch by batch.

        Yields positions in `dataset.pieces(rows)`, and the output of those pieces.
        """
        self.model.eval()
        pieces = self.dataset.pieces(rows)
        for part in evaluation_batches(pieces, EVALUATED[self.dataset.segment is not None]):
            batch = make_batch(self.dataset, pieces.take(part)).to(self.device)
            with self.precision():
                yield part, self.model(batch.current, batch.own, batch.other)

    def predict(self, rows: Indices) -> Tensor:
        """Log-posteriors of `rows`, (rows, classes) float64.

        An utterance's posterior is the mean over its segments (SSA-CRNN).
        """
        return self._log_posteriors(rows, self.outputs(rows))

    def _log_posteriors(self, rows: Indices, outputs: Iterable[tuple[Indices, Output]]) -> Tensor:
        pieces = self.dataset.pieces(rows)
        logarithms = np.empty((len(pieces.rows), len(self.dataset.classes)))
        for part, output in outputs:
            logarithms[part] = torch.log_softmax(output.logits.double().cpu(), dim=1).numpy()
        first = np.flatnonzero(np.diff(pieces.rows, prepend=-1))
        counts = np.diff(first, append=len(pieces.rows))
        summed = np.logaddexp.reduceat(logarithms, first, axis=0)
        return torch.from_numpy(summed - np.log(counts)[:, None])

    def evaluate(self, part: str) -> Row:
        """Score a part of the fold with the present weights."""
        rows = getattr(self.fold, part)
        return self._row(part, self.dataset.labels[rows], self.predict(rows), self.epoch)

    def _row(self, part: str, labels: Indices, logits: Tensor, epoch: int) -> Row:
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
        if not math.isfinite(loss):
            raise TrainingError(
                f"fold {self.fold.name}, epoch {self.epoch}: the {part} loss is {loss}"
            )
        found = scores(labels, logits.argmax(1).numpy(), self.dataset.classes)
        return {
            "fold": self.fold.name,
            "epoch": epoch,
            "split": part,
            "loss": loss,
            "ua": found.ua,
            "wa": found.wa,
            **{f"recall_{name}": found.recalls[name] for name in self.dataset.classes},
        }

    def finish(self) -> Finished:
        """Load the best weights, and score and look into the test part with them.

        Under `held_out` every epoch's test row is there already, and none is added.
        """
        self.model.load_state_dict(self.best_weights)
        rows = np.sort(self.fold.test)
        outputs = list(self.outputs(rows))
        logarithms = self._log_posteriors(rows, outputs)
        dataset = self.dataset
        added = []
        if len(self.fold.validation):
            added = [self._row("test", dataset.labels[rows], logarithms, self.best_epoch)]
        posteriors, predicted = logarithms.exp().numpy(), logarithms.argmax(1).numpy()
        names = [*dataset.classes, None]  # the last element serves those without a class
        before = np.maximum(dataset.previous, -1)
        predictions = [
            {
                "fold": self.fold.name,
                "utterance": dataset.ids[row],
                "speaker": dataset.speakers[row],
                "truth": dataset.classes[dataset.labels[row]],
                "prediction": dataset.classes[choice],
                **{
                    f"posterior_{c}": float(p)
                    for c, p in zip(dataset.classes, posterior, strict=True)
                },
                "own_previous": names[before[0, row]],
                "other_previous": names[before[1, row]],
            }
            for row, choice, posterior in zip(rows, predicted, posteriors, strict=True)
        ]
        picture = FEATURES[self.config.features.name].picture
        return Finished(
            added, predictions, inspect(self.fold.name, dataset, rows, outputs, picture)
        )

    def state(self) -> dict[str, Any]:
        """All that another process needs to go on from here to the same bits."""
        return {
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "best_weights": self.best_weights,
            "model": self.model.state_dict(),
        }

    def check_state(self, state: Any, epoch: int) -> None:
        """Raise ValueError where `state` is not one of this fold after `epoch` epochs at most.

        All that `load_state` and training read of it is looked at, as it may be anybody's.
        """
        if not isinstance(state, dict) or state.keys() != self.state().keys():
            raise ValueError("it has not the parts of a state")
        numbers = state["best_epoch"], state["epoch"]
        if not all(type(number) is int for number in numbers):
            raise ValueError("its epochs are no numbers")
        if not 0 <= numbers[0] <= numbers[1] <= epoch or numbers[1] < 1:
            raise ValueError(f"it is of epoch {numbers[1]}, its best {numbers[0]}, and not {epoch}")
        if type(state["best_score"]) is not float or math.isnan(state["best_score"]):
            raise ValueError("its best score is no number")
        for part in ("model", "best_weights"):
            check_tensors(state[part], self.model.state_dict(), part)

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, which `check_state` has passed."""
        self.model.load_state_dict(state["model"])
        self.best_weights = {n: t.to(self.device) for n, t in state["best_weights"].items()}
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.best_score = state["best_score"]
