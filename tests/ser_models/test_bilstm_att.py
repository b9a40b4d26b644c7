from collections.abc import Callable

import pytest
import torch
from torch import nn

from ser_models import MODELS, Sizes
from ser_models.bilstm_att import BiLSTMAttention
from ser_models.sequences import Padded


def test_bilstm_att_is_its_layers(
    build: Callable[..., nn.Module], turns: Callable[..., list[Padded]]
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


def test_parameters_at_the_published_sizes() -> None:
    dense = 512 * (45 + 1) + 512 * (512 + 1)
    blstm = 2 * 4 * (512 * 128 + 128 * 128 + 2 * 128)
    expected = dense + blstm + 256 + 4 * (256 + 1)
    model = MODELS["bilstm_att"](Sizes(45, 4))
    assert sum(p.numel() for p in model.parameters()) == expected
    assert f"{expected:,} parameters" in BiLSTMAttention.__doc__


def test_dropout_is_for_training_alone(
    build: Callable[..., nn.Module], turns: Callable[..., list[Padded]]
) -> None:
    model = build("bilstm_att", dropout=0.5)
    current = turns("bilstm_att")[0]
    assert torch.equal(model(current).logits, model(current).logits)
    model.train()
    assert not torch.equal(model(current).logits, model(current).logits)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"dims": 0}, "dims is 0"),
        ({"classes": 1}, "classes is 1"),
        ({"dense_size": 0}, "dense_size is 0"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_impossible_values_are_refused_by_name(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BiLSTMAttention(**({"dims": 45, "classes": 4} | wrong))
