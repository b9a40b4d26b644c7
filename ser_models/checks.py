"""Checks of sizes, and what weight decay applies to: small things that every model needs."""

from torch import Tensor, nn


def at_least(minimum: int, **sizes: int) -> None:
    """Refuse the first of `sizes` that is below `minimum`, by its name."""
    for name, size in sizes.items():
        if size < minimum:
            raise ValueError(f"{name} is {size}: it must be at least {minimum}")


def is_share(**shares: float) -> None:
    """Refuse the first of `shares` that is no share of values to drop, by its name."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} is {share}: it must be at least 0 and below 1")


def weight_matrices(model: nn.Module) -> list[Tensor]:
    """The parameters of more than one dimension: no biases, no gains, no queries over time."""
    return [parameter for parameter in model.parameters() if parameter.ndim > 1]
