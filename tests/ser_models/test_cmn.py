"""CMN: its size, its histories, and what it refuses."""

from collections.abc import Callable

import pytest
import torch

from ser_models import MODELS, EmotionModel, Sizes
from ser_models.sequences import Padded

Build = Callable[..., EmotionModel]
Turns = Callable[..., list[Padded]]


def test_the_published_size() -> None:
    model = MODELS["cmn"](Sizes(988, 4))
    assert sum(parameter.numel() for parameter in model.parameters()) == 874_504


def test_an_empty_history_adds_nothing(build: Build, turns: Turns) -> None:
    """Whatever the padding holds: without histories, the query alone passes through the hops."""
    model = build("cmn")
    current, own, other = turns("cmn")
    empty = [Padded(part.values, torch.zeros_like(part.lengths)) for part in (own, other)]
    output = model(current, *empty)
    query = torch.tanh(model.query(current.values[:, 0]))
    for _ in range(3):
        query = torch.tanh(query)
    torch.testing.assert_close(output.logits, model.output(query))
    assert all((weights == 0).all() for weights in output.attention.values())
    output.logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("absent", [1, 2])
def test_one_empty_history_leaves_the_other_one(absent: int, build: Build, turns: Turns) -> None:
    model = build("cmn")
    batch = turns("cmn")
    batch[absent] = Padded(batch[absent].values, torch.zeros_like(batch[absent].lengths))
    one = model(*batch)
    batch[absent] = Padded(torch.zeros(4, 1, 20), torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(model(*batch).logits, one.logits)


def test_the_order_of_the_turns_matters(build: Build, turns: Turns) -> None:
    model = build("cmn")
    current, own, other = turns("cmn")
    turned = own.values.clone()
    turned[2, :6] = own.values[2, :6].flip(0)
    plain, reverse = (model(current, Padded(v, own.lengths), other) for v in (own.values, turned))
    changed = (plain.logits - reverse.logits).abs().max(dim=1).values
    assert changed[2] > 1e-4
    assert (changed[[0, 1, 3]] < 1e-6).all()


def test_the_two_histories_have_weights_of_their_own(build: Build, turns: Turns) -> None:
    model = build("cmn")
    current, own, other = turns("cmn")
    assert not torch.allclose(model(current, own, other).logits, model(current, other, own).logits)


def test_an_utterance_of_several_frames_is_refused(build: Build, turns: Turns) -> None:
    _, own, other = turns("cmn")
    frames = Padded(torch.zeros(4, 3, 20), torch.tensor([1, 3, 1, 1]))
    with pytest.raises(ValueError, match="an utterance has 3 frames, but this model reads one"):
        build("cmn")(frames, own, other)


@pytest.mark.parametrize("name", ["hidden_size", "hops"])
def test_a_wrong_size_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0: it must be at least 1"):
        MODELS["cmn"](Sizes(988, 4), **{name: 0})
