"""Attention layers against their equations in plain NumPy."""

import numpy as np
import pytest
import torch

from ser_models.attention import (
    BahdanauAttention,
    DotAttention,
    InteractionAttention,
    SelfSpeakerAttention,
    masked_softmax,
)

BATCH, TIME, SIZE, CONTEXT, ATTENTION = 3, 7, 6, 5, 4
LENGTHS = (7, 4, 1)


@pytest.fixture
def states() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(BATCH, TIME, SIZE)


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.arange(TIME)[None] < torch.tensor(LENGTHS)[:, None]


def _weights(layer: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in layer.named_parameters()}


def _softmax(scores: list[float]) -> np.ndarray:
    exponents = np.exp(np.asarray(scores) - max(scores))
    return exponents / exponents.sum()


def test_bahdanau_attention_equals_its_equation(states: torch.Tensor, mask: torch.Tensor) -> None:
    layer = BahdanauAttention(SIZE, ATTENTION)
    pooled, weights = layer(states, mask)
    w = _weights(layer)
    for row, length in enumerate(LENGTHS):
        h = states[row, :length].numpy()
        scores = [
            float(w["score.weight"][0] @ np.tanh(w["states.weight"] @ h_t + w["states.bias"]))
            for h_t in h
        ]
        expected = _softmax(scores)
        np.testing.assert_allclose(weights[row, :length].detach(), expected, atol=1e-6)
        np.testing.assert_allclose(pooled[row].detach(), expected @ h, atol=1e-6)


def test_interaction_attention_equals_its_equation(
    states: torch.Tensor, mask: torch.Tensor
) -> None:
    layer = InteractionAttention(SIZE, CONTEXT, ATTENTION)
    own, other = torch.randn(BATCH, CONTEXT), torch.randn(BATCH, CONTEXT)
    pooled, weights = layer(states, own, other, mask)
    w = _weights(layer)
    for row, length in enumerate(LENGTHS):
        h = states[row, :length].numpy()
        context = w["own.weight"] @ own[row].numpy() + w["other.weight"] @ other[row].numpy()
        scores = [
            float(
                w["score.weight"][0]
                @ np.tanh(w["states.weight"] @ h_t + context + w["states.bias"])
            )
            for h_t in h
        ]
        expected = _softmax(scores)
        np.testing.assert_allclose(weights[row, :length].detach(), expected, atol=1e-6)
        np.testing.assert_allclose(pooled[row].detach(), expected @ h, atol=1e-6)


def test_dot_attention_equals_its_equation(states: torch.Tensor, mask: torch.Tensor) -> None:
    layer = DotAttention(SIZE)
    pooled, weights = layer(states, mask)
    w = _weights(layer)["score.weight"][0]
    for row, length in enumerate(LENGTHS):
        h = states[row, :length].numpy()
        expected = _softmax([float(h_t @ w) for h_t in h])
        np.testing.assert_allclose(weights[row, :length].detach(), expected, atol=1e-6)
        np.testing.assert_allclose(pooled[row].detach(), expected @ h, atol=1e-6)


STEPS = 9  # of a full segment, more than any row has


def test_self_speaker_attention_equals_its_equations(
    states: torch.Tensor, mask: torch.Tensor
) -> None:
    layer = SelfSpeakerAttention(SIZE, STEPS)
    speaker = torch.randn(BATCH, TIME, SIZE)
    pooled, of_emotion, of_speaker = layer(states, speaker, mask)
    w = _weights(layer)
    for row, length in enumerate(LENGTHS):
        h_em, h_sp = states[row, :length].numpy(), speaker[row, :length].numpy()
        q = h_em.T @ w["query"][:length]
        # A linear layer multiplies from the left: its weight is W transposed.
        scores = np.concatenate(
            [h_em @ w["emotion_key.weight"].T @ q, h_sp @ w["speaker_key.weight"].T @ q]
        ) / np.sqrt(STEPS)
        a_em, a_sp = np.split(_softmax(scores.tolist()), 2)
        c = np.concatenate(
            [
                a_em @ (h_em @ w["emotion_value.weight"].T),
                a_sp @ (h_sp @ w["speaker_value.weight"].T),
            ]
        )
        np.testing.assert_allclose(of_emotion[row, :length].detach(), a_em, atol=1e-6)
        np.testing.assert_allclose(of_speaker[row, :length].detach(), a_sp, atol=1e-6)
        np.testing.assert_allclose(pooled[row].detach(), c, atol=1e-6)


def test_self_speaker_attention_does_not_depend_on_padding(
    states: torch.Tensor, mask: torch.Tensor
) -> None:
    layer = SelfSpeakerAttention(SIZE, STEPS)
    speaker, noise = torch.randn(BATCH, TIME, SIZE), torch.full((BATCH, 2, SIZE), 1e3)
    longer_mask = torch.cat([mask, torch.zeros(BATCH, 2, dtype=torch.bool)], dim=1)
    expected = layer(states, speaker, mask)
    longer = layer(
        torch.cat([states, noise], dim=1), torch.cat([speaker, noise], dim=1), longer_mask
    )
    torch.testing.assert_close(longer[0], expected[0])
    for curve, short in zip(longer[1:], expected[1:], strict=True):
        torch.testing.assert_close(curve[:, :TIME], short)
        assert (curve[:, TIME:] == 0).all()


def test_more_steps_than_weights_of_the_query_are_an_error() -> None:
    layer = SelfSpeakerAttention(SIZE, 4)
    states, mask = torch.randn(1, 5, SIZE), torch.ones(1, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="a batch has 5 steps, but the query has 4 weights"):
        layer(states, states, mask)


def test_weights_sum_to_one_over_real_frames_and_are_zero_on_padding(mask: torch.Tensor) -> None:
    weights = masked_softmax(torch.randn(BATCH, TIME) * 50, mask)
    torch.testing.assert_close(weights.sum(1), torch.ones(BATCH))
    assert (weights[~mask] == 0).all()


def test_a_row_without_frames_has_zero_weights_and_finite_gradients() -> None:
    scores = torch.randn(2, TIME, requires_grad=True)
    mask = torch.zeros(2, TIME, dtype=torch.bool)
    mask[0, :3] = True
    weights = masked_softmax(scores, mask)
    assert (weights[1] == 0).all()
    (weights * torch.randn(2, TIME)).sum().backward()
    assert torch.isfinite(scores.grad).all()
