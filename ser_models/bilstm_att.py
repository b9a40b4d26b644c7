"""BiLSTM+ATT, one of IAAN's baselines."""

import torch
from torch import Tensor, nn

from ser_models.attention import DotAttention
from ser_models.checks import at_least, is_share, weight_matrices
from ser_models.sequences import MaskedRecurrence, Output, Padded


class BiLSTMAttention(nn.Module):
    """BLSTM with weighted pooling (Mirsamadi, Barsoum and Zhang, ICASSP 2017).

    linear > ReLU > dropout > linear > ReLU > dropout > BLSTM > dropout > weighted pooling > linear.
    944,900 parameters at the published sizes with 45 descriptors and 4 classes.

    Parameters
    ----------
    dims : descriptors a frame
    classes : number of emotions
    dense_size : of each of the two dense layers (512, the paper's)
    hidden_size : of one direction of the BLSTM. The paper says "128 memory cells" of it; that each
        direction has them is our reading
    dropout : share dropped after each layer but the pooling (0.5, the paper's; the places are ours)

    Shapes
    ------
    current : Padded of (batch, time, dims); own and other are not looked at
    returns : Output with attention `current`; the embedding is the pooled states
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        *,
        dense_size: int = 512,
        hidden_size: int = 128,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        at_least(1, dims=dims, dense_size=dense_size, hidden_size=hidden_size)
        at_least(2, classes=classes)
        is_share(dropout=dropout)
        self.first = nn.Linear(dims, dense_size)
        self.second = nn.Linear(dense_size, dense_size)
        self.dropout = nn.Dropout(dropout)
        # The recurrence drops its inputs too, which are the second layer's outputs.
        self.recurrence = MaskedRecurrence(
            nn.LSTM, dense_size, hidden_size, bidirectional=True, dropout=dropout
        )
        self.pooling = DotAttention(2 * hidden_size)
        self.output = nn.Linear(2 * hidden_size, classes)

    def decayed_parameters(self) -> list[Tensor]:
        """What weight decay applies to: all weight matrices."""
        return weight_matrices(self)

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None
    ) -> Output:
        dense = self.dropout(torch.relu(self.first(current.values)))
        dense = torch.relu(self.second(dense))  # (batch, time, dense)
        states = self.recurrence(Padded(dense, current.lengths))  # (batch, time, 2 * hidden)
        pooled, attention = self.pooling(states, current.mask)
        return Output(self.output(pooled), pooled, {"current": attention})
