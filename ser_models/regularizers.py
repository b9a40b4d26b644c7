"""The "-r" of ACRNN-r and SSA-CRNN-r: a last layer that keeps its classes of one weight.

Source: the SSA-CRNN paper (Interspeech 2021). Against class collapse, every column W^c of the
last layer should have the L1 norm tau = N / (C * sum_i ||x_i||_1) for a batch x_1..x_N.
"""

from typing import Literal

import torch
from torch import Tensor, nn

RegularizerKind = Literal["none", "penalty", "projection"]

EPSILON = 1e-6
"""The least norm that is divided by: inputs that are all zero would make tau infinite (ours)."""

PENALTY_WEIGHT = 0.01
"""lambda where none is given. The paper gives none. At the initial weights of 128 inputs and four
classes the penalty is then about 1.3, as large as the cross-entropy of a guess."""

MOMENTUM = 0.1
"""How fast the running mean of ||x||_1 follows the batches: batch normalisation's usual value."""


def mean_norm(inputs: Tensor) -> Tensor:
    """() mean over the batch of ||x_i||_1, for `inputs` (batch, size)."""
    return inputs.abs().sum(dim=1).mean()


def target_norm(norm: Tensor, classes: int) -> Tensor:
    """() tau = 1 / (C * norm), where `norm` is the mean of ||x_i||_1 (N of them sum to N norm)."""
    return 1 / (classes * norm.clamp(min=EPSILON))


def norm_penalty(weight: Tensor, target: Tensor) -> Tensor:
    """() sum_c (||W^c||_1 - tau)^2, for `weight` (classes, size): a row is a column of W."""
    return ((weight.abs().sum(dim=1) - target) ** 2).sum()


def project(weight: Tensor, target: Tensor) -> Tensor:
    """(classes, size): each row of `weight` rescaled to the L1 norm tau."""
    return weight * (target / weight.abs().sum(dim=1, keepdim=True).clamp(min=EPSILON))


class RegularizedLinear(nn.Module):
    """The last layer: linear, of one of three kinds.

    `none`: a plain linear layer. `penalty`: lambda * sum_c (||W^c||_1 - tau)^2 goes into the loss.
    `projection`: each column is rescaled to norm tau in the forward pass. A logit of a projected
    layer is at most ||x||_inf * tau, 1 / C at an average norm: posteriors are then flat, and their
    order is what counts.

    Ours: tau is a target, and no gradient flows through it. A regularised layer has no bias, which
    could favour a class however alike the columns are. In evaluation tau may not depend on the
    batch, so `projection` keeps a running mean of ||x||_1 (momentum 0.1, set by the first batch),
    as batch normalisation keeps its statistics; before any batch it is 1.

    Parameters
    ----------
    weight : lambda of `penalty`; None is 0.01, for the paper gives none. An error with other kinds

    Shapes
    ------
    inputs : (batch, size)
    returns : (batch, classes), penalty () in training with `penalty` and else None
    """

    norm: Tensor
    batches: Tensor

    def __init__(
        self, size: int, classes: int, kind: RegularizerKind = "none", weight: float | None = None
    ) -> None:
        super().__init__()
        if kind not in ("none", "penalty", "projection"):
            raise ValueError(f"regularizer is {kind!r}: it is none, penalty or projection")
        if weight is not None and kind != "penalty":
            raise ValueError(
                f"regularizer_weight is {weight}, but regularizer is {kind}: only penalty has one"
            )
        if weight is not None and weight < 0:
            raise ValueError(f"regularizer_weight is {weight}: it must be at least 0")
        self.kind: RegularizerKind = kind
        self.penalty_weight = PENALTY_WEIGHT if weight is None else weight
        self.linear = nn.Linear(size, classes, bias=kind == "none")
        if kind == "projection":
            self.register_buffer("norm", torch.ones(()))
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        weight = self.linear.weight
        if self.kind == "none" or (self.kind == "penalty" and not self.training):
            return self.linear(inputs), None
        norm = self._norm(inputs.detach().to(weight.dtype))  # no half precision under autocast
        target = target_norm(norm, len(weight))
        if self.kind == "penalty":
            return self.linear(inputs), self.penalty_weight * norm_penalty(weight, target)
        return nn.functional.linear(inputs, project(weight, target)), None

    def _norm(self, inputs: Tensor) -> Tensor:
        """() mean ||x||_1: of the batch in training, the running one in evaluation."""
        if not self.training:
            return self.norm
        norm = mean_norm(inputs)
        if self.kind == "projection":
            running = torch.lerp(self.norm, norm, MOMENTUM)
            self.norm.copy_(torch.where(self.batches == 0, norm, running))
            self.batches.add_(1)
        return norm
