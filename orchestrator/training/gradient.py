"""How a fold is trained: by gradient descent, or fitted in one step. It knows no Ray.

The randomness of an epoch is seeded by (seed, fold, epoch) alone, so the numbers are the same bits
on a CPU for any number of workers up to the folds, any order of folds and any interruption.
Replicas of a fold sum in another order and draw dropout of their own, and batch normalisation and
the regulariser's tau are of each one's share of a batch (the weights that are kept have the first
one's running statistics): their number is part of what a trial is.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from orchestrator.training.batches import Dataset, Pieces, make_batch, training_batches
from orchestrator.config.sections import Configuration, GradientTraining
from orchestrator.training.fold_run import (
    FoldRun,
    Indices,
    Replica,
    Row,
    TrainingError,
    check_tensors,
    derived_seed,
    seeded,
)
from orchestrator.data.folds import Fold

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "nadam": torch.optim.NAdam,
}


def check_optimizer(found: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError where `found` is not the state of a like optimiser after some steps."""
    groups = optimizer.state_dict()["param_groups"]
    if not isinstance(found, dict) or found.get("param_groups") != groups:
        raise ValueError("its optimiser has other settings")
    # What a step leaves differs by kind and by version of torch: taken from a step on one number.
    one = nn.Parameter(torch.zeros(()))
    one.grad = torch.zeros(())
    like = type(optimizer)([one])  # type: ignore[call-arg]
    like.step()
    left = like.state[one]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states = found.get("state")
    if not isinstance(states, dict) or states.keys() != set(range(len(parameters))):
        raise ValueError("its optimiser is of other parameters")
    for number, parameter in enumerate(parameters):
        # Moments are as large as the parameter; counts are single numbers on whatever device.
        wanted = {
            key: parameter.detach() if key.startswith("exp_avg") else value.detach()
            for key, value in left.items()
        }
        check_tensors(states[number], wanted, f"optimiser, parameter {number}")


def fold_run(
    fold: Fold,
    dataset: Dataset,
    config: Configuration,
    device: torch.device | None = None,
    replica: Replica = Replica(),  # noqa: B008  (frozen)
) -> FoldRun:
    """One fold of a configuration, not trained yet, in the way that its model is trained."""
    kind = GradientRun if isinstance(config.training, GradientTraining) else FitRun
    return kind(fold, dataset, config, device or torch.device("cpu"), replica)


class FitRun(FoldRun):
    """A fold whose model is fitted in one step by its own `fit`: one epoch is all there is."""

    @property
    def ended(self) -> bool:
        """Whether it is fitted."""
        return self.epoch >= 1

    def _train(self) -> Row:
        rows = self.fold.train
        vectors = self.dataset.frames[self.dataset.offsets[rows]]  # one frame an utterance
        seed = derived_seed(self.config.training.seed, self.fold.name, "fit")
        try:
            self.model.fit(vectors, self.dataset.labels[rows], seed % 2**32)  # type: ignore[operator]
        except (RuntimeError, ValueError) as error:
            raise TrainingError(f"fold {self.fold.name}: {error}") from error
        return self.evaluate("train")


class GradientRun(FoldRun):
    """A fold whose model learns by gradient descent, for as long as its selection part gains."""

    def __post_init__(self) -> None:
        super().__post_init__()
        assert isinstance(self.config.training, GradientTraining)
        self.training = self.config.training
        self.pieces = self.dataset.pieces(self.fold.train)
        parameters = list(self.model.parameters())
        for parameter in parameters:
            # A replica without a share of a small batch has gradients of zero, and not none.
            parameter.grad = torch.zeros_like(parameter)
        decayed = {id(parameter) for parameter in self.model.decayed_parameters()}  # type: ignore[operator]
        self.optimizer = OPTIMIZERS[self.training.optimizer](
            [
                {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
                {
                    "params": [p for p in parameters if id(p) in decayed],
                    "weight_decay": self.training.weight_decay,
                },
            ],
            lr=self.training.learning_rate,  # type: ignore[call-arg]
        )

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or `patience` of them brought no better score."""
        stalled = self.epoch - self.best_epoch >= self.training.patience
        return self.epoch >= self.training.epochs or stalled

    def precision(self) -> AbstractContextManager[Any]:
        """In what numbers the network computes."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.training.precision == "bfloat16"
        )

    def _train(self) -> Row:
        """The training row is of the pieces as drawn, while the weights move, with dropout on."""
        parts = (self.training.seed, self.fold.name, self.epoch)
        if self.replica.size > 1:  # the same order of batches, but dropout of its own
            parts = (*parts, self.replica.index)  # type: ignore[assignment]
        chosen, logits = [], []
        with seeded(self.device, *parts):
            for batch in self._batches():
                chosen.append(batch)
                logits.append(self._step(self.pieces.take(batch)))
        labels = self.dataset.labels[self.pieces.rows[np.concatenate(chosen)]]
        return self._row("train", labels, torch.cat(logits), self.epoch)

    def _batches(self) -> Iterator[Indices]:
        """The steps of this epoch: a part of one pass or several over the training pieces."""
        training = self.training
        labels = self.dataset.labels[self.pieces.rows]

        def drawn(number: int) -> list[Indices]:
            seed = derived_seed(training.seed, self.fold.name, number)
            generator = np.random.default_rng(seed)
            return training_batches(
                labels, training.batch_size, training.balanced_batches, generator
            )

        if training.epoch_steps is None:
            yield from drawn(self.epoch)
            return
        # Steps are numbered through all passes, so nothing but the epoch tells where it begins.
        length = len(drawn(1))
        first = (self.epoch - 1) * training.epoch_steps
        number, batches = 0, []
        for step in range(first, first + training.epoch_steps):
            if step // length + 1 != number:
                number = step // length + 1
                batches = drawn(number)
            yield batches[step % length]

    def _step(self, pieces: Pieces) -> Tensor:
        """One step of the optimiser. Returns the logits of the whole batch, on the CPU."""
        mine = pieces.take(np.arange(self.replica.index, len(pieces.rows), self.replica.size))
        logits = torch.empty(0, len(self.dataset.classes))
        self.optimizer.zero_grad(set_to_none=False)
        if len(mine.rows):
            logits = self._backward(mine, len(pieces.rows))
        if self.replica.size > 1:
            logits = self._combine(logits, len(pieces.rows))
        if not torch.isfinite(logits).all():
            raise TrainingError(
                f"fold {self.fold.name}, epoch {self.epoch}: the loss is not finite; a smaller "
                f"training.learning_rate (now {self.training.learning_rate:g}) may help"
            )
        self.optimizer.step()
        return logits

    def _backward(self, pieces: Pieces, size: int) -> Tensor:
        """Gradients of this replica's share of a batch of `size` pieces; its logits."""
        batch = make_batch(self.dataset, pieces).to(self.device)
        with self.precision():
            output = self.model(batch.current, batch.own, batch.other)
        # A sum over this replica's share, divided by the whole batch: summed over replicas it is
        # the batch's mean, however unequal the shares.
        smoothing = self.training.label_smoothing
        logits = output.logits.float()
        loss = nn.functional.cross_entropy(
            logits, batch.labels, reduction="sum", label_smoothing=smoothing
        )
        if output.speaker_logits is not None:
            speakers = torch.from_numpy(self.speaker_of[pieces.rows]).to(self.device)
            told = output.speaker_logits.float()
            speaker_loss = nn.functional.cross_entropy(told, speakers, reduction="sum")
            loss = loss + self.model.speaker_weight * speaker_loss  # type: ignore[operator]
        loss = loss / size
        if output.penalty is not None:
            loss = loss + output.penalty * (len(pieces.rows) / size)
        loss.backward()
        return logits.detach().cpu()

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

    def state(self) -> dict[str, Any]:
        """All that another process needs to go on from here to the same bits."""
        return {**super().state(), "optimizer": self.optimizer.state_dict()}

    def check_state(self, state: Any, epoch: int) -> None:
        """As of any fold; and the optimiser's part has what a step of it reads."""
        super().check_state(state, epoch)
        check_optimizer(state["optimizer"], self.optimizer)

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        super().load_state(state)
        self.optimizer.load_state_dict(state["optimizer"])
        for values in self.optimizer.state.values():
            if "mu_product" in values:  # NAdam reads it at each step: on a GPU it would wait
                values["mu_product"] = values["mu_product"].cpu()
