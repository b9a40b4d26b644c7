"""BiLSTM+ATT, a baseline of the IAAN paper."""

import torch
from torch import nn

from ser_models.attention import DotAttention
from ser_models.base import EmotionModel, check_sizes
from ser_models.recurrence import MaskedRecurrence
from ser_models.sequences import Dropout, Output, Padded


class BiLSTMAttention(EmotionModel):
    """BLSTM with weighted pooling (Mirsamadi, Barsoum and Zhang, ICASSP 2017).

    linear > ReLU > dropout > linear > ReLU > dropout > BLSTM > dropout > weighted pooling > linear.
    944,900 parameters at the published sizes with 45 descriptors and 4 classes.

    dense_size : size of each of the two dense layers (paper: 512)
    hidden_size : states of one direction of the BLSTM. The paper says "128 memory cells"; 128 for
        each direction is our reading
    dropout : share dropped after each layer except the pooling (paper: 0.5; the places are ours)

    The output has the attention `current`. The embedding is the pooled states.
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
        check_sizes(dropout, dims=dims, classes=classes)
        check_sizes(dense_size=dense_size, hidden_size=hidden_size)
        self.first = nn.Linear(dims, dense_size)
        self.second = nn.Linear(dense_size, dense_size)
        self.dropout = Dropout(dropout)
        # The recurrence also applies dropout to its inputs, the outputs of the second layer.
        self.recurrence = MaskedRecurrence(
            nn.LSTM, dense_size, hidden_size, dropout, bidirectional=True
        )
        self.pooling = DotAttention(2 * hidden_size)
        self.output = nn.Linear(2 * hidden_size, classes)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        dense = self.dropout(torch.relu(self.first(current.values)))
        dense = torch.relu(self.second(dense))  # (batch, time, dense)
        states = self.recurrence(Padded(dense, current.lengths))  # (batch, time, 2 * hidden)
        pooled, attention = self.pooling(states, current.mask)
        return Output(self.output(pooled), pooled, {"current": attention})
