"""Recurrent layers against a loop over time, written from the equations of their gates."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ser_models.sequences import Dropout, MaskedBatchNorm, MaskedRecurrence, Padded

LENGTHS = [5, 2, 4]


def _gates(direction: nn.Module, frame: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The terms of the frame and of the previous state, each for all gates."""
    w_i, w_h, b_i, b_h = (
        getattr(direction, f"{kind}_l0")
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return w_i @ frame + b_i, w_h @ h + b_h


def _gru_step(direction: nn.Module, frame: Tensor, h: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    of_frame, of_state = _gates(direction, frame, h)
    r_i, z_i, n_i = of_frame.chunk(3)
    r_h, z_h, n_h = of_state.chunk(3)
    reset, update = torch.sigmoid(r_i + r_h), torch.sigmoid(z_i + z_h)
    return (1 - update) * torch.tanh(n_i + reset * n_h) + update * h, h


def _lstm_step(
    direction: nn.Module, frame: Tensor, h: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor]:
    of_frame, of_state = _gates(direction, frame, h)
    enter, forget, candidate, leave = (of_frame + of_state).chunk(4)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


@pytest.mark.parametrize(
    ("cell", "step"), [(nn.GRU, _gru_step), (nn.LSTM, _lstm_step)], ids=["GRU", "LSTM"]
)
def test_a_recurrence_equals_a_loop_over_single_sequences(
    cell: type[nn.GRU] | type[nn.LSTM],
    step: Callable[..., tuple[Tensor, Tensor]],
    padded: Callable[..., Padded],
) -> None:
    torch.manual_seed(2)
    layer = MaskedRecurrence(cell, 3, 4, bidirectional=True)
    sequences = padded(torch.randn(3, 5, 3), LENGTHS)
    states = layer(sequences)
    assert states.shape == (3, 5, 8)
    for row, length in enumerate(LENGTHS):
        for direction, part, order in (
            (layer.ahead, slice(0, 4), range(length)),
            (layer.behind, slice(4, 8), reversed(range(length))),
        ):
            h = memory = torch.zeros(4)
            for t in order:
                h, memory = step(direction, sequences.values[row, t], h, memory)
                torch.testing.assert_close(states[row, t, part], h, atol=1e-6, rtol=1e-5)
        assert (states[row, length:] == 0).all()


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM], ids=["GRU", "LSTM"])
def test_a_recurrence_of_one_direction_reads_forward(
    cell: type[nn.GRU] | type[nn.LSTM], padded: Callable[..., Padded]
) -> None:
    layer = MaskedRecurrence(cell, 3, 4)
    sequences = padded(torch.randn(3, 5, 3), LENGTHS)
    expected = layer.ahead(sequences.values)[0] * sequences.mask[:, :, None]
    torch.testing.assert_close(layer(sequences), expected)


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
