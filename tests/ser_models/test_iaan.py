import pytest
import torch
from torch import nn

from ser_models import MODELS
from ser_models.sequences import MaskedGRU, Padded

DIMS, CLASSES = 45, 4
SMALL = {"hidden_size": 8, "attention_size": 6, "projection_size": 5, "dropout": 0.0}
LENGTHS = ([9, 5, 1, 7], [4, 0, 6, 3], [2, 8, 0, 0])


def padded(values: torch.Tensor, lengths: list[int], extra: int = 0) -> Padded:
    """`values` with rubbish after each row's length, and `extra` further frames of it."""
    rubbish = torch.full((values.shape[0], extra, values.shape[2]), 1e3)
    values = torch.cat([values.clone(), rubbish], dim=1)
    for row, length in enumerate(lengths):
        values[row, length:] = 1e3
    return Padded(values, torch.tensor(lengths))


@pytest.fixture
def turns() -> list[Padded]:
    torch.manual_seed(0)
    return [padded(torch.randn(4, 9, DIMS), lengths) for lengths in LENGTHS]


def build(name: str, **hyperparameters: object) -> nn.Module:
    torch.manual_seed(1)
    return MODELS[name](DIMS, CLASSES, **(SMALL | hyperparameters)).eval()


@pytest.mark.parametrize("name", MODELS)
def test_padding_further_changes_no_logit(name: str, turns: list[Padded]) -> None:
    model = build(name)
    longer = [
        padded(turn.values, turn.lengths.tolist(), extra)
        for turn, extra in zip(turns, (11, 30, 3), strict=True)
    ]
    torch.testing.assert_close(model(*longer).logits, model(*turns).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_one_gives_the_logits_of_a_batch_of_many(name: str, turns: list[Padded]) -> None:
    model = build(name)
    together = model(*turns).logits
    for row in range(4):
        alone = [Padded(t.values[row : row + 1], t.lengths[row : row + 1]) for t in turns]
        torch.testing.assert_close(model(*alone).logits[0], together[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_receives_a_gradient(name: str, turns: list[Padded]) -> None:
    model = build(name).train()
    nn.functional.cross_entropy(model(*turns).logits, torch.tensor([0, 1, 2, 3])).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


def test_parameters_at_the_published_sizes() -> None:
    counts = {
        name: sum(p.numel() for p in builder(DIMS, CLASSES).parameters())
        for name, builder in MODELS.items()
    }
    gru = 3 * (DIMS * 256 + 256 * 256 + 2 * 256)  # one direction of the BiGRU
    context = 3 * (DIMS * 512 + 512 * 512 + 2 * 512)
    pooling = 512 * 512 + 512 + 512
    interaction = 3 * 512 * 512 + 512 + 512
    full = 2 * gru + 2 * context + 2 * pooling + interaction + 64 * 1537 + 4 * 65
    assert counts["iaan"] == counts["rand_iaan"] == full == 3_595_076
    assert counts["bigru_iaa"] == full - 64 * 1024 == 3_529_540
    assert counts["bigru_att"] == 2 * gru + pooling + 64 * 513 + 4 * 65 == 761_668


def test_an_absent_context_is_a_zero_vector() -> None:
    """Absent context: what is left is the attention's own bias, as if nothing had been said."""
    model = build("iaan")
    current = padded(torch.randn(1, 6, DIMS), [6])
    absent = padded(torch.randn(1, 4, DIMS), [0])
    output = model(current, absent, absent)
    states = model.current(current)
    zero = torch.zeros(1, SMALL["hidden_size"])
    pooled, weights = model.attention(states, zero, zero, current.mask)
    embedding = torch.relu(model.projection(torch.cat([pooled, zero, zero], dim=1)))
    torch.testing.assert_close(output.logits, model.output(embedding))
    torch.testing.assert_close(output.attention["current"], weights)
    assert (output.attention["own"] == 0).all()


def test_context_matters_only_to_the_models_that_attend_to_it(turns: list[Padded]) -> None:
    current, own, other = turns
    changed = Padded(own.values + 1, own.lengths)
    for name in MODELS:
        model = build(name)
        same = torch.equal(
            model(current, own, other).logits[0], model(current, changed, other).logits[0]
        )
        assert same == (name == "bigru_att"), name


def test_gru_is_an_unbatched_loop() -> None:
    torch.manual_seed(2)
    layer = MaskedGRU(3, 4, bidirectional=True)
    sequences = padded(torch.randn(3, 5, 3), [5, 2, 4])
    states = layer(sequences)
    for row, length in enumerate([5, 2, 4]):
        frames = sequences.values[row, :length]
        for direction, order in (
            (layer.ahead, range(length)),
            (layer.behind, reversed(range(length))),
        ):
            w_i, w_h, b_i, b_h = (
                getattr(direction, f"{kind}_l0")
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = torch.zeros(4)
            for t in order:
                r_i, z_i, n_i = (w_i @ frames[t] + b_i).chunk(3)
                r_h, z_h, n_h = (w_h @ h + b_h).chunk(3)
                reset, update = torch.sigmoid(r_i + r_h), torch.sigmoid(z_i + z_h)
                h = (1 - update) * torch.tanh(n_i + reset * n_h) + update * h
                part = states[row, t, :4] if direction is layer.ahead else states[row, t, 4:]
                torch.testing.assert_close(part, h, atol=1e-6, rtol=1e-5)
        assert (states[row, length:] == 0).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"hidden_size": 7}, "hidden_size"),
        ({"dropout": 1.0}, "dropout"),
        ({"attention_size": 0}, "attention_size"),
    ],
)
def test_impossible_sizes_are_refused_by_name(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build("iaan", **wrong)


def test_context_must_be_passed_where_it_is_used(turns: list[Padded]) -> None:
    with pytest.raises(ValueError, match="context"):
        build("iaan")(turns[0])
