"""GRU and LSTM: the equations, padding, and the gradient of the GRU on a CPU."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ser_models.recurrence import MaskedRecurrence, Packing, gru
from ser_models.sequences import Padded

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


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(0, 3))
def test_packing_orders_the_real_frames_by_time(lengths: list[int], extra: int) -> None:
    """Zeros are absent turns. All frames hold their row, and their place in it from either end."""
    time = max(lengths) + extra
    values = torch.full((len(lengths), time, 3), -1.0)
    for row, length in enumerate(lengths):
        values[row, :length, 0] = row
        values[row, :length, 1] = torch.arange(length)
        values[row, :length, 2] = torch.arange(length).flip(0)
    packing = Packing(Padded(values, torch.tensor(lengths)))
    frames = packing.pack(values)
    places = [place for step, size in enumerate(packing.sizes) for place in [step] * size]
    assert frames[:, 1].tolist() == places
    assert [len([n for n in lengths if n > step]) for step in range(max(lengths))] == packing.sizes
    turned = frames[packing.behind]
    assert torch.equal(turned[:, 0], frames[:, 0])
    assert torch.equal(turned[:, 1], frames[:, 2])
    assert torch.equal(turned[packing.behind], frames)
    expected = torch.where(values == -1, 0.0, values)
    assert torch.equal(packing.pad(frames), expected)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
    st.integers(0, 2**31),
)
def test_the_gru_on_a_cpu_has_the_states_and_gradients_of_pytorchs(
    lengths: list[int], bidirectional: bool, hidden: int, seed: int
) -> None:
    """PyTorch computes each row alone, without padding."""
    torch.manual_seed(seed)
    layer = MaskedRecurrence(nn.GRU, 3, hidden, bidirectional=bidirectional).double()
    shape = (len(lengths), max(lengths) + 1, 3)
    values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    states = layer(Padded(values, torch.tensor(lengths)))
    rows = []
    for row, length in zip(values, lengths, strict=True):
        real = row[None, :length]
        parts = [layer.ahead(real)[0]] if length else [row.new_zeros(1, 0, hidden)]
        if bidirectional:
            parts.append(layer.behind(real.flip(1))[0].flip(1) if length else parts[0])
        joined = torch.cat(parts, dim=2)[0]
        rows.append(nn.functional.pad(joined, (0, 0, 0, shape[1] - length)))
    expected = torch.stack(rows)
    torch.testing.assert_close(states, expected, atol=1e-12, rtol=1e-12)
    inputs = [values, *layer.parameters()]
    weights = torch.randn_like(states)
    got = torch.autograd.grad((states * weights).sum(), inputs)
    total = (expected * weights).sum() + 0 * values.sum()  # no frames, no graph
    want = torch.autograd.grad(total, inputs, materialize_grads=True)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


def test_the_gradient_of_the_gru_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    cell = nn.GRU(2, 3).double()
    frames = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda frames, *weights: gru(cell, frames, [3, 3, 1, 1]), (frames, *cell.parameters())
    )
