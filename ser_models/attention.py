"""Attention layers that pool a sequence of states into one vector."""

import torch
from torch import Tensor, nn


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real frames of each row; exactly 0 on padding and on rows without frames.

    Shapes
    ------
    scores, mask, returns : (batch, time)
    """
    # A finite floor and not -inf: a row without frames would be 0/0, and its gradient NaN.
    floor = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, floor), dim=1) * mask


class BahdanauAttention(nn.Module):
    """Additive attention pooling: e_t = v . tanh(W h_t + b), c = sum_t softmax(e)_t h_t.

    Source: Bahdanau et al. 2015, without a query; IAAN pools its context turns with it.

    Shapes
    ------
    states : (batch, time, size)
    mask : (batch, time)            True where a frame is real
    returns : (batch, size), (batch, time)   pooled states (zeros where no frame is real), weights
    """

    def __init__(self, size: int, attention_size: int) -> None:
        super().__init__()
        self.states = nn.Linear(size, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(torch.tanh(self.states(states))).squeeze(2)  # (batch, time)
        weights = masked_softmax(scores, mask)
        return torch.einsum("bt,bts->bs", weights, states), weights


class InteractionAttention(nn.Module):
    """Attention over the current turn, conditioned on its two context turns (IAAN, eq. 3 to 5).

    e_t = v . tanh(W_c h_t + W_p own + W_r other + b), c = sum_t softmax(e)_t h_t. An absent
    context is a zero vector, and its projection has no bias: it then adds nothing to a score.

    Shapes
    ------
    states : (batch, time, size)         BiGRU outputs of the current turn
    own, other : (batch, context_size)   pooled context turns
    mask : (batch, time)                 True where a frame is real
    returns : (batch, size), (batch, time)   pooled turn, attention weights
    """

    def __init__(self, size: int, context_size: int, attention_size: int) -> None:
        super().__init__()
        self.states = nn.Linear(size, attention_size)
        self.own = nn.Linear(context_size, attention_size, bias=False)
        self.other = nn.Linear(context_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def forward(
        self, states: Tensor, own: Tensor, other: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        context = (self.own(own) + self.other(other))[:, None]  # (batch, 1, attention)
        scores = self.score(torch.tanh(self.states(states) + context)).squeeze(2)
        weights = masked_softmax(scores, mask)
        return torch.einsum("bt,bts->bs", weights, states), weights
