"""Properties of every model in the registry, and the registry itself."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ser_models import MODELS, EmotionModel, Model, Sizes
from ser_models.sequences import Output, Padded

Build = Callable[..., EmotionModel]
Turns = Callable[..., list[Padded]]
Loss = Callable[[EmotionModel, Output], torch.Tensor]
every_model = pytest.mark.parametrize("name", MODELS)
every_network = pytest.mark.parametrize("name", [n for n in MODELS if not MODELS[n].fitted])
SEQUENTIAL = [n for n in MODELS if MODELS[n].reads != "vector"]  # with attention


@every_model
def test_more_padding_does_not_change_the_output(name: str, build: Build, turns: Turns) -> None:
    model = build(name)
    expected, output = model(*turns(name)), model(*turns(name, (11, 30, 3)))
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.embedding, expected.embedding, atol=1e-5, rtol=0)
    if expected.speaker_logits is not None:
        torch.testing.assert_close(
            output.speaker_logits, expected.speaker_logits, atol=1e-5, rtol=0
        )
    if expected.parts is not None:
        torch.testing.assert_close(output.parts, expected.parts, atol=1e-5, rtol=0)
    for key, weights in expected.attention.items():
        time = weights.shape[1]
        torch.testing.assert_close(output.attention[key][:, :time], weights, atol=1e-5, rtol=0)
        assert (output.attention[key][:, time:] == 0).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(pytest.param(name, {}, id=name) for name in MODELS),
        pytest.param("acrnn_r", {"regularizer": "projection"}, id="acrnn_r projection"),
        pytest.param("ssa_crnn_r", {"regularizer": "projection"}, id="ssa_crnn_r projection"),
        pytest.param("adrnn", {"pool": 1, "dilation": 1}, id="adrnn without pooling"),
    ],
)
def test_logits_do_not_depend_on_the_other_utterances_of_a_batch(
    name: str, options: dict[str, object], build: Build, turns: Turns
) -> None:
    model = build(name, **options).train()
    batch = turns(name)
    model(*batch)  # sets running statistics
    model.eval()
    together = model(*batch).logits
    for row in range(4):
        alone = [Padded(t.values[row : row + 1], t.lengths[row : row + 1]) for t in batch]
        torch.testing.assert_close(model(*alone).logits[0], together[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(pytest.param(name, {}, id=name) for name in MODELS),
        pytest.param("iaan", {"normalize_projection": True}, id="iaan normalised"),
        pytest.param("acrnn_r", {"regularizer": "projection"}, id="acrnn_r projection"),
        pytest.param("ssa_crnn_r", {"regularizer": "projection"}, id="ssa_crnn_r projection"),
        pytest.param("adrnn", {"pool": 1, "dilation": 1}, id="adrnn without pooling"),
    ],
)
def test_every_parameter_receives_a_gradient(
    name: str, options: dict[str, object], build: Build, turns: Turns, joint_loss: Loss
) -> None:
    model = build(name, **options).train()
    joint_loss(model, model(*turns(name))).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 1e-9, key


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_attention_sums_to_one_over_real_frames_and_is_zero_on_padding(
    name: str, build: Build, turns: Turns
) -> None:
    current, own, other = turns(name)
    attention = dict(build(name)(current, own, other).attention)
    lengths = {"own": own.lengths, "other": other.lengths}
    if name == "ssa_crnn_r":
        for key in ("emotion", "speaker"):
            padding = torch.arange(5)[None] >= (current.lengths[:, None] + 1) // 2
            assert (attention[key][padding] == 0).all()
        attention["both"] = attention.pop("emotion") + attention.pop("speaker")
    assert attention
    for key, weights in attention.items():
        real = lengths.get(key, current.lengths)
        if MODELS[name].features == "logmel3d":
            real = (real + 1) // 2  # a step is two frames
        torch.testing.assert_close(weights.sum(1), (real > 0).float())
        assert (weights[torch.arange(weights.shape[1])[None] >= real[:, None]] == 0).all()


@every_model
def test_only_models_with_context_read_it(name: str, build: Build, turns: Turns) -> None:
    model = build(name)
    current, own, other = turns(name)
    if MODELS[name].context.kind == "none":
        assert torch.equal(model(current).logits, model(current, own, other).logits)
    else:
        with pytest.raises(ValueError, match="pass `own` and `other`"):
            model(current)


@every_network
def test_training_in_half_precision(
    name: str, build: Build, turns: Turns, joint_loss: Loss
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
CURRENT = [(23, 45), (23, 8)]  # the real frames before and after a recurrence
CONTEXT = [(13, 45), (13, 8), (10, 45), (10, 8)]
LAST = [(4, 5)]  # before the last layer
MEMORIES = [(4, 6, 6), (4, 8, 6)]  # states of the turns of both histories
WEIGHTS = [(4, 6), (4, 8)]  # weights of the turns, in two hops
DROPPED = {
    "iaan": CURRENT + CONTEXT + LAST,
    "bigru_iaa": CURRENT + CONTEXT + LAST,
    "bigru_att": CURRENT + LAST,
    "acrnn": ENCODER + LAST,
    "acrnn_r": ENCODER + LAST,
    "ssa_crnn_r": 2 * (ENCODER + LAST),
    "adrnn": ENCODER + LAST,
    "mdnn": 3 * [(4, 7), (4, 3)] + [(4, 6)],  # three groups, and the layer before the last
    "cmn": MEMORIES + 2 * WEIGHTS,
    "mean_pool": [(4, 7)],
}
"""Shapes of the tensors that lose values by dropout."""


@pytest.mark.parametrize("name", DROPPED)
def test_dropout_acts_at_the_documented_places(name: str, build: Build, turns: Turns) -> None:
    hops = {"hops": 2} if name == "cmn" else {}
    model = build(name, dropout=0.5, **hops).train()
    shapes: list[tuple[int, ...]] = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if not torch.equal(inputs[0], output):
            shapes.append(tuple(output.shape))

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(note)
    batch = turns(name)
    first, second = model(*batch), model(*batch)
    assert sorted(shapes) == sorted(2 * DROPPED[name])
    assert not torch.equal(first.logits, second.logits)


SHORT = ([3, 1, 1, 2], [1, 0, 2, 1], [2, 1, 0, 0])
"""Lengths of turns for the compiler, which unrolls loops over steps."""


@pytest.mark.parametrize(
    "name", ["bigru_att", "iaan", "bilstm_att", "acrnn_r", "ssa_crnn_r", "adrnn", "cmn"]
)
def test_a_compiled_model_gives_the_same_numbers(
    name: str, build: Build, turns: Turns, joint_loss: Loss
) -> None:
    torch._dynamo.reset()
    hops = {"hops": 2} if name == "cmn" else {}
    plain, model = build(name, **hops).train(), build(name, **hops).train()
    compiled = torch.compile(model, backend="aot_eager")
    for extra in ((0, 0, 0), (2, 3, 1)):  # the second batch has other shapes
        batch = turns(name, extra, SHORT)
        expected, loss = (
            joint_loss(owner, call(*batch)) for owner, call in ((plain, plain), (model, compiled))
        )
        torch.testing.assert_close(loss, expected)
        expected.backward()
        loss.backward()
        for (key, parameter), other in zip(
            plain.named_parameters(), model.parameters(), strict=True
        ):
            torch.testing.assert_close(other.grad, parameter.grad, msg=key)


def test_the_registry_names_all_models_and_their_contexts() -> None:
    assert list(MODELS) == [
        "iaan",
        "rand_iaan",
        "bigru_iaa",
        "bigru_att",
        "bilstm_att",
        "acrnn",
        "acrnn_r",
        "ssa_crnn_r",
        "adrnn",
        "linear_svm",
        "svm_trees",
        "mdnn",
        "cmn",
        "layer_sum",
        "mean_pool",
    ]
    assert {
        name: model.context for name, model in MODELS.items() if model.context.kind != "none"
    } == {
        "iaan": ("before", 8, 1),
        "rand_iaan": ("random", 0, None),
        "bigru_iaa": ("before", 8, 1),
        "cmn": ("before", 40, None),
    }
    assert MODELS["acrnn_r"].training["optimizer"] == "nadam"
    assert MODELS["iaan"].training == {}


def test_a_fixed_keyword_is_not_a_hyperparameter() -> None:
    fixed = {"context", "predict_from_context"}
    for name in ("iaan", "rand_iaan", "bigru_iaa", "bigru_att"):
        assert not fixed & MODELS[name].hyperparameters().keys()
    assert "regularizer_weight" not in MODELS["acrnn"].hyperparameters()
    assert {"regularizer", "regularizer_weight"} <= MODELS["acrnn_r"].hyperparameters().keys()
    assert MODELS["ssa_crnn_r"].hyperparameters()["speaker_weight"].default == 1.0
    with pytest.raises(TypeError, match="context"):
        MODELS["iaan"](Sizes(45, 4), context="none")
    with pytest.raises(TypeError, match=r"unknown hyperparameter: layers \(this model has "):
        MODELS["acrnn"](Sizes(120, 4), layers=3)


def test_a_new_model_needs_only_an_entry() -> None:
    class New(EmotionModel):
        def __init__(self, dims: int, speakers: int, *, depth: int = 1, kind: str = "a") -> None:
            super().__init__()
            self.arguments = (dims, speakers, depth, kind)

    model = Model(New, "logmel3d", fixed={"kind": "b"})
    assert list(model.hyperparameters()) == ["depth"]
    assert model(Sizes(120, 4, 10, 300), depth=2).arguments == (120, 10, 2, "b")
