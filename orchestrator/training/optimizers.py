"""Adam and NAdam with the bits of `torch.optim`, without its classes.

The classes of torch 2.13 import torch._dynamo when they are made, which takes a worker about two
seconds. The functions that the classes call do not.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.nadam import nadam

Kind = Literal["adam", "nadam"]

_BETAS = {"beta1": 0.9, "beta2": 0.999}
_EPSILON = 1e-8
_MOMENTUM_DECAY = 4e-3  # of NAdam


class Optimizer:
    """Adam (Kingma and Ba 2015) or NAdam (Dozat 2016), with coupled L2 weight decay.

    Betas, epsilon and momentum decay are torch's defaults. Each parameter must have a gradient.

    groups : parameters and their weight decay
    state : for each parameter, in the order of `groups`: `step`, `exp_avg` and `exp_avg_sq`, for
        NAdam also `mu_product`. Numbers are on the CPU, because the host reads them at each step
    """

    def __init__(
        self, kind: Kind, groups: Sequence[tuple[list[Tensor], float]], learning_rate: float
    ) -> None:
        self.kind, self.groups, self.learning_rate = kind, groups, learning_rate
        numbers = {"step": 0.0} | ({"mu_product": 1.0} if kind == "nadam" else {})
        self.state = [
            {name: torch.tensor(value) for name, value in numbers.items()}
            | {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            for parameters, _ in groups
            for parameter in parameters
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters with their gradients."""
        states = iter(self.state)
        for parameters, decay in self.groups:
            own = [next(states) for _ in parameters]
            gradients = [p.grad for p in parameters if p.grad is not None]
            steps, means, squares = (
                [state[name] for state in own] for name in ("step", "exp_avg", "exp_avg_sq")
            )
            common: dict[str, Any] = {"lr": self.learning_rate, "weight_decay": decay}
            common |= {"eps": _EPSILON, **_BETAS}
            if self.kind == "adam":
                adam(
                    parameters, gradients, means, squares, [], steps,
                    amsgrad=False, maximize=False, **common,
                )  # fmt: skip
            else:
                products = [state["mu_product"] for state in own]
                nadam(
                    parameters, gradients, means, squares, products, steps,
                    momentum_decay=_MOMENTUM_DECAY, **common,
                )  # fmt: skip

    @torch.no_grad()
    def load(self, state: list[dict[str, Tensor]]) -> None:
        """Copy `state`, which has the names and shapes of `self.state`."""
        for own, values in zip(self.state, state, strict=True):
            for name, tensor in own.items():
                tensor.copy_(values[name])
