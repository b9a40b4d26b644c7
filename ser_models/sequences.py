"""What goes into a model and comes out of it, and recurrent layers that never see padding."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Padded(NamedTuple):
    """Sequences of different lengths in one tensor.

    values : (batch, time, dims)
    lengths : (batch,) int64 on the CPU; 0 where a sequence is absent
    """

    values: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """(batch, time), True where a frame is real."""
        steps = torch.arange(self.values.shape[1], device=self.values.device)
        return steps[None, :] < self.lengths.to(self.values.device)[:, None]

    @property
    def present(self) -> Tensor:
        """(batch, 1), 1.0 where there is a sequence and 0.0 where it is absent."""
        lengths = self.lengths.to(self.values.device)
        return (lengths > 0).to(self.values.dtype)[:, None]


class Output(NamedTuple):
    """What a model makes of a batch.

    logits : (batch, classes)
    embedding : (batch, embedding)   input of the last layer
    attention : name -> (batch, time)   weights over frames, 0 on padding
    """

    logits: Tensor
    embedding: Tensor
    attention: dict[str, Tensor]


class MaskedGRU(nn.Module):
    """A one-layer GRU whose states depend on real frames only, whatever the padding.

    dropout > GRU > dropout, both on values between layers and never on recurrent ones.

    Shapes
    ------
    sequences : Padded of (batch, time, dims)
    returns : (batch, time, size), zeros on padding; size is `hidden_size` for one direction and
        2 * `hidden_size` for two
    """

    def __init__(
        self, dims: int, hidden_size: int, bidirectional: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.gru = nn.GRU(dims, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequences: Padded) -> Tensor:
        # An absent sequence runs as one frame of zeros: packing takes no empty one, and what
        # comes of it is masked by whoever pools it.
        lengths = sequences.lengths.clamp(min=1)
        packed = pack_padded_sequence(
            self.dropout(sequences.values), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = self.gru(packed)
        time = sequences.values.shape[1]
        padded, _ = pad_packed_sequence(states, batch_first=True, total_length=time)
        return self.dropout(padded)  # (batch, time, size)
