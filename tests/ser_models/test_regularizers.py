"""The regulariser against its formula, in NumPy."""

import numpy as np
import pytest
import torch

from ser_models.regularizers import (
    RegularizedLinear,
    mean_norm,
    norm_penalty,
    project,
    target_norm,
)

CLASSES, SIZE, BATCH = 4, 7, 5


@pytest.fixture
def inputs() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(BATCH, SIZE)


def _tau(inputs: torch.Tensor) -> float:
    """N / (C * sum_i ||x_i||_1)."""
    return len(inputs) / (CLASSES * sum(np.abs(x).sum() for x in inputs.numpy()))


def _layer(kind: str, weight: float | None = None) -> RegularizedLinear:
    torch.manual_seed(1)
    return RegularizedLinear(SIZE, CLASSES, kind, weight)


def test_the_functions_equal_the_formula(inputs: torch.Tensor) -> None:
    tau = _tau(inputs)
    weight = torch.randn(CLASSES, SIZE)
    target = target_norm(mean_norm(inputs), CLASSES)
    assert target.item() == pytest.approx(tau)
    penalty = sum((np.abs(column).sum() - tau) ** 2 for column in weight.numpy())
    assert norm_penalty(weight, target).item() == pytest.approx(penalty)
    projected = project(weight, target)
    expected = [column * tau / np.abs(column).sum() for column in weight.numpy()]
    np.testing.assert_allclose(projected, expected, rtol=1e-5)
    np.testing.assert_allclose(projected.abs().sum(1), [tau] * CLASSES, atol=1e-5)


def test_gradients_equal_finite_differences(inputs: torch.Tensor) -> None:
    weight = torch.randn(CLASSES, SIZE, dtype=torch.float64, requires_grad=True)
    target = target_norm(mean_norm(inputs.double()), CLASSES)
    assert torch.autograd.gradcheck(lambda w: norm_penalty(w, target), weight)
    assert torch.autograd.gradcheck(lambda w: project(w, target), weight)


@pytest.mark.parametrize("kind", ["penalty", "projection"])
def test_a_regularised_layer_has_no_bias(kind: str) -> None:
    assert _layer(kind).linear.bias is None
    logits, _ = _layer(kind)(torch.zeros(BATCH, SIZE))
    assert not logits.any()


def test_none_is_a_linear_layer(inputs: torch.Tensor) -> None:
    layer = _layer("none")
    logits, penalty = layer(inputs)
    torch.testing.assert_close(logits, layer.linear(inputs))
    assert penalty is None


def test_penalty_is_weighted_and_only_in_training(inputs: torch.Tensor) -> None:
    layer = _layer("penalty", 2.5)
    logits, penalty = layer(inputs)
    columns = layer.linear.weight.detach().numpy()
    expected = 2.5 * sum((np.abs(column).sum() - _tau(inputs)) ** 2 for column in columns)
    assert penalty.item() == pytest.approx(expected)
    torch.testing.assert_close(logits, layer.linear(inputs))
    evaluated, none = layer.eval()(inputs)
    assert none is None
    torch.testing.assert_close(evaluated, logits)


def test_the_default_of_lambda_is_a_hundredth(inputs: torch.Tensor) -> None:
    ratio = _layer("penalty")(inputs)[1] / _layer("penalty", 1.0)(inputs)[1]
    assert ratio.item() == pytest.approx(0.01)


def test_no_gradient_flows_through_tau(inputs: torch.Tensor) -> None:
    inputs.requires_grad_()
    _, penalty = _layer("penalty", 1.0)(inputs)
    assert torch.autograd.grad(penalty, inputs, allow_unused=True) == (None,)


def test_projection_predicts_with_columns_of_norm_tau(inputs: torch.Tensor) -> None:
    layer = _layer("projection")
    logits, penalty = layer(inputs)
    columns = layer.linear.weight.detach().numpy()
    scaled = columns * _tau(inputs) / np.abs(columns).sum(1, keepdims=True)
    np.testing.assert_allclose(np.abs(scaled).sum(1), _tau(inputs), atol=1e-5)
    expected = inputs.numpy() @ scaled.T
    np.testing.assert_allclose(logits.detach(), expected, atol=1e-6)
    assert penalty is None


def test_projection_keeps_a_running_norm_for_evaluation() -> None:
    layer = _layer("projection")
    batches = [torch.randn(BATCH, SIZE) * scale for scale in (1, 2, 5)]
    running = mean_norm(batches[0])
    for number, batch in enumerate(batches):
        layer(batch)
        running = running if number == 0 else 0.9 * running + 0.1 * mean_norm(batch)
    torch.testing.assert_close(layer.norm, running)
    layer.eval()
    together = layer(batches[2])[0]
    alone = torch.cat([layer(row[None])[0] for row in batches[2]])
    torch.testing.assert_close(alone, together)
    torch.testing.assert_close(layer.norm, running)  # evaluation does not change the mean
    restored = _layer("projection").eval()
    restored.load_state_dict(layer.state_dict())
    torch.testing.assert_close(restored(batches[2])[0], together)


@pytest.mark.parametrize("kind", ["penalty", "projection"])
def test_inputs_of_zeros_give_finite_numbers(kind: str) -> None:
    layer = _layer(kind)
    logits, penalty = layer(torch.zeros(BATCH, SIZE))
    (logits.sum() + (0 if penalty is None else penalty)).backward()
    assert torch.isfinite(layer.linear.weight.grad).all()
    assert penalty is None or torch.isfinite(penalty)


@pytest.mark.parametrize("kind", ["none", "projection"])
def test_lambda_without_a_penalty_is_an_error(kind: str) -> None:
    with pytest.raises(ValueError, match=f"regularizer_weight is 0.1, but {kind} has no weight"):
        _layer(kind, 0.1)


def test_a_wrong_value_is_named() -> None:
    with pytest.raises(ValueError, match="regularizer_weight is -1"):
        _layer("penalty", -1.0)
    with pytest.raises(ValueError, match="regularizer is 'l2'"):
        _layer("l2")
