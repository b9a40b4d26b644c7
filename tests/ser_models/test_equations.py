"""Whole networks against the equations of their papers, in plain float64 NumPy.

The reference reads one utterance at a time, without padding. The networks read a padded batch.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ser_models import EmotionModel
from ser_models.sequences import Padded
from tests.ser_models.conftest import GROUPS

Array = NDArray[np.float64]
Weights = dict[str, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


def linear(w: Weights, name: str, x: Array) -> Array:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def gru(w: Weights, name: str, frames: Array) -> Array:
    """The states of a GRU: r, z, n are the reset gate, the update gate and the new state."""
    h, states = np.zeros(w[f"{name}.weight_hh_l0"].shape[1]), []
    for x in frames:
        of_x = np.split(w[f"{name}.weight_ih_l0"] @ x + w[f"{name}.bias_ih_l0"], 3)
        of_h = np.split(w[f"{name}.weight_hh_l0"] @ h + w[f"{name}.bias_hh_l0"], 3)
        r, z = (sigmoid(of_x[gate] + of_h[gate]) for gate in (0, 1))
        h = (1 - z) * np.tanh(of_x[2] + r * of_h[2]) + z * h
        states.append(h)
    return np.asarray(states)


def lstm(w: Weights, name: str, frames: Array) -> Array:
    """The states of an LSTM, with input, forget and output gates i, f, o."""
    h = c = np.zeros(w[f"{name}.weight_hh_l0"].shape[1])
    states = []
    for x in frames:
        of_x = w[f"{name}.weight_ih_l0"] @ x + w[f"{name}.bias_ih_l0"]
        of_h = w[f"{name}.weight_hh_l0"] @ h + w[f"{name}.bias_hh_l0"]
        i, f, g, o = np.split(of_x + of_h, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.asarray(states)


def both_directions(cell: Callable[..., Array], w: Weights, name: str, frames: Array) -> Array:
    behind = cell(w, f"{name}.behind", frames[::-1])[::-1]
    return np.concatenate([cell(w, f"{name}.ahead", frames), behind], axis=1)


def bahdanau(w: Weights, name: str, h: Array, context: Array | float = 0.0) -> tuple[Array, Array]:
    e = linear(w, f"{name}.score", np.tanh(linear(w, f"{name}.states", h) + context))[:, 0]
    return softmax(e) @ h, softmax(e)


def iaan(w: Weights, kind: str, current: Array, own: Array, other: Array) -> tuple[Array, Array]:
    """Logits and attention of IAAN's equations. A context of no frames is a zero vector."""
    h = both_directions(gru, w, "current", current)
    if kind == "bigru_att":
        pooled, attention = bahdanau(w, "attention", h)
    else:
        contexts = [
            bahdanau(w, f"{name}_pooling", gru(w, f"{name}.ahead", frames))[0]
            if len(frames)
            else np.zeros(h.shape[1])
            for name, frames in (("own", own), ("other", other))
        ]
        names = ("attention.own", "attention.other")
        context = sum(linear(w, n, c) for n, c in zip(names, contexts, strict=True))
        pooled, attention = bahdanau(w, "attention", h, context)
        if kind != "bigru_iaa":
            pooled = np.concatenate([pooled, *contexts])
    hidden = np.maximum(linear(w, "projection", pooled), 0)
    return linear(w, "output", hidden), attention


def bilstm_att(w: Weights, current: Array) -> tuple[Array, Array]:
    dense = np.maximum(linear(w, "second", np.maximum(linear(w, "first", current), 0)), 0)
    h = both_directions(lstm, w, "recurrence", dense)
    attention = softmax(linear(w, "pooling.score", h)[:, 0])
    return linear(w, "output", attention @ h), attention


def convolution(w: Weights, name: str, maps: Array, dilation: int = 1) -> Array:
    """Same padding; (maps, time, bands)."""
    kernel = w[f"{name}.weight"]  # (maps out, maps in, frames, bands)
    high, wide = kernel.shape[2:]
    sides = [(dilation * (size // 2),) * 2 for size in (high, wide)]
    padded = np.pad(maps, ((0, 0), *sides))
    time, bands = maps.shape[1:]
    out = np.zeros((len(kernel), time, bands))
    for t in range(high):
        for f in range(wide):
            part = padded[:, t * dilation :, f * dilation :][:, :time, :bands]
            out += np.einsum("oi,itf->otf", kernel[:, :, t, f], part)
    return out + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else out


def pooled(maps: Array) -> Array:
    """Maxima of two frames and two bands; an odd last frame is paired with zeros."""
    if maps.shape[1] % 2:
        maps = np.pad(maps, ((0, 0), (0, 1), (0, 0)))
    count, time, bands = maps.shape
    return maps.reshape(count, time // 2, 2, bands // 2, 2).max(axis=(2, 4))


def normalized(w: Weights, name: str, x: Array) -> Array:
    """Batch normalisation of (..., size) with the statistics of training."""
    deviation = np.sqrt(w[f"{name}.running_variance"] + 1e-5)
    return (x - w[f"{name}.running_mean"]) / deviation * w[f"{name}.weight"] + w.get(
        f"{name}.bias", 0
    )


def encoder(w: Weights, name: str, frames: Array) -> Array:
    """States of (frames, 3 * bands)."""
    channels = frames.reshape(len(frames), 3, -1).transpose(1, 0, 2)
    maps = pooled(leaky(convolution(w, f"{name}.first", channels)))
    layer = 0
    while f"{name}.further.{layer}.weight" in w:
        maps = leaky(convolution(w, f"{name}.further.{layer}", maps))
        layer += 1
    x = linear(w, f"{name}.linear", maps.transpose(1, 0, 2).reshape(maps.shape[1], -1))
    x = leaky(normalized(w, f"{name}.normalization", x))
    return both_directions(lstm, w, f"{name}.recurrence", x)


def last_layer(w: Weights, kind: str, x: Array) -> Array:
    """Logits. The projection gives each column the L1 norm tau, by the mean norm of training."""
    weight = w["output.linear.weight"]
    if kind == "projection":
        tau = 1 / (len(weight) * w["output.norm"])
        weight = weight * tau / np.abs(weight).sum(axis=1, keepdims=True)
    return weight @ x + w.get("output.linear.bias", 0)


def acrnn(w: Weights, kind: str, current: Array) -> tuple[Array, Array]:
    h = encoder(w, "encoder", current)
    attention = softmax(linear(w, "pooling.score", h)[:, 0])
    return last_layer(w, kind, leaky(linear(w, "projection", attention @ h))), attention


def ssa_crnn(w: Weights, kind: str, current: Array) -> tuple[Array, Array, Array]:
    """Emotion logits, both attention weights, and speaker logits."""
    h_em, h_sp = (encoder(w, f"{name}_encoder", current) for name in ("emotion", "speaker"))
    query = w["attention.query"]
    q = query[: len(h_em)] @ h_em
    keys = [
        linear(w, f"attention.{name}_key", h) for name, h in (("emotion", h_em), ("speaker", h_sp))
    ]
    a = softmax(np.concatenate([key @ q for key in keys]) / np.sqrt(len(query)))
    a_em, a_sp = np.split(a, 2)
    c = np.concatenate(
        [
            a_em @ linear(w, "attention.emotion_value", h_em),
            a_sp @ linear(w, "attention.speaker_value", h_sp),
        ]
    )
    logits = last_layer(w, kind, leaky(linear(w, "emotion_projection", c)))
    pooled = softmax(linear(w, "speaker_pooling.score", h_sp)[:, 0]) @ h_sp
    z_sp = leaky(linear(w, "speaker_projection", pooled))
    return logits, a, linear(w, "speaker_output", z_sp)


def dilated(w: Weights, name: str, maps: Array) -> Array:
    """Convolution with dilation 2 > batch normalisation of each map."""
    convolved = convolution(w, f"{name}.convolution", maps, dilation=2)
    return normalized(w, f"{name}.normalization", convolved.transpose(1, 2, 0)).transpose(2, 0, 1)


def adrnn(w: Weights, current: Array) -> tuple[Array, Array]:
    channels = current.reshape(len(current), 3, -1).transpose(1, 0, 2)
    p = maps = pooled(leaky(convolution(w, "encoder.first", channels)))
    for layer in range(3):
        maps = leaky(dilated(w, f"encoder.dilated.{layer}", maps))
    maps = maps + dilated(w, "encoder.skip", p)
    x = linear(w, "encoder.linear", maps.transpose(1, 0, 2).reshape(maps.shape[1], -1))
    x = leaky(normalized(w, "encoder.normalization", x))
    h = both_directions(lstm, w, "encoder.recurrence", x)
    attention = softmax(linear(w, "pooling.score", h)[:, 0])
    return linear(w, "output", leaky(linear(w, "projection", attention @ h))), attention


def mdnn(w: Weights, groups: list[tuple[int, ...]], vector: Array) -> tuple[Array, Array]:
    """Logits of the global classifier, and (groups, classes) of the local ones."""
    features, parts = [], []
    for number, columns in enumerate(groups):
        name = f"local.{number}"
        h = np.maximum(linear(w, f"{name}.first", vector[list(columns)]), 0)
        features.append(np.maximum(linear(w, f"{name}.second", h), 0))
        parts.append(linear(w, f"{name}.output", features[-1]))
    e = np.maximum(linear(w, "projection", np.concatenate(features)), 0)
    return linear(w, "output", e), np.stack(parts)


def cmn(
    w: Weights, hops: int, current: Array, own: Array, other: Array
) -> tuple[Array, list[list[Array]]]:
    """Logits, and the attention to the own and to the other history of each hop."""
    memories = []
    for name, history in (("own", own), ("other", other)):
        states = gru(w, f"{name}.turns.ahead", history)
        memories.append(gru(w, f"{name}.cells.ahead", np.tanh(states)))
    q = np.tanh(linear(w, "query", current[0]))
    attention: list[list[Array]] = [[], []]
    for _ in range(hops):
        summed = q
        for memory, weights_of_hops in zip(memories, attention, strict=True):
            if len(memory):
                p = softmax(np.tanh(memory @ q))
                summed = summed + p @ memory
                weights_of_hops.append(p)
        q = np.tanh(summed)
    return linear(w, "output", q), attention


def layer_sum(w: Weights, layers: list[tuple[int, ...]], vector: Array) -> Array:
    mixed = softmax(w["weights"]) @ np.stack([vector[list(columns)] for columns in layers])
    return linear(w, "output", linear(w, "projection", mixed))


def mean_pool(w: Weights, current: Array) -> Array:
    return linear(w, "output", np.maximum(linear(w, "projection", current), 0).mean(axis=0))


def in_double(model: EmotionModel, batch: list[Padded]) -> tuple[EmotionModel, list[Padded]]:
    """Return both in float64, with statistics of batches that are not those of a new model."""
    generator = torch.Generator().manual_seed(2)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.double(), [Padded(part.values.double(), part.lengths) for part in batch]


def weights(model: EmotionModel) -> Weights:
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def utterances(part: Padded) -> list[Array]:
    return [v[:n] for v, n in zip(part.values.numpy(), part.lengths.tolist(), strict=True)]


@pytest.mark.parametrize("kind", ["iaan", "bigru_iaa", "bigru_att"])
def test_iaan_and_its_variants(
    kind: str, build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    model, batch = in_double(build(kind), turns(kind))
    output = model(*batch)
    for row, (current, own, other) in enumerate(zip(*map(utterances, batch), strict=True)):
        logits, attention = iaan(weights(model), kind, current, own, other)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)
        ours = output.attention["current"][row, : len(current)].detach()
        np.testing.assert_allclose(ours, attention, atol=1e-13)


def test_bilstm_att(build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]) -> None:
    model, batch = in_double(build("bilstm_att"), turns("bilstm_att"))
    output = model(*batch)
    for row, current in enumerate(utterances(batch[0])):
        logits, attention = bilstm_att(weights(model), current)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)
        ours = output.attention["current"][row, : len(current)].detach()
        np.testing.assert_allclose(ours, attention, atol=1e-13)


@pytest.mark.parametrize("hops", [1, 3])
def test_cmn(
    hops: int, build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    model, batch = in_double(build("cmn", hops=hops), turns("cmn"))
    output = model(*batch)
    for row, (current, own, other) in enumerate(zip(*map(utterances, batch), strict=True)):
        logits, attention = cmn(weights(model), hops, current, own, other)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)
        for name, expected in zip(("own", "other"), attention, strict=True):
            ours = output.attention[name][row].detach().numpy()
            if not expected:  # an empty history
                assert (ours == 0).all()
                continue
            count = len(expected[0])
            np.testing.assert_allclose(ours[:count], np.mean(expected, axis=0), atol=1e-13)
            assert (ours[count:] == 0).all()


@pytest.mark.parametrize("kind", ["none", "penalty", "projection"])
def test_acrnn_and_acrnn_r(
    kind: str, build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    built = build("acrnn") if kind == "none" else build("acrnn_r", regularizer=kind)
    model, batch = in_double(built, turns("acrnn"))
    output = model(*batch)
    for row, current in enumerate(utterances(batch[0])):
        logits, attention = acrnn(weights(model), kind, current)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)
        ours = output.attention["current"][row, : len(attention)].detach()
        np.testing.assert_allclose(ours, attention, atol=1e-13)


@pytest.mark.parametrize("kind", ["none", "penalty", "projection"])
def test_ssa_crnn_r(
    kind: str, build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]
) -> None:
    model, batch = in_double(build("ssa_crnn_r", regularizer=kind), turns("ssa_crnn_r"))
    output = model(*batch)
    for row, current in enumerate(utterances(batch[0])):
        logits, attention, speaker_logits = ssa_crnn(weights(model), kind, current)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)
        np.testing.assert_allclose(output.speaker_logits[row].detach(), speaker_logits, atol=1e-13)
        ours = [output.attention[n][row, : len(attention) // 2] for n in ("emotion", "speaker")]
        np.testing.assert_allclose(torch.cat(ours).detach(), attention, atol=1e-13)


def test_adrnn(build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]) -> None:
    model, batch = in_double(build("adrnn"), turns("adrnn"))
    output = model(*batch)
    for row, current in enumerate(utterances(batch[0])):
        logits, attention = adrnn(weights(model), current)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)
        ours = output.attention["current"][row, : len(attention)].detach()
        np.testing.assert_allclose(ours, attention, atol=1e-13)


def test_mdnn(build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]) -> None:
    model, batch = in_double(build("mdnn"), turns("mdnn"))
    output = model(*batch)
    groups = list(GROUPS["emobase_functionals"].values())
    for row, (vector,) in enumerate(utterances(batch[0])):
        logits, parts = mdnn(weights(model), groups, vector)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)
        np.testing.assert_allclose(output.parts[row].detach(), parts, atol=1e-13)


def test_layer_sum(build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]) -> None:
    model, batch = in_double(build("layer_sum"), turns("layer_sum"))
    model.weights.data = torch.tensor([0.5, -1.0, 2.0, 0.1], dtype=torch.float64)
    output = model(*batch)
    layers = list(GROUPS["encoder_layers"].values())
    for row, (vector,) in enumerate(utterances(batch[0])):
        logits = layer_sum(weights(model), layers, vector)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)


def test_mean_pool(build: Callable[..., EmotionModel], turns: Callable[..., list[Padded]]) -> None:
    model, batch = in_double(build("mean_pool"), turns("mean_pool"))
    output = model(*batch)
    for row, current in enumerate(utterances(batch[0])):
        logits = mean_pool(weights(model), current)
        np.testing.assert_allclose(output.logits[row].detach(), logits, atol=1e-13)
        assert output.attention["current"][row].sum() == pytest.approx(1)
