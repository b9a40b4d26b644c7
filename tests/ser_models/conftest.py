"""Small models, and batches of turns of different lengths for them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ser_models import MODELS, Sizes
from ser_models.sequences import Output, Padded

CLASSES, SPEAKERS, SEGMENT = 4, 3, 40
DIMS = {"emobase_lld45": 45, "logmel3d": 12, "emobase_functionals": 20}

IAAN = {"hidden_size": 8, "attention_size": 6, "projection_size": 5, "dropout": 0.0}
ACRNN = {
    "first_maps": 3,
    "maps": 4,
    "conv_layers": 2,
    "linear_size": 7,
    "hidden_size": 6,
    "embedding_size": 5,
}
SMALL: dict[str, dict[str, Any]] = {
    "iaan": IAAN,
    "rand_iaan": IAAN,
    "bigru_iaa": IAAN,
    "bigru_att": IAAN,
    "bilstm_att": {"dense_size": 7, "hidden_size": 6, "dropout": 0.0},
    "acrnn": ACRNN,
    "acrnn_r": ACRNN,
    "ssa_crnn_r": ACRNN,
    "linear_svm": {},
}

LENGTHS = ([9, 5, 1, 8], [4, 0, 6, 3], [2, 8, 0, 0])
"""Of the current turns, and of the own and the other's turns before them."""


def _padded(values: torch.Tensor, lengths: list[int], extra: int = 0) -> Padded:
    rubbish = torch.full((values.shape[0], extra, values.shape[2]), 1e3, dtype=values.dtype)
    values = torch.cat([values.clone(), rubbish], dim=1)
    for row, length in enumerate(lengths):
        values[row, length:] = 1e3
    return Padded(values, torch.tensor(lengths))


@pytest.fixture
def padded() -> Callable[..., Padded]:
    """`values` with rubbish after each row's length, and `extra` further frames of it."""
    return _padded


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """A small model by its name, in evaluation; always the same weights."""

    def built(name: str, **hyperparameters: object) -> nn.Module:
        torch.manual_seed(1)
        sizes = Sizes(DIMS[MODELS[name].features], CLASSES, SPEAKERS, SEGMENT)
        model = MODELS[name](sizes, **(SMALL[name] | hyperparameters)).eval()
        if name == "linear_svm":  # zeros until it is fitted
            nn.init.normal_(model.linear.weight)
        return model

    return built


@pytest.fixture
def turns() -> Callable[..., list[Padded]]:
    """Four current turns for a model and their two context turns, with rubbish on padding."""

    def made(name: str, extra: tuple[int, int, int] = (0, 0, 0)) -> list[Padded]:
        torch.manual_seed(0)
        dims = DIMS[MODELS[name].features]
        lengths = ([1] * 4,) * 3 if MODELS[name].features == "emobase_functionals" else LENGTHS
        return [
            _padded(torch.randn(4, max(row), dims), row, more)
            for row, more in zip(lengths, extra, strict=True)
        ]

    return made


@pytest.fixture
def joint_loss() -> Callable[[nn.Module, Output], torch.Tensor]:
    """Cross-entropy, and what a model adds to it."""

    def loss(model: nn.Module, output: Output) -> torch.Tensor:
        total = nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 2, 3]))
        if output.speaker_logits is not None:
            speakers = nn.functional.cross_entropy(
                output.speaker_logits, torch.tensor([0, 1, 2, 1])
            )
            total = total + model.speaker_weight * speakers
        return total if output.penalty is None else total + output.penalty

    return loss
