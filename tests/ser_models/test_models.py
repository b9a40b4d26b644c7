"""What holds for every model of the registry, and the registry itself."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from ser_models import MODELS, Model, Sizes
from ser_models.sequences import Output, Padded

Build = Callable[..., nn.Module]
Turns = Callable[..., list[Padded]]
every_model = pytest.mark.parametrize("name", MODELS)
every_network = pytest.mark.parametrize("name", [n for n in MODELS if n != "linear_svm"])


@every_model
def test_padding_further_changes_nothing(name: str, build: Build, turns: Turns) -> None:
    model = build(name)
    expected, output = model(*turns(name)), model(*turns(name, (11, 30, 3)))
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.embedding, expected.embedding, atol=1e-5, rtol=0)
    if expected.speaker_logits is not None:
        torch.testing.assert_close(
            output.speaker_logits, expected.speaker_logits, atol=1e-5, rtol=0
        )
    for key, weights in expected.attention.items():
        time = weights.shape[1]
        torch.testing.assert_close(output.attention[key][:, :time], weights, atol=1e-5, rtol=0)
        assert (output.attention[key][:, time:] == 0).all()


@every_model
def test_a_batch_of_one_gives_the_logits_of_a_batch_of_many(
    name: str, build: Build, turns: Turns
) -> None:
    model = build(name)
    batch = turns(name)
    together = model(*batch).logits
    for row in range(4):
        alone = [Padded(t.values[row : row + 1], t.lengths[row : row + 1]) for t in batch]
        torch.testing.assert_close(model(*alone).logits[0], together[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["acrnn_r", "ssa_crnn_r"])
def test_a_projected_batch_of_one_gives_the_logits_of_a_batch_of_many(
    name: str, build: Build, turns: Turns
) -> None:
    model = build(name, regularizer="projection").train()
    batch = turns(name)
    model(*batch)
    model.eval()
    together = model(*batch).logits
    for row in range(4):
        alone = [Padded(t.values[row : row + 1], t.lengths[row : row + 1]) for t in batch]
        torch.testing.assert_close(model(*alone).logits[0], together[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in MODELS),
        ("iaan", {"normalize_projection": True}),
        ("acrnn_r", {"regularizer": "projection"}),
        ("ssa_crnn_r", {"regularizer": "projection"}),
    ],
)
def test_every_parameter_receives_a_gradient(
    name: str,
    options: dict[str, object],
    build: Build,
    turns: Turns,
    joint_loss: Callable[[nn.Module, Output], torch.Tensor],
) -> None:
    model = build(name, **options).train()
    joint_loss(model, model(*turns(name))).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 1e-9, key


@every_network
def test_attention_sums_to_one_over_real_frames_and_is_zero_on_padding(
    name: str, build: Build, turns: Turns
) -> None:
    current, own, other = turns(name)
    attention = dict(build(name)(current, own, other).attention)
    lengths = {"own": own.lengths, "other": other.lengths}
    if name == "ssa_crnn_r":
        for key in ("emotion", "speaker"):
            beyond = torch.arange(5)[None] >= (current.lengths[:, None] + 1) // 2
            assert (attention[key][beyond] == 0).all()
        attention["both"] = attention.pop("emotion") + attention.pop("speaker")
    assert attention
    for key, weights in attention.items():
        real = lengths.get(key, current.lengths)
        if MODELS[name].features == "logmel3d":
            real = (real + 1) // 2  # a step is two frames
        torch.testing.assert_close(weights.sum(1), (real > 0).float())
        assert (weights[torch.arange(weights.shape[1])[None] >= real[:, None]] == 0).all()


@every_model
def test_context_is_needed_by_none_but_those_that_say_so(
    name: str, build: Build, turns: Turns
) -> None:
    model = build(name)
    current, own, other = turns(name)
    if MODELS[name].context == "none":
        assert torch.equal(model(current).logits, model(current, own, other).logits)
    else:
        with pytest.raises(ValueError, match="context"):
            model(current)


@every_network
def test_training_in_half_precision(
    name: str,
    build: Build,
    turns: Turns,
    joint_loss: Callable[[nn.Module, Output], torch.Tensor],
) -> None:
    model = build(name).train()
    expected = model(*turns(name)).logits
    with torch.autocast("cpu", torch.bfloat16):
        output = model(*turns(name))
        loss = joint_loss(model, output)
    torch.testing.assert_close(output.logits.float(), expected, atol=0.02, rtol=0.02)
    for weights in output.attention.values():
        assert weights.dtype == torch.float32
    loss.backward()
    for key, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key


ENCODER = [(4, 5, 7)]  # before the BLSTM, whose steps are two frames
CURRENT = [(4, 9, 45), (4, 9, 8)]  # before and after a recurrence
CONTEXT = [(4, 6, 45), (4, 6, 8), (4, 8, 45), (4, 8, 8)]
LAST = [(4, 5)]  # before the last layer
DROPPED = {
    "iaan": CURRENT + CONTEXT + LAST,
    "bigru_iaa": CURRENT + CONTEXT + LAST,
    "bigru_att": CURRENT + LAST,
    "acrnn": ENCODER + LAST,
    "acrnn_r": ENCODER + LAST,
    "ssa_crnn_r": 2 * (ENCODER + LAST),
}


@pytest.mark.parametrize("name", DROPPED)
def test_dropout_is_where_the_docstrings_say(name: str, build: Build, turns: Turns) -> None:
    """Shapes of what loses values."""
    model = build(name, dropout=0.5).train()
    seen: list[tuple[int, ...]] = []

    def note(module: nn.Module, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
        if not torch.equal(given[0], made):
            seen.append(tuple(made.shape))

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(note)
    batch = turns(name)
    one, two = model(*batch), model(*batch)
    assert sorted(seen) == sorted(2 * DROPPED[name])
    assert not torch.equal(one.logits, two.logits)


@pytest.mark.parametrize("name", ["bigru_att", "iaan", "bilstm_att", "acrnn_r", "ssa_crnn_r"])
def test_a_compiled_model_gives_the_same_numbers(
    name: str,
    build: Build,
    turns: Turns,
    joint_loss: Callable[[nn.Module, Output], torch.Tensor],
) -> None:
    torch._dynamo.reset()
    plain, model = build(name).train(), build(name).train()
    compiled = torch.compile(model, backend="aot_eager")
    for extra in ((0, 0, 0), (2, 3, 1)):  # another shape
        batch = turns(name, extra)
        expected, loss = (
            joint_loss(m, call(*batch)) for m, call in ((plain, plain), (model, compiled))
        )
        torch.testing.assert_close(loss, expected)
        expected.backward()
        loss.backward()
        for (key, one), two in zip(plain.named_parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(two.grad, one.grad, msg=key)


@every_network
def test_weight_decay_has_something_to_apply_to(name: str, build: Build) -> None:
    model = build(name)
    own = {id(parameter) for parameter in model.parameters()}
    decayed = model.decayed_parameters()
    assert decayed
    assert all(id(parameter) in own and parameter.ndim > 1 for parameter in decayed)


def test_the_registry() -> None:
    assert list(MODELS) == [
        "iaan",
        "rand_iaan",
        "bigru_iaa",
        "bigru_att",
        "bilstm_att",
        "acrnn",
        "acrnn_r",
        "ssa_crnn_r",
        "linear_svm",
    ]
    assert {name: model.context for name, model in MODELS.items() if model.context != "none"} == {
        "iaan": "previous",
        "rand_iaan": "random",
        "bigru_iaa": "previous",
    }
    assert MODELS["acrnn_r"].training["optimizer"] == "nadam"
    assert MODELS["iaan"].training == {}


@every_model
def test_a_model_is_built_from_what_the_data_decide(name: str, build: Build) -> None:
    """`build` passes all of `Sizes`: each network takes what its positional parameters name."""
    assert isinstance(build(name), nn.Module)


def test_what_an_entry_fixes_is_no_hyperparameter() -> None:
    fixed = {"context", "predict_from_context"}
    for name in ("iaan", "rand_iaan", "bigru_iaa", "bigru_att"):
        assert not fixed & MODELS[name].hyperparameters().keys()
    assert "regularizer_weight" not in MODELS["acrnn"].hyperparameters()
    assert {"regularizer", "regularizer_weight"} <= MODELS["acrnn_r"].hyperparameters().keys()
    assert MODELS["ssa_crnn_r"].hyperparameters()["speaker_weight"].default == 1.0
    with pytest.raises(TypeError, match="context"):
        MODELS["iaan"](Sizes(45, 4), context="none")
    with pytest.raises(TypeError, match="no hyperparameter of this model: layers"):
        MODELS["acrnn"](Sizes(120, 4), layers=3)


def test_a_further_model_needs_an_entry_and_no_more() -> None:
    class Further(nn.Module):
        def __init__(self, dims: int, speakers: int, *, depth: int = 1, kind: str = "a") -> None:
            super().__init__()
            self.made_of = (dims, speakers, depth, kind)

    model = Model(partial(Further, kind="b"), "logmel3d")
    assert list(model.hyperparameters()) == ["depth"]
    assert model(Sizes(120, 4, 10, 300), depth=2).made_of == (120, 10, 2, "b")
