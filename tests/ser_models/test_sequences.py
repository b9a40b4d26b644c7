"""Layers whose results do not depend on padding."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ser_models.sequences import Dropout, MaskedBatchNorm, Padded

LENGTHS = [5, 2, 4]


def test_batch_norm_equals_that_of_pytorch_on_the_real_frames(
    padded: Callable[..., Padded],
) -> None:
    torch.manual_seed(3)
    ours, theirs = MaskedBatchNorm(6), nn.BatchNorm1d(6)
    with torch.no_grad():
        for layer in (ours, theirs):
            layer.weight.copy_(torch.arange(6) + 0.5)
            layer.bias.copy_(torch.arange(6) - 2.0)
    for _ in range(3):
        sequences = padded(torch.randn(3, 5, 6) * 3 + 1, LENGTHS)
        real = ours(sequences.values, sequences.mask)[sequences.mask]
        torch.testing.assert_close(real, theirs(sequences.values[sequences.mask]))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_variance, theirs.running_var)
    ours.eval()
    theirs.eval()
    real = ours(sequences.values, sequences.mask)[sequences.mask]
    torch.testing.assert_close(real, theirs(sequences.values[sequences.mask]))


def test_batch_norm_without_an_offset_has_the_mean_0(padded: Callable[..., Padded]) -> None:
    layer = MaskedBatchNorm(6, offset=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    sequences = padded(torch.randn(3, 5, 6) * 3 + 1, LENGTHS)
    real = layer(sequences.values, sequences.mask)[sequences.mask]
    torch.testing.assert_close(real.mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(real.var(0, correction=0), torch.ones(6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("length", [0, 1])
def test_batch_norm_of_at_most_one_frame_is_finite(length: int) -> None:
    layer = MaskedBatchNorm(2)
    values = layer(torch.randn(1, 3, 2), torch.arange(3)[None] < length)
    assert torch.isfinite(values).all()
    assert torch.isfinite(layer.running_variance).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_keeps_a_share_of_the_values_and_scales_them(
    share: float, kind: torch.dtype
) -> None:
    torch.manual_seed(0)
    values = torch.randn(40, 50, 20, dtype=kind).requires_grad_()
    layer = Dropout(share)
    dropped = layer(values)
    assert dropped.dtype == kind
    kept = dropped != 0
    deviation = (share * (1 - share) / values.numel()) ** 0.5
    assert abs(1 - share - kept.double().mean().item()) < 5 * deviation
    scale = torch.tensor(1 / (1 - share), dtype=torch.float32).to(kind)
    torch.testing.assert_close(dropped, torch.where(kept, values * scale, 0))
    dropped.sum().backward()
    torch.testing.assert_close(values.grad, kept * scale)
    assert torch.equal(layer.eval()(values), values)


def test_dropout_is_decided_by_the_generator() -> None:
    layer, values = Dropout(0.3), torch.ones(30, 40)

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return layer(values)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    # Neighbours are independent: a share of 0.7 ** 2 of them is kept together.
    kept = draw(3) != 0
    assert abs((kept[:, 1:] & kept[:, :-1]).double().mean() - 0.49) < 0.06
