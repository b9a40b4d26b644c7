"""Folds of models that learn by gradient descent.

The randomness of an epoch is seeded by (seed, fold, epoch) alone. On a CPU the results are
therefore the same bits for any number of workers up to the number of folds, for any order of the
folds, and after any interruption.

The number of replicas of a fold does change the results, so it is part of the trial id. Replicas
sum in another order, draw their own dropout, and compute batch normalisation and the regulariser's
tau from their own share of a batch. The saved running statistics are those of the first replica.
Buffers that learn in training (`EmotionModel.after_step`) are computed from the whole batch, and
are the same in all replicas.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from orchestrator.config.sections import GradientTraining
from orchestrator.data.dataset import Indices, Pieces
from orchestrator.training.batches import balanced_weights, make_batch, training_batches
from orchestrator.training.fold_run import FoldRun, Row, TrainingError
from orchestrator.training.optimizers import Optimizer
from orchestrator.training.seeds import derived_seed, seeded
from orchestrator.training.state import State, prefixed


class GradientRun(FoldRun):
    """A fold that trains as long as its score on the selection part improves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        assert isinstance(self.config.training, GradientTraining)
        self.training = self.config.training
        self.pieces = self.dataset.pieces(self.fold.train)
        self.class_weights: Tensor | None = None
        if self.training.class_weights == "balanced":
            labels, classes = self.dataset.labels[self.pieces.rows], len(self.dataset.classes)
            self.class_weights = balanced_weights(labels, classes).to(self.device)
        parameters = list(self.model.parameters())
        for parameter in parameters:
            # If a batch is too small for all replicas, some have no pieces. Their gradients must
            # be zeros, not None: the replicas sum them.
            parameter.grad = torch.zeros_like(parameter)
        decayed = {id(parameter) for parameter in self.model.decayed_parameters()}
        groups: list[tuple[list[Tensor], float]] = [
            ([p for p in parameters if id(p) not in decayed], 0.0),
            ([p for p in parameters if id(p) in decayed], self.training.weight_decay),
        ]
        kind, rate = self.training.optimizer, self.training.learning_rate
        self.optimizer = Optimizer(kind, groups, rate)

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or the score has not improved for `patience` epochs."""
        stalled = self.epoch - self.best_epoch >= self.training.patience
        return self.epoch >= self.training.epochs or stalled

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which the network computes: float32, or autocast to bfloat16."""
        enabled = self.training.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled)

    def _train(self) -> Row:
        """Train an epoch. The row scores each batch with the weights before its step, with dropout.

        Replicas of a fold draw the same batches, but each has its own dropout.
        """
        own = [self.replica.index] if self.replica.size > 1 else []
        drawn, logits = [], []
        with seeded(self.device, self.training.seed, self.fold.name, self.epoch, *own):
            for batch in self._batches():
                drawn.append(batch)
                logits.append(self._step(self.pieces.take(batch)))
        # The host waits for a GPU here, and not at each step.
        all_logits = torch.cat(logits).cpu()
        if not torch.isfinite(all_logits).all():
            raise TrainingError(
                f"fold {self.fold.name}, epoch {self.epoch}: the network's outputs are not finite. "
                f"Try a smaller training.learning_rate (now {self.training.learning_rate:g})"
            )
        labels = self.dataset.labels[self.pieces.rows[np.concatenate(drawn)]]
        return self._row("train", labels, all_logits, self.epoch)

    def _batches(self) -> Iterator[Indices]:
        """Return the batches of this epoch: a pass, or `epoch_steps` batches of repeated passes."""
        training = self.training
        labels = self.dataset.labels[self.pieces.rows]

        def batches_of_pass(number: int) -> list[Indices]:
            rng = np.random.default_rng(derived_seed(training.seed, self.fold.name, number))
            return training_batches(labels, training.batch_size, training.balanced_batches, rng)

        if training.epoch_steps is None:
            return iter(batches_of_pass(self.epoch))
        # Steps are numbered through all passes, so the epoch alone decides the first step.
        first = (self.epoch - 1) * training.epoch_steps
        passes, skipped = divmod(first, len(batches_of_pass(1)))
        batches = chain.from_iterable(map(batches_of_pass, count(passes + 1)))
        return islice(batches, skipped, skipped + training.epoch_steps)

    def _step(self, pieces: Pieces) -> Tensor:
        """Take one step of the optimiser. Returns the logits of the whole batch."""
        mine = pieces.take(np.arange(self.replica.index, len(pieces.rows), self.replica.size))
        logits = embeddings = torch.empty(0, 0)
        self.model.zero_grad(set_to_none=False)
        if len(mine.rows):
            logits, embeddings = self._backward(mine, pieces)
        if self.replica.size > 1:
            logits, embeddings = self._combine(logits, embeddings, len(pieces.rows))
        self.optimizer.step()
        labels = torch.from_numpy(self.dataset.labels[pieces.rows])
        self.model.after_step(embeddings, labels.to(self.device, non_blocking=True))
        return logits

    def _backward(self, pieces: Pieces, whole: Pieces) -> tuple[Tensor, Tensor]:
        """Add the gradients of this replica's share, `pieces`, of the batch `whole`.

        Returns its logits and its embeddings.
        """
        size = len(whole.rows)
        batch = make_batch(self.dataset, pieces).to(self.device)
        speakers = torch.from_numpy(self.speaker_of[pieces.rows]).to(self.device, non_blocking=True)
        with self.precision():
            output = self.model(batch.current, batch.own, batch.other)
        # The loss is the sum over this replica's share, divided by the size of the whole batch.
        # The sum over replicas is then the mean over the batch, even if the shares differ in size.
        logits = output.logits.float()
        loss = nn.functional.cross_entropy(
            logits,
            batch.labels,
            self.class_weights,
            reduction="sum",
            label_smoothing=self.training.label_smoothing,
        )
        if self.class_weights is not None:  # the weighted mean divides by the batch's total weight
            labels = torch.from_numpy(self.dataset.labels[whole.rows]).to(self.device)
            loss = loss * (size / self.class_weights[labels].sum())
        if (extra := self.model.extra_loss(output, batch.labels, speakers)) is not None:
            loss = loss + extra
        loss = loss / size
        if output.penalty is not None:
            loss = loss + output.penalty * (len(pieces.rows) / size)
        loss.backward()
        return logits.detach(), output.embedding.detach().float()

    def _combine(self, logits: Tensor, embeddings: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Sum the gradients over the replicas. Returns the logits and embeddings of all."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = nn.utils.parameters_to_vector(gradients)
        dist.all_reduce(flat, group=self.replica.group)
        nn.utils.vector_to_parameters(flat, gradients)
        shares: list[Any] = [None] * self.replica.size
        dist.all_gather_object(shares, (logits.cpu(), embeddings.cpu()), group=self.replica.group)
        all_logits, all_embeddings = (
            _interleaved(parts, size) for parts in zip(*shares, strict=True)
        )
        return all_logits, all_embeddings.to(self.device)

    def state(self) -> State:
        """Return the weights and the optimiser's state. The configuration has its settings."""
        progress, tensors = super().state()
        for number, values in enumerate(self.optimizer.state):
            tensors |= prefixed(f"optimizer.{number}", values)
        return State(progress, tensors)

    def load_state(self, state: State) -> None:
        """Continue from `state`, whose tensors are like `templates`."""
        super().load_state(state)
        numbers = range(len(self.optimizer.state))
        self.optimizer.load([state.part(f"optimizer.{number}") for number in numbers])


def _interleaved(shares: Sequence[Tensor], size: int) -> Tensor:
    """Return the rows of a batch of `size` in order; row i is in share i modulo the shares."""
    rows = torch.empty(size, shares[0].shape[1])  # the first replica has a piece of every batch
    for index, share in enumerate(shares):
        if len(share):
            rows[index :: len(shares)] = share
    return rows
