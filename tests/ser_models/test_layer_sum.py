"""The two heads on encoders: the order of mean and projection, their sizes, and wrong values."""

import numpy as np
import pytest
import torch

from ser_models import MODELS, Sizes
from ser_models.layer_sum import LayerSum
from ser_models.mean_pool import MeanPool
from ser_models.sequences import Padded

LAYERS, SIZE = 3, 5
GROUPS = {f"layer_{n}": tuple(range(n * SIZE, (n + 1) * SIZE)) for n in range(LAYERS)}


def test_means_give_the_logits_of_superbs_head_on_frames() -> None:
    """SUPERB weighs and projects every frame, then takes the mean over time."""
    torch.manual_seed(0)
    model = LayerSum(LAYERS * SIZE, 4, GROUPS, projection_size=6)
    model.weights.data = torch.tensor([0.3, -0.7, 1.1])
    for frames in (1, 7, 400):
        states = torch.randn(LAYERS, frames, SIZE)
        mixed = sum(
            weight * layer
            for weight, layer in zip(torch.softmax(model.weights, 0), states, strict=True)
        )
        expected = model.output(model.projection(mixed).mean(dim=0))
        means = states.double().mean(dim=1).flatten().float()[None, None]
        logits = model(Padded(means, torch.tensor([1]))).logits[0]
        np.testing.assert_allclose(logits.detach(), expected.detach(), atol=1e-6)


def test_all_layers_weigh_the_same_at_first() -> None:
    model = LayerSum(LAYERS * SIZE, 4, GROUPS)
    np.testing.assert_allclose(torch.softmax(model.weights, 0).detach(), 1 / LAYERS)


@pytest.mark.parametrize(("name", "kind"), [("layer_sum", LayerSum), ("mean_pool", MeanPool)])
def test_the_number_of_parameters_at_the_sizes_of_a_base_model(name: str, kind: type) -> None:
    groups = {str(n): tuple(range(n * 768, (n + 1) * 768)) for n in range(13)}
    sizes = Sizes(13 * 768, 4, groups=groups) if name == "layer_sum" else Sizes(768, 4)
    count = sum(parameter.numel() for parameter in MODELS[name](sizes).parameters())
    assert f"{count:,} parameters" in kind.__doc__


def test_without_groups_there_is_one_layer() -> None:
    assert LayerSum(6, 2, {}).weights.shape == (1,)


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param({"a": (0, 1, 2), "b": (3, 4)}, id="sizes"),
        pytest.param({"a": (0, 1), "b": (2, 3)}, id="column is missing"),
        pytest.param({"a": (0, 1, 2), "b": (2, 3, 4)}, id="column twice"),
    ],
)
def test_groups_must_be_layers_of_one_size(groups: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="layer_sum needs layers of one size"):
        LayerSum(5, 2, groups)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (LayerSum, {"projection_size": 0}),
        (LayerSum, {"classes": 1}),
        (MeanPool, {"hidden_size": 0}),
        (MeanPool, {"dropout": 1.0}),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(kind: type, wrong: dict[str, float]) -> None:
    sizes = {"dims": 6, "classes": 4} | ({"groups": {}} if kind is LayerSum else {})
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        kind(**(sizes | wrong))
