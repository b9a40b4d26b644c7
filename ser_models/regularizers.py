"""The regularised last layer: the "-r" of ACRNN-r and SSA-CRNN-r.

Source: the SSA-CRNN paper (Interspeech 2021). To prevent class collapse, every column W^c of the
last layer should have the L1 norm tau = N / (C * sum_i ||x_i||_1) for a batch x_1..x_N. The paper
states this equality, and does not say how the layer reaches it: `penalty` and `projection` are
ours.
"""

from typing import Literal

import torch
from torch import Tensor, nn

RegularizerKind = Literal["none", "penalty", "projection"]

EPSILON = 1e-6  # the smallest divisor (ours): inputs of zeros would make tau infinite
MOMENTUM = 0.1  # of the running mean of ||x||_1: the weight of a new batch, as in batch norm
PENALTY_WEIGHT = 0.01
"""The default of lambda (ours). At the initial weights of 128 inputs and four classes, the penalty
is then about 1.3, as large as the cross-entropy of a guess."""


def mean_norm(inputs: Tensor) -> Tensor:
    """() mean over the batch of ||x_i||_1, for `inputs` (batch, size)."""
    return inputs.abs().sum(dim=1).mean()


def target_norm(norm: Tensor, classes: int) -> Tensor:
    """() tau = 1 / (C * norm); `norm` is the mean of ||x_i||_1 over the batch."""
    return 1 / (classes * norm.clamp(min=EPSILON))


def norm_penalty(weight: Tensor, target: Tensor) -> Tensor:
    """() sum_c (||W^c||_1 - tau)^2, for `weight` (classes, size): a row is a column of W."""
    return ((weight.abs().sum(dim=1) - target) ** 2).sum()


def project(weight: Tensor, target: Tensor) -> Tensor:
    """(classes, size): `weight` with each row rescaled to the L1 norm tau."""
    return weight * (target / weight.abs().sum(dim=1, keepdim=True).clamp(min=EPSILON))


class RegularizedLinear(nn.Module):
    """A linear last layer with an optional regulariser.

    `none`: a plain linear layer. `penalty`: the loss contains lambda * sum_c (||W^c||_1 - tau)^2.
    `projection`: the forward pass rescales each column to the norm tau. A logit is then at most
    ||x||_inf * tau, or 1 / C at an average norm: posteriors are flat, and only their order counts.

    Ours: tau is a target, and no gradient flows through it. A regularised layer has no bias,
    because a bias can favour a class even if all columns have the same norm. In evaluation, tau
    must not depend on the batch, so `projection` keeps a running mean of ||x||_1, as batch
    normalisation does. Its momentum is 0.1, the first batch sets it, and it starts at 1.

    weight : lambda of `penalty`; None means 0.01. An error with the other kinds
    inputs : (batch, size)
    returns : (batch, classes) logits; () penalty in training with `penalty`, otherwise None
    """

    norm: Tensor
    batches: Tensor

    def __init__(
        self, size: int, classes: int, kind: RegularizerKind = "none", weight: float | None = None
    ) -> None:
        super().__init__()
        if kind not in ("none", "penalty", "projection"):
            raise ValueError(f"regularizer is {kind!r}: it must be none, penalty or projection")
        if weight is not None and kind != "penalty":
            raise ValueError(f"regularizer_weight is {weight}, but {kind} has no weight: remove it")
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
        if self.training:
            norm = mean_norm(inputs.detach().to(weight.dtype))  # autocast gives half precision
            if self.kind == "projection":
                running = torch.lerp(self.norm, norm, MOMENTUM)
                self.norm.copy_(torch.where(self.batches == 0, norm, running))
                self.batches.add_(1)
        else:
            norm = self.norm
        target = target_norm(norm, len(weight))
        if self.kind == "penalty":
            return self.linear(inputs), self.penalty_weight * norm_penalty(weight, target)
        return nn.functional.linear(inputs, project(weight, target)), None
