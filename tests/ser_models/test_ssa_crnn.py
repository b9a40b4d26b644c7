"""SSA-CRNN-r: its layers, its attention and its joint training."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from ser_models import MODELS, EmotionModel, Sizes
from ser_models.sequences import Padded
from ser_models.ssa_crnn import SSACRNN

CLASSES, SPEAKERS = 4, 3


@pytest.fixture
def model(build: Callable[..., EmotionModel]) -> EmotionModel:
    return build("ssa_crnn_r")


@pytest.fixture
def current(turns: Callable[..., list[Padded]]) -> Padded:
    return turns("ssa_crnn_r")[0]


def test_ssa_crnn_equals_its_layers(model: EmotionModel, current: Padded) -> None:
    output = model(current)
    h_em, mask = model.emotion_encoder(current)
    h_sp, _ = model.speaker_encoder(current)
    c_em, a_em, a_sp = model.attention(h_em, h_sp, mask)
    c_sp, pooling = model.speaker_pooling(h_sp, mask)
    z_em = functional.leaky_relu(model.emotion_projection(c_em), 0.01)
    z_sp = functional.leaky_relu(model.speaker_projection(c_sp), 0.01)
    torch.testing.assert_close(output.embedding, z_em)
    torch.testing.assert_close(output.speaker_embedding, z_sp)
    torch.testing.assert_close(output.logits, model.output.linear(z_em))
    torch.testing.assert_close(output.speaker_logits, model.speaker_output(z_sp))
    expected = {"emotion": a_em, "speaker": a_sp, "speaker_pooling": pooling}
    torch.testing.assert_close(output.attention, expected)
    assert output.logits.shape == (4, CLASSES)
    assert output.speaker_logits.shape == (4, SPEAKERS)


def test_emotion_and_speaker_attention_share_one_softmax(
    model: EmotionModel, current: Padded
) -> None:
    attention = model(current).attention
    both = attention["emotion"].sum(1) + attention["speaker"].sum(1)
    torch.testing.assert_close(both, torch.ones(4))
    assert (attention["emotion"].sum(1) < 1).all()


def test_the_networks_are_trained_together(model: EmotionModel, current: Padded) -> None:
    """The emotion loss trains both encoders, the speaker loss only the speaker encoder."""
    output = model.train()(current)
    functional.cross_entropy(output.logits, torch.arange(4)).backward(retain_graph=True)
    assert model.speaker_encoder.first.weight.grad.abs().sum() > 0
    assert model.speaker_output.weight.grad is None
    model.zero_grad()
    functional.cross_entropy(output.speaker_logits, torch.tensor([0, 1, 2, 0])).backward()
    assert model.speaker_encoder.first.weight.grad.abs().sum() > 0
    assert model.emotion_encoder.first.weight.grad is None


def test_the_number_of_parameters_at_the_published_sizes() -> None:
    kernel, d, speakers, segment = 5 * 3, 2 * 128, 10, 300
    convolutions = 128 * (3 * kernel + 1) + 256 * (128 * kernel + 1) + 4 * 256 * (256 * kernel + 1)
    encoder = convolutions + 20 * 256 * 768 + 2 * 768 + 2 * 4 * (768 * 128 + 128**2 + 2 * 128)
    attention = segment // 2 + 4 * d * d
    emotion = 128 * (2 * d + 1) + CLASSES * 128  # the regularised layer has no bias
    speaker = d + 128 * (d + 1) + speakers * (128 + 1)
    expected = 2 * encoder + attention + emotion + speaker
    with torch.device("meta"):
        model = MODELS["ssa_crnn_r"](Sizes(120, CLASSES, speakers, segment))
    assert sum(p.numel() for p in model.parameters()) == expected
    assert f"{expected:,} parameters" in SSACRNN.__doc__


def test_the_query_has_a_weight_for_each_step_of_a_segment() -> None:
    for segment in (9, 10):
        model = SSACRNN(12, CLASSES, SPEAKERS, segment, first_maps=1, maps=1, conv_layers=1)
        assert len(model.attention.query) == 5


def test_a_batch_longer_than_a_segment_is_an_error(model: EmotionModel) -> None:
    with pytest.raises(ValueError, match="41 frames, but segment is 40"):
        model(Padded(torch.randn(1, 41, 12), torch.tensor([41])))


@pytest.mark.parametrize(
    "wrong",
    [
        {"dims": 121},
        {"classes": 1},
        {"speakers": 1},
        {"segment": 0},
        {"speaker_weight": -1.0},
        {"dropout": -0.1},
        {"regularizer": "projection", "regularizer_weight": 0.1},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    name, value = list(wrong.items())[-1]
    sizes = {"dims": 12, "classes": CLASSES, "speakers": SPEAKERS, "segment": 10}
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        SSACRNN(**(sizes | wrong))
