"""ACRNN against its layers, applied to single utterances without a mask."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from ser_models import MODELS, EmotionModel, Sizes
from ser_models.acrnn import ACRNN
from ser_models.sequences import Padded

DIMS, CLASSES = 120, 4


def _leaky(values: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(values, 0.01)


def _by_layers(model: EmotionModel, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (classes,) and attention (ceil(time / 2),) of one utterance (time, dims)."""
    encoder = model.encoder
    channels = torch.stack(frames.chunk(3, dim=1))  # (3, time, bands)
    maps = _leaky(
        functional.conv2d(channels, encoder.first.weight, encoder.first.bias, padding="same")
    )
    if len(frames) % 2:
        maps = torch.cat([maps, torch.zeros_like(maps[:, :1])], dim=1)
    maps = functional.max_pool2d(maps, 2)
    for layer in encoder.further:
        maps = _leaky(functional.conv2d(maps, layer.weight, layer.bias, padding="same"))
    steps = maps.transpose(0, 1).flatten(1) @ encoder.linear.weight.T
    norm = encoder.normalization
    steps = functional.batch_norm(
        steps, norm.running_mean, norm.running_variance, norm.weight, norm.bias
    )
    steps = _leaky(steps)
    ahead, _ = encoder.recurrence.ahead(steps[None])
    behind, _ = encoder.recurrence.behind(steps.flip(0)[None])
    h = torch.cat([ahead[0], behind[0].flip(0)], dim=1)
    attention = torch.softmax(h @ model.pooling.score.weight[0], dim=0)
    embedding = _leaky(model.projection(attention @ h))
    return model.output.linear(embedding), attention


def test_acrnn_equals_its_layers(
    build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    model = build("acrnn")
    norm = model.encoder.normalization
    with torch.no_grad():
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_variance.uniform_(0.01, 0.1)
    current = turns("acrnn")[0]
    output = model(current)
    for row, length in enumerate(current.lengths.tolist()):
        logits, attention = _by_layers(model, current.values[row, :length])
        torch.testing.assert_close(output.logits[row], logits, atol=1e-5, rtol=0)
        steps = (length + 1) // 2
        weights = output.attention["current"][row]
        torch.testing.assert_close(weights[:steps], attention, atol=1e-5, rtol=0)
        assert (weights[steps:] == 0).all()


def test_padding_does_not_change_a_training_step(
    build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    """Batch statistics cover real frames only."""
    short, long = build("acrnn").train(), build("acrnn").train()
    expected, padded = short(turns("acrnn")[0]), long(turns("acrnn", (7, 0, 0))[0])
    torch.testing.assert_close(padded.logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        long.encoder.normalization.running_mean, short.encoder.normalization.running_mean
    )
    for model, output in ((short, expected), (long, padded)):
        output.logits.square().sum().backward()
        assert model.encoder.first.weight.grad.abs().sum() > 0
    torch.testing.assert_close(
        long.encoder.first.weight.grad, short.encoder.first.weight.grad, atol=1e-6, rtol=1e-4
    )


def test_the_number_of_parameters_at_the_published_sizes() -> None:
    kernel, d = 5 * 3, 2 * 128
    convolutions = 128 * (3 * kernel + 1) + 256 * (128 * kernel + 1) + 4 * 256 * (256 * kernel + 1)
    linear = 20 * 256 * 768 + 2 * 768  # no bias, but batch normalisation's gain and offset
    blstm = 2 * 4 * (768 * 128 + 128 * 128 + 2 * 128)
    expected = convolutions + linear + blstm + d + 128 * (d + 1) + CLASSES * 128
    for name, biases in (("acrnn", CLASSES), ("acrnn_r", 0)):
        with torch.device("meta"):
            model = MODELS[name](Sizes(DIMS, CLASSES))
        assert sum(p.numel() for p in model.parameters()) == expected + biases
    assert f"{expected:,} parameters" in ACRNN.__doc__


def test_only_acrnn_r_has_a_regulariser(
    build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    current = turns("acrnn")[0]
    assert build("acrnn").train()(current).penalty is None
    assert build("acrnn_r").train()(current).penalty > 0
    assert build("acrnn_r").eval()(current).penalty is None
    assert build("acrnn_r", regularizer="projection").train()(current).penalty is None
    with pytest.raises(TypeError, match="regularizer"):
        build("acrnn", regularizer="penalty")


@pytest.mark.parametrize(
    "wrong",
    [
        {"dims": 45},
        {"classes": 1},
        {"maps": 0},
        {"conv_layers": 0},
        {"hidden_size": 0},
        {"embedding_size": 0},
        {"dropout": 1.0},
        {"regularizer": "none", "regularizer_weight": 0.1},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        ACRNN(**({"dims": 12, "classes": CLASSES} | wrong))
