"""Small models, and batches of turns of different lengths for them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ser_models import MODELS, EmotionModel, Sizes
from ser_models.sequences import Output, Padded

CLASSES, SPEAKERS, SEGMENT = 4, 3, 40
DIMS = {
    "emobase_lld45": 45,
    "logmel3d": 12,
    "emobase_functionals": 20,
    "encoder_layers": 20,
    "encoder_frames": 9,
}
GROUPS: dict[str, dict[str, tuple[int, ...]]] = {
    "emobase_functionals": {
        "first": (0, 5, 6, 11, 19),
        "second": (4, 3, 2, 1),
        "third": (7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18),
    },
    "encoder_layers": {
        "layer_0": (0, 2, 4, 6, 8),
        "layer_1": (1, 3, 5, 7, 9),
        "layer_2": (14, 13, 12, 11, 10),
        "layer_3": (15, 16, 17, 18, 19),
    },
}

IAAN = {"hidden_size": 8, "attention_size": 6, "projection_size": 5, "dropout": 0.0}
ACRNN = {
    "first_maps": 3,
    "maps": 4,
    "conv_layers": 2,
    "linear_size": 7,
    "hidden_size": 6,
    "embedding_size": 5,
}
ADRNN = {"maps": 3, "last_maps": 4, "linear_size": 7, "hidden_size": 6, "embedding_size": 5}
SMALL: dict[str, dict[str, Any]] = {
    "iaan": IAAN,
    "rand_iaan": IAAN,
    "bigru_iaa": IAAN,
    "bigru_att": IAAN,
    "bilstm_att": {"dense_size": 7, "hidden_size": 6, "dropout": 0.0},
    "acrnn": ACRNN,
    "acrnn_r": ACRNN,
    "ssa_crnn_r": ACRNN,
    "adrnn": ADRNN,
    "linear_svm": {},
    "svm_trees": {},
    "mdnn": {"hidden_size": 7, "local_size": 3, "embedding_size": 6, "dropout": 0.0},
    "cmn": {"hidden_size": 6, "hops": 3, "dropout": 0.0},
    "layer_sum": {"projection_size": 6},
    "mean_pool": {"hidden_size": 7},
}

LENGTHS = ([9, 5, 1, 8], [4, 0, 6, 3], [2, 8, 0, 0])
"""Of the current turns, of the speaker's own turns before them, and of the other speaker's."""


def _padded(values: torch.Tensor, lengths: list[int], extra: int = 0) -> Padded:
    noise = torch.full((values.shape[0], extra, values.shape[2]), 1e3, dtype=values.dtype)
    values = torch.cat([values.clone(), noise], dim=1)
    for row, length in enumerate(lengths):
        values[row, length:] = 1e3
    return Padded(values, torch.tensor(lengths))


@pytest.fixture
def padded() -> Callable[..., Padded]:
    """Pad `values`: large numbers after each row's length, and in `extra` more frames."""
    return _padded


@pytest.fixture
def build() -> Callable[..., EmotionModel]:
    """Build a small model by name, in evaluation mode, always with the same weights."""

    def small_model(name: str, **hyperparameters: object) -> EmotionModel:
        torch.manual_seed(1)
        features = MODELS[name].features
        sizes = Sizes(DIMS[features], CLASSES, SPEAKERS, SEGMENT, GROUPS.get(features, {}))
        model = MODELS[name](sizes, **(SMALL[name] | hyperparameters)).eval()
        if MODELS[name].fitted:  # its weights are zeros before `fit`
            nn.init.normal_(model.linear.weight)
        return model

    return small_model


@pytest.fixture
def turns() -> Callable[..., list[Padded]]:
    """Make four current turns for a model and their two context turns, padded."""

    def padded_turns(
        name: str,
        extra: tuple[int, int, int] = (0, 0, 0),
        lengths: tuple[list[int], list[int], list[int]] = LENGTHS,
    ) -> list[Padded]:
        torch.manual_seed(0)
        features = MODELS[name].features
        dims = DIMS[features]
        if MODELS[name].reads == "vector":  # a vector for each turn
            lengths = ([1] * 4, *lengths[1:])
        return [
            _padded(torch.randn(4, max(row), dims), row, frames)
            for row, frames in zip(lengths, extra, strict=True)
        ]

    return padded_turns


@pytest.fixture
def joint_loss() -> Callable[[EmotionModel, Output], torch.Tensor]:
    """Sum the cross-entropy, the model's extra loss and the regulariser's penalty."""

    def loss(model: EmotionModel, output: Output) -> torch.Tensor:
        labels, speakers = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, 1])
        total = nn.functional.cross_entropy(output.logits, labels)
        extra = model.extra_loss(output, labels, speakers)
        return sum((term for term in (extra, output.penalty) if term is not None), total)

    return loss
