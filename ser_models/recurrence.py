"""A recurrent layer whose states depend on real frames only.

On a GPU, cuDNN computes the layer, and on a CPU, oneDNN computes an LSTM. For a GRU on a CPU,
PyTorch would record ten operations a step for the gradient, each of them tiny. Here the frames of a
batch are packed, and the GRU has a gradient of its own: what a step passes on is linear in the
gradient of its state, with factors that are computed for all steps at once.
`benchmarks/epochs.py` measures what this saves.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from ser_models.sequences import Dropout, Padded, traced


class MaskedRecurrence(nn.Module):
    """A one-layer GRU or LSTM whose states depend on real frames only.

    dropout > GRU or LSTM > dropout. Dropout acts between layers, never on recurrent connections.

    hidden_size : states of one direction
    sequences : Padded of (batch, time, dims)
    returns : (batch, time, `hidden_size`, or 2 * `hidden_size` if bidirectional), zeros on padding
    """

    def __init__(
        self,
        cell: type[nn.GRU] | type[nn.LSTM],
        dims: int,
        hidden_size: int,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.ahead = cell(dims, hidden_size, batch_first=True)
        self.behind = cell(dims, hidden_size, batch_first=True) if bidirectional else None
        self.dropout = Dropout(dropout)

    def forward(self, sequences: Padded) -> Tensor:
        on_cpu = sequences.values.device.type == "cpu"
        # The packed steps depend on the lengths, so a trace (for ONNX) would fix them.
        if isinstance(self.ahead, nn.GRU) and on_cpu and not traced():
            return self._packed(sequences)
        # Padding follows the real frames in both directions, so it changes none of their states.
        values = self.dropout(sequences.values)
        states, _ = self.ahead(values)  # (batch, time, hidden)
        if self.behind is not None:
            # (batch, time): reverses the real frames of each row; its own inverse.
            steps = torch.arange(values.shape[1], device=values.device)[None]
            lengths = sequences.lengths[:, None]
            order = torch.where(steps < lengths, lengths - 1 - steps, steps)
            reversed_states, _ = self.behind(_reorder(values, order))
            states = torch.cat([states, _reorder(reversed_states, order)], dim=2)
        return self.dropout(states * sequences.mask[:, :, None])  # (batch, time, size)

    def _packed(self, sequences: Padded) -> Tensor:
        packing = Packing(sequences)
        frames = self.dropout(packing.pack(sequences.values))
        states = gru(self.ahead, frames, packing.sizes)
        if self.behind is not None:
            reversed_states = gru(self.behind, frames[packing.behind], packing.sizes)
            states = torch.cat([states, reversed_states[packing.behind]], dim=1)
        return packing.pad(self.dropout(states))


def _reorder(values: Tensor, order: Tensor) -> Tensor:
    """`values` (batch, time, dims) with the frames of each row in `order` (batch, time)."""
    return values.gather(1, order[:, :, None].expand(-1, -1, values.shape[2]))


class Packing:
    """The real frames of a batch, ordered by time: all first frames, then all second frames, ...

    Rows are sorted by length, the longest first, so that step t continues the first `sizes[t]` rows
    of step t - 1.

    sizes : rows of each step
    ahead : (frames,)   index of each frame in the flat batch, (batch * time)
    behind : (frames,)   for each frame, the one at the same place from the other end of its row, as
        a position in `ahead`; its own inverse
    """

    def __init__(self, sequences: Padded) -> None:
        self.shape = sequences.values.shape[:2]
        lengths, rows = sequences.lengths.sort(descending=True, stable=True)
        real = torch.arange(self.shape[1])[:, None] < lengths  # (time, batch)
        self.sizes: list[int] = [size for size in real.sum(1).tolist() if size]
        step, column = real.nonzero(as_tuple=True)
        start = rows[column] * self.shape[1]
        self.ahead = start + step
        position = torch.empty(self.shape.numel(), dtype=torch.int64)
        position[self.ahead] = torch.arange(len(self.ahead))
        self.behind = position[start + lengths[column] - 1 - step]

    def pack(self, values: Tensor) -> Tensor:
        """(batch, time, dims) -> (frames, dims)."""
        return values.flatten(0, 1)[self.ahead]

    def pad(self, frames: Tensor) -> Tensor:
        """(frames, dims) -> (batch, time, dims), zeros on padding."""
        flat = frames.new_zeros(self.shape.numel(), frames.shape[1])
        return flat.index_copy(0, self.ahead, frames).unflatten(0, self.shape)


def gru(cell: nn.Module, frames: Tensor, sizes: list[int]) -> Tensor:
    """The states of a one-layer GRU that begins with zeros, as PyTorch defines it.

    cell : an `nn.GRU`, whose parameters are used
    frames : (frames, dims)   in the order of a `Packing`, whose `sizes` are the rows of each step
    returns : (frames, hidden)
    """
    w_frame, w_state, b_frame, b_state = cell.parameters()
    states: Tensor = _Steps.apply(linear(frames, w_frame, b_frame), w_state, b_state, sizes)
    return states


def _steps(columns: list[Tensor], sizes: list[int]) -> list[tuple[Tensor, ...]]:
    """The parts of packed tensors for each step. Views: a write changes the whole tensor."""
    return list(zip(*(column.split(sizes) for column in columns), strict=True))


def _before(states: list[Tensor], sizes: list[int], like: Tensor) -> Tensor:
    """The state before each frame, (frames, hidden), from the states of the steps."""
    first = like.new_zeros(sizes[0] if sizes else 0, like.shape[1])
    later = [state[:size] for state, size in zip(states, sizes[1:], strict=False)]
    return torch.cat([first, *later])


class _Steps(torch.autograd.Function):
    """r, z = sigmoid(a + b);  n = tanh(a_n + r b_n);  h = n + z (h' - n);  b = W h' + c.

    gates : (frames, 3 * hidden)   a, in the order r, z, n
    weight, bias : (3 * hidden, hidden) and (3 * hidden,)   W and c
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
        size = weight.shape[1]
        n, h = (gates.new_empty(len(gates), size) for _ in range(2))
        b, rz = torch.empty_like(gates), gates[:, : 2 * size].clone()
        b_rz, b_n = b[:, : 2 * size], b[:, 2 * size :]
        columns = [gates[:, 2 * size :], b, b_rz, b_n, rz, rz[:, :size], rz[:, size:], n, h]
        steps, transposed = _steps(columns, sizes), weight.t()
        state = gates.new_zeros(sizes[0] if sizes else 0, size)
        for of_frame, of_state, of_switches, of_candidate, switches, r, z, candidate, new in steps:
            state = state[: len(new)]
            torch.addmm(bias, state, transposed, out=of_state)
            switches.add_(of_switches).sigmoid_()
            torch.addcmul(of_frame, r, of_candidate, out=candidate).tanh_()
            state = torch.lerp(candidate, state, z, out=new)
        ctx.sizes = sizes
        ctx.save_for_backward(weight, b_n, rz, n, h)
        return h

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(  # type: ignore[override]  # because of the decorators
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        weight, b_n, rz, n, h = ctx.saved_tensors
        size, sizes = weight.shape[1], ctx.sizes
        r, z, before = rz[:, :size], rz[:, size:], _before(h.split(sizes), sizes, h)
        of_n = (1 - z) * (1 - n * n)
        factors = [of_n * b_n * r * (1 - r), (before - n) * z * (1 - z), of_n * r]
        factor = torch.stack(factors, dim=1)  # (frames, 3, hidden): of b by that of h
        of_h, of_b = gradient.clone(), torch.empty_like(factor)
        flat = of_b.flatten(1)  # (frames, 3 * hidden)
        steps = _steps([of_h, of_h[:, None], factor, of_b, flat, z], sizes)
        for t in reversed(range(len(steps))):
            of_state, column, by, product, row, keep = steps[t]
            torch.mul(column, by, out=product)
            if t:
                steps[t - 1][0][: sizes[t]].addcmul_(of_state, keep).addmm_(row, weight)
        of_a = torch.cat([flat[:, : 2 * size], of_h * of_n], dim=1)
        return of_a, flat.t() @ before, flat.sum(0), None
