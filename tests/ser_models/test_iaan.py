"""IAAN and its variants."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ser_models import MODELS, EmotionModel, Sizes
from ser_models.iaan import IAAN
from ser_models.sequences import Padded

DIMS, CLASSES = 45, 4
VARIANTS = ("iaan", "rand_iaan", "bigru_iaa", "bigru_att")


def test_the_number_of_parameters_at_the_published_sizes() -> None:
    counts = {
        name: sum(p.numel() for p in MODELS[name](Sizes(DIMS, CLASSES)).parameters())
        for name in VARIANTS
    }
    gru = 3 * (DIMS * 256 + 256 * 256 + 2 * 256)  # one direction of the BiGRU
    context = 3 * (DIMS * 512 + 512 * 512 + 2 * 512)
    pooling = 512 * 512 + 512 + 512
    interaction = 3 * 512 * 512 + 512 + 512
    full = 2 * gru + 2 * context + 2 * pooling + interaction + 64 * 1537 + 4 * 65
    assert counts["iaan"] == counts["rand_iaan"] == full
    assert counts["bigru_iaa"] == full - 64 * 1024
    assert counts["bigru_att"] == 2 * gru + pooling + 64 * 513 + 4 * 65
    for count in counts.values():
        assert f"{count:,}" in IAAN.__doc__


def test_an_absent_context_is_a_zero_vector(
    build: Callable[..., EmotionModel], padded: Callable[..., Padded]
) -> None:
    model = build("iaan")
    current = padded(torch.randn(1, 6, DIMS), [6])
    absent = padded(torch.randn(1, 4, DIMS), [0])
    output = model(current, absent, absent)
    states = model.current(current)
    zero = torch.zeros(1, states.shape[2])
    pooled, weights = model.attention(states, zero, zero, current.mask)
    embedding = torch.relu(model.projection(torch.cat([pooled, zero, zero], dim=1)))
    torch.testing.assert_close(output.logits, model.output(embedding))
    torch.testing.assert_close(output.attention["current"], weights)
    assert (output.attention["own"] == 0).all()


def test_context_changes_only_models_that_read_it(
    build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    current, own, other = turns("iaan")
    changed = Padded(own.values + 1, own.lengths)
    for name in VARIANTS:
        model = build(name)
        same = torch.equal(
            model(current, own, other).logits[0], model(current, changed, other).logits[0]
        )
        assert same == (name == "bigru_att"), name


def test_a_normalised_projection_has_mean_0_and_deviation_1_before_its_relu(
    build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    plain, model = build("bigru_att"), build("bigru_att", normalize_projection=True)
    model.load_state_dict(plain.state_dict(), strict=False)
    batch = turns("bigru_att")
    pooled, _ = plain.attention(plain.current(batch[0]), batch[0].mask)
    projected = plain.projection(pooled).detach().numpy()
    deviation = np.sqrt(projected.var(axis=1, keepdims=True) + 1e-5)
    expected = np.maximum((projected - projected.mean(axis=1, keepdims=True)) / deviation, 0)
    np.testing.assert_allclose(model(*batch).embedding.detach().numpy(), expected, atol=1e-5)


def test_weight_decay_applies_to_the_two_projection_layers(
    build: Callable[..., EmotionModel],
) -> None:
    model = build("iaan", normalize_projection=True)
    decayed = {id(parameter) for parameter in model.decayed_parameters()}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert names == {"projection.weight", "projection.bias", "output.weight", "output.bias"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": 7},
        {"dropout": 1.0},
        {"attention_size": 0},
        {"projection_size": 0},
        {"dims": 0},
        {"classes": 1},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(wrong: dict[str, object]) -> None:
    name, value = list(wrong.items())[-1]
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        IAAN(**({"dims": DIMS, "classes": CLASSES} | wrong))
