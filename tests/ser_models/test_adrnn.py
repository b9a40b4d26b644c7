"""ADRNN: its centres, its padding and its sizes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ser_models import MODELS, EmotionModel, Sizes
from ser_models.adrnn import ADRNN, NormalizedConvolution
from ser_models.sequences import Padded

CLASSES = 4
LABELS, SPEAKERS = torch.tensor([2, 0, 3, 2]), torch.tensor([0, 1, 2, 1])
Build = Callable[..., EmotionModel]
Turns = Callable[..., list[Padded]]


def test_the_extra_loss_is_half_the_squared_distance_to_the_centre_of_the_class(
    build: Build, turns: Turns
) -> None:
    model = build("adrnn", center_weight=0.3).train()
    nn.init.normal_(model.centers)
    output = model(*turns("adrnn"))
    loss = model.extra_loss(output, LABELS, SPEAKERS)
    x, centers = output.embedding.detach().double().numpy(), model.centers.double().numpy()
    expected = sum(
        0.3 / 2 * np.sum((x[row] - centers[label]) ** 2) for row, label in enumerate(LABELS)
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert model.centers.grad is None
    assert not model.centers.requires_grad
    assert "centers" not in dict(model.named_parameters())


def test_the_centres_move_by_the_equation(build: Build) -> None:
    model = build("adrnn", center_rate=0.7).double()
    rng = np.random.default_rng(0)
    labels = np.asarray([2, 0, 2, 2, 3, 0])  # class 1 is not in the batch
    x, before = rng.normal(size=(6, 5)), rng.normal(size=(CLASSES, 5))
    model.centers.copy_(torch.from_numpy(before))
    model.after_step(torch.from_numpy(x), torch.from_numpy(labels))
    expected = before.copy()
    for name in range(CLASSES):
        mine = [x[row] for row in range(6) if labels[row] == name]
        expected[name] -= 0.7 * sum((before[name] - each) for each in mine) / (1 + len(mine))
    np.testing.assert_allclose(model.centers.numpy(), expected, atol=1e-15)
    assert (model.centers.numpy()[1] == before[1]).all()


def test_neither_a_forward_pass_nor_a_loss_moves_the_centres(build: Build, turns: Turns) -> None:
    for model in (build("adrnn").train(), build("adrnn").eval()):
        nn.init.normal_(model.centers)
        before = model.centers.clone()
        model.extra_loss(model(*turns("adrnn")), LABELS, SPEAKERS)
        assert torch.equal(model.centers, before)


def test_the_centres_are_part_of_the_saved_state(build: Build) -> None:
    model, other = build("adrnn"), build("adrnn")
    nn.init.normal_(model.centers)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.centers, model.centers)


def test_the_normalisation_is_that_of_pytorch_over_real_steps_of_a_map() -> None:
    """Rows of full length: `nn.BatchNorm2d` after `nn.Conv2d`."""
    torch.manual_seed(0)
    layer = NormalizedConvolution(2, 3, 3, 2).train()
    norm = nn.BatchNorm2d(3).train()
    maps = torch.randn(4, 2, 7, 5)
    expected = norm(nn.functional.conv2d(maps, layer.convolution.weight, padding=2, dilation=2))
    torch.testing.assert_close(layer(maps, torch.ones(4, 7, dtype=torch.bool)), expected)
    torch.testing.assert_close(layer.normalization.running_mean, norm.running_mean)
    torch.testing.assert_close(layer.normalization.running_variance, norm.running_var)


def test_padding_does_not_change_a_training_step(build: Build, turns: Turns) -> None:
    """Batch statistics cover real frames only."""
    short, long = build("adrnn").train(), build("adrnn").train()
    expected, padded = short(turns("adrnn")[0]), long(turns("adrnn", (7, 0, 0))[0])
    torch.testing.assert_close(padded.logits, expected.logits, atol=1e-5, rtol=0)
    for name, buffer in short.named_buffers():
        torch.testing.assert_close(dict(long.named_buffers())[name], buffer)
    for model, output in ((short, expected), (long, padded)):
        output.logits.square().sum().backward()
        assert model.encoder.first.weight.grad.abs().sum() > 0
    torch.testing.assert_close(
        long.encoder.first.weight.grad, short.encoder.first.weight.grad, atol=1e-6, rtol=1e-3
    )


@pytest.mark.parametrize(("pool", "steps"), [(1, [9, 5, 1, 8]), (2, [5, 3, 1, 4])])
def test_a_step_is_as_many_frames_as_the_pool(
    pool: int, steps: list[int], build: Build, turns: Turns
) -> None:
    model = build("adrnn", pool=pool)
    attention = model(*turns("adrnn")).attention["current"]
    assert (attention > 0).sum(1).tolist() == steps
    torch.testing.assert_close(attention.sum(1), torch.ones(4))


def test_the_number_of_parameters_at_the_default_sizes() -> None:
    kernel, d = 3 * 3, 2 * 128
    first = 128 * (3 * kernel + 1)
    dilated = 2 * 128 * 128 * kernel + 2 * 256 * 128 * kernel  # no bias
    norms = 2 * (128 + 128 + 256 + 768) + 256  # that of the skip has no offset
    blstm = 2 * 4 * (768 * 128 + 128 * 128 + 2 * 128)
    expected = first + dilated + norms + 20 * 256 * 768 + blstm + d + 64 * (d + 1) + CLASSES * 65
    with torch.device("meta"):
        model = MODELS["adrnn"](Sizes(120, CLASSES))
    assert sum(p.numel() for p in model.parameters()) == expected
    assert f"{expected:,} parameters" in ADRNN.__doc__


@pytest.mark.parametrize(
    "wrong",
    [
        {"dims": 45},
        {"dims": 10, "pool": 1},
        {"classes": 1},
        {"maps": 0},
        {"last_maps": 0},
        {"kernel_size": 2},
        {"dilation": 0},
        {"pool": 0},
        {"linear_size": 0},
        {"hidden_size": 0},
        {"embedding_size": 0},
        {"dropout": 1.0},
        {"center_weight": -0.1},
        {"center_rate": 1.1},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        ADRNN(**({"dims": 12, "classes": CLASSES} | wrong))
