"""One fold in training. It knows no Ray, and nothing of the other folds.

The randomness of an epoch is seeded by (seed, fold, epoch) alone, so the numbers are the same bits
on a CPU for any number of workers up to the folds, any order of folds and any interruption.
Replicas of a fold sum in another order and draw dropout of their own: their number is part of
what a trial is.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from orchestrator.batches import Dataset, evaluation_batches, make_batch, training_batches
from orchestrator.config import Configuration
from orchestrator.folds import Fold
from orchestrator.metrics import scores
from ser_models import MODELS

Row = dict[str, Any]


class TrainingError(RuntimeError):
    """A fold whose numbers are not finite. It fails the trial; it never leaves a mean."""


@dataclass(frozen=True)
class Replica:
    """Which part of a fold's batches this process computes: every `size`-th utterance.

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
def seeded(device: torch.device, *parts: object) -> Iterator[np.random.Generator]:
    """Torch's generators, and one of NumPy's, seeded by `parts`; torch's are restored after."""
    devices = [device] if device.type == "cuda" else []
    seed = derived_seed(*parts)
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield np.random.default_rng(seed)


def build_model(config: Configuration, dims: int) -> nn.Module:
    """The configured model with fresh weights. Raises ValueError for sizes that cannot be."""
    hyperparameters = config.model.model_dump(exclude={"name"})
    return MODELS[config.model.name](dims, len(config.corpus.classes), **hyperparameters)


@dataclass
class FoldRun:
    """One fold in training: its model, optimiser, and the best weights so far.

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
        training = self.config.training
        with seeded(self.device, training.seed, self.fold.name, "weights"):
            self.model = build_model(self.config, self.dataset.dims).to(self.device)
        for parameter in self.model.parameters():
            # A replica without a share of a small batch has gradients of zero, and not none.
            parameter.grad = torch.zeros_like(parameter)
        decayed = {id(parameter) for parameter in self.model.decayed_parameters()}  # type: ignore[operator]
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.Adam(
            [
                {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
                {
                    "params": [p for p in parameters if id(p) in decayed],
                    "weight_decay": training.weight_decay,
                },
            ],
            lr=training.learning_rate,
        )
        self.best_weights = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or `patience` of them brought no better score."""
        training = self.config.training
        stalled = self.epoch - self.best_epoch >= training.patience
        return self.epoch >= training.epochs or stalled

    def train_epoch(self) -> list[Row]:
        """Train one epoch and score it: a row for `train` and one for the selection part.

        The training row is taken while the weights move, with dropout on.
        Raises TrainingError where the loss is not finite.
        """
        self.epoch += 1
        training = self.config.training
        self.model.train()
        parts = (training.seed, self.fold.name, self.epoch)
        rows, logits = [], []
        with seeded(self.device, *parts) as generator:
            if self.replica.size > 1:  # the same order of batches, but dropout of its own
                torch.manual_seed(derived_seed(*parts, self.replica.index))
            for batch in training_batches(
                self.dataset, self.fold.train, training.batch_size, generator
            ):
                rows.append(batch)
                logits.append(self._step(batch))
        found = [self._row("train", np.concatenate(rows), torch.cat(logits), self.epoch)]
        row = self._selection_row()
        found.append(row)
        if row[training.metric] > self.best_score:
            self.best_score = row[training.metric]
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

    def _step(self, rows: NDArray[np.int64]) -> Tensor:
        """One step of the optimiser. Returns the logits of the whole batch, on the CPU."""
        mine = rows[self.replica.index :: self.replica.size]
        logits = torch.empty(0, len(self.dataset.classes))
        self.optimizer.zero_grad(set_to_none=False)
        if len(mine):
            batch = make_batch(self.dataset, mine).to(self.device)
            output = self.model(batch.current, batch.own, batch.other).logits
            # A sum over this replica's share, divided by the whole batch: summed over replicas
            # it is the batch's mean, however unequal the shares.
            loss = nn.functional.cross_entropy(
                output,
                batch.labels,
                reduction="sum",
                label_smoothing=self.config.training.label_smoothing,
            )
            (loss / len(rows)).backward()
            logits = output.detach().cpu()
        if self.replica.size > 1:
            logits = self._combine(logits, len(rows))
        if not torch.isfinite(logits).all():
            raise TrainingError(
                f"fold {self.fold.name}, epoch {self.epoch}: the loss is not finite; a smaller "
                f"training.learning_rate (now {self.config.training.learning_rate:g}) may help"
            )
        self.optimizer.step()
        return logits

    def _combine(self, mine: Tensor, size: int) -> Tensor:
        """Sum gradients over the replicas; put their logits together, (size, classes)."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = nn.utils.parameters_to_vector(gradients)
        dist.all_reduce(flat, group=self.replica.group)
        nn.utils.vector_to_parameters(flat, gradients)
        parts: list[Any] = [None] * self.replica.size
        dist.all_gather_object(parts, mine, group=self.replica.group)
        logits = torch.empty(size, mine.shape[1])
        for index, part in enumerate(parts):
            logits[index :: self.replica.size] = part
        return logits

    @torch.no_grad()
    def predict(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tensor]:
        """Logits of `rows` with the present weights: rows in the order used, (rows, classes)."""
        self.model.eval()
        order, logits = [], []
        for part in evaluation_batches(self.dataset, rows):
            batch = make_batch(self.dataset, part).to(self.device)
            order.append(part)
            logits.append(self.model(batch.current, batch.own, batch.other).logits.cpu())
        return np.concatenate(order), torch.cat(logits)

    def evaluate(self, part: str) -> Row:
        """Score a part of the fold with the present weights."""
        return self._row(part, *self.predict(getattr(self.fold, part)), self.epoch)

    def _row(self, part: str, rows: NDArray[np.int64], logits: Tensor, epoch: int) -> Row:
        truth = torch.from_numpy(self.dataset.labels[rows])
        loss = nn.functional.cross_entropy(logits, truth).item()
        if not math.isfinite(loss):
            raise TrainingError(
                f"fold {self.fold.name}, epoch {self.epoch}: the {part} loss is {loss}"
            )
        found = scores(truth.numpy(), logits.argmax(1).numpy(), self.dataset.classes)
        return {
            "fold": self.fold.name,
            "epoch": epoch,
            "split": part,
            "loss": loss,
            "ua": found.ua,
            "wa": found.wa,
            **{f"recall_{name}": found.recalls[name] for name in self.dataset.classes},
        }

    def finish(self) -> tuple[list[Row], list[Row]]:
        """Load the best weights, score the test part with them: score rows, predictions.

        Under `held_out` every epoch's test row is there already, and none is added.
        """
        self.model.load_state_dict(self.best_weights)
        rows, logits = self.predict(np.sort(self.fold.test))
        added = []
        if len(self.fold.validation):
            added = [self._row("test", rows, logits, self.best_epoch)]
        order = np.argsort(rows)
        posteriors = torch.softmax(logits.double(), dim=1).numpy()[order]
        predicted = logits.argmax(1).numpy()[order]
        classes = self.dataset.classes
        predictions = [
            {
                "fold": self.fold.name,
                "utterance": self.dataset.ids[row],
                "speaker": self.dataset.speakers[row],
                "truth": classes[self.dataset.labels[row]],
                "prediction": classes[choice],
                **{f"posterior_{c}": float(p) for c, p in zip(classes, posterior, strict=True)},
            }
            for row, choice, posterior in zip(rows[order], predicted, posteriors, strict=True)
        ]
        return added, predictions

    def state(self) -> dict[str, Any]:
        """All that another process needs to go on from here to the same bits."""
        return {
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "best_weights": self.best_weights,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights = {n: t.to(self.device) for n, t in state["best_weights"].items()}
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.best_score = state["best_score"]
