"""Attention layers against plain NumPy, written from the equations."""

import numpy as np
import pytest
import torch

from ser_models.attention import BahdanauAttention, InteractionAttention, masked_softmax

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


def test_bahdanau_attention_is_its_equation(states: torch.Tensor, mask: torch.Tensor) -> None:
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


def test_interaction_attention_is_its_equation(states: torch.Tensor, mask: torch.Tensor) -> None:
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


def test_weights_sum_to_one_over_real_frames_and_are_zero_on_padding(mask: torch.Tensor) -> None:
    weights = masked_softmax(torch.randn(BATCH, TIME) * 50, mask)
    torch.testing.assert_close(weights.sum(1), torch.ones(BATCH))
    assert (weights[~mask] == 0).all()


def test_a_row_without_frames_gets_no_weight_and_no_broken_gradient() -> None:
    scores = torch.randn(2, TIME, requires_grad=True)
    mask = torch.zeros(2, TIME, dtype=torch.bool)
    mask[0, :3] = True
    weights = masked_softmax(scores, mask)
    assert (weights[1] == 0).all()
    (weights * torch.randn(2, TIME)).sum().backward()
    assert torch.isfinite(scores.grad).all()
