"""BiLSTM+ATT against its layers, applied to single utterances without a mask."""

from collections.abc import Callable

import pytest
import torch

from ser_models import MODELS, EmotionModel, Sizes
from ser_models.bilstm_att import BiLSTMAttention
from ser_models.sequences import Padded


def test_bilstm_att_equals_its_layers(
    build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    model = build("bilstm_att")
    current = turns("bilstm_att")[0]
    output = model(current)
    for row, length in enumerate(current.lengths.tolist()):
        dense = torch.relu(model.second(torch.relu(model.first(current.values[row, :length]))))
        ahead, _ = model.recurrence.ahead(dense[None])
        behind, _ = model.recurrence.behind(dense.flip(0)[None])
        h = torch.cat([ahead[0], behind[0].flip(0)], dim=1)
        attention = torch.softmax(h @ model.pooling.score.weight[0], dim=0)
        weights = output.attention["current"][row, :length]
        torch.testing.assert_close(weights, attention, atol=1e-5, rtol=0)
        torch.testing.assert_close(output.embedding[row], attention @ h, atol=1e-5, rtol=0)
        logits = model.output(attention @ h)
        torch.testing.assert_close(output.logits[row], logits, atol=1e-5, rtol=0)


def test_the_number_of_parameters_at_the_published_sizes() -> None:
    dense = 512 * (45 + 1) + 512 * (512 + 1)
    blstm = 2 * 4 * (512 * 128 + 128 * 128 + 2 * 128)
    expected = dense + blstm + 256 + 4 * (256 + 1)
    model = MODELS["bilstm_att"](Sizes(45, 4))
    assert sum(p.numel() for p in model.parameters()) == expected
    assert f"{expected:,} parameters" in BiLSTMAttention.__doc__


def test_dropout_acts_in_training_only(
    build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    model = build("bilstm_att", dropout=0.5)
    current = turns("bilstm_att")[0]
    assert torch.equal(model(current).logits, model(current).logits)
    model.train()
    assert not torch.equal(model(current).logits, model(current).logits)


@pytest.mark.parametrize(
    "wrong",
    [
        {"dims": 0},
        {"classes": 1},
        {"dense_size": 0},
        {"hidden_size": 0},
        {"dropout": 1.0},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        BiLSTMAttention(**({"dims": 45, "classes": 4} | wrong))
