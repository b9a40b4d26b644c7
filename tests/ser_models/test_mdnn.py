"""MDNN: its groups, its loss and its sizes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from features.sets import FEATURES
from ser_models import MODELS, EmotionModel, Sizes
from ser_models.mdnn import MDNN
from ser_models.sequences import Padded
from tests.ser_models.conftest import GROUPS

LABELS, SPEAKERS = torch.tensor([2, 0, 3, 2]), torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_the_extra_loss_is_the_mean_over_groups_of_their_cross_entropy(
    precision: torch.dtype,
    build: Callable[..., EmotionModel],
    turns: Callable[..., list[Padded]],
) -> None:
    model = build("mdnn", local_weight=0.37)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        output = model(*turns("mdnn"))
    parts = output.parts.detach().double().numpy()
    assert parts.shape == (4, 3, 4)
    posteriors = np.exp(parts) / np.exp(parts).sum(axis=2, keepdims=True)
    sums = [
        -np.log(posteriors[row, group, label])
        for row, label in enumerate(LABELS.tolist())
        for group in range(3)
    ]
    loss = model.extra_loss(output, LABELS, SPEAKERS)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.37 * sum(sums) / 3, rel=1e-5)


@pytest.mark.parametrize("group", range(3))
def test_a_local_classifier_reads_the_columns_of_its_group_only(
    group: int, build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    model, (current, *_) = build("mdnn"), turns("mdnn")
    current.values.requires_grad_()
    model(current).parts[:, group].abs().sum().backward()
    columns = list(GROUPS["emobase_functionals"].values())[group]
    read = current.values.grad.abs().sum((0, 1)).nonzero().flatten().tolist()
    assert read == sorted(columns)


def test_without_groups_all_columns_are_one_group() -> None:
    torch.manual_seed(0)
    model = MDNN(5, 3, {}, dropout=0.0)
    again = MDNN(5, 3, {"all": (0, 1, 2, 3, 4)}, dropout=0.0)
    again.load_state_dict(model.state_dict())
    batch = Padded(torch.randn(2, 1, 5), torch.ones(2, dtype=torch.int64))
    output = model(batch)
    assert output.parts.shape == (2, 1, 3)
    assert torch.equal(output.logits, again(batch).logits)


def test_the_number_of_parameters_at_the_default_sizes() -> None:
    features = FEATURES["emobase_functionals"]().load()
    local = 128 * (988 + 6) + 6 * 64 * (128 + 1) + 6 * 4 * (64 + 1)
    expected = local + 128 * (6 * 64 + 1) + 4 * (128 + 1)
    model = MODELS["mdnn"](Sizes(features.dims, 4, groups=features.groups))
    assert len(model.local) == 6
    assert sum(p.numel() for p in model.parameters()) == expected
    assert f"{expected:,} parameters" in MDNN.__doc__


def test_an_utterance_of_several_frames_is_an_error(build: Callable[..., EmotionModel]) -> None:
    with pytest.raises(ValueError, match="an utterance has 2 frames"):
        build("mdnn")(Padded(torch.zeros(1, 2, 20), torch.tensor([2])))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dims": 0},
        {"classes": 1},
        {"hidden_size": 0},
        {"local_size": 0},
        {"embedding_size": 0},
        {"dropout": 1.0},
        {"local_weight": -0.5},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        MDNN(**({"dims": 4, "classes": 4, "groups": {}} | wrong))


@pytest.mark.parametrize(
    "groups",
    [
        {"a": (0, 1), "b": (2,)},
        {"a": (0, 1), "b": (1, 2, 3)},
        {"a": (0, 1), "b": (2, 4)},
        {"a": (0, 1, 2, 3), "b": ()},
    ],
    ids=["column missing", "column twice", "column out of range", "empty group"],
)
def test_groups_that_do_not_divide_the_columns_are_refused(
    groups: dict[str, tuple[int, ...]],
) -> None:
    with pytest.raises(ValueError, match=r"groups .*: each of 4 columns must be in one group"):
        MDNN(4, 4, groups)
