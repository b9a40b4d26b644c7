"""CMN, a baseline of the IAAN paper: the memory of a conversation, read several times."""

import torch
from torch import Tensor, nn

from ser_models.attention import masked_softmax
from ser_models.base import EmotionModel, check_sizes
from ser_models.recurrence import MaskedRecurrence
from ser_models.sequences import Dropout, Output, Padded, single_vectors


class Memory(nn.Module):
    """The memory of one history: GRU > dropout > tanh > GRU.

    history : Padded of (batch, turns, dims), one vector a turn, the oldest turn first
    returns : (batch, turns, size), zeros on padding
    """

    def __init__(self, dims: int, size: int, dropout: float) -> None:
        super().__init__()
        self.turns = MaskedRecurrence(nn.GRU, dims, size)
        self.cells = MaskedRecurrence(nn.GRU, size, size)
        self.dropout = Dropout(dropout)

    def forward(self, history: Padded) -> Tensor:
        states = torch.tanh(self.dropout(self.turns(history)))
        memory: Tensor = self.cells(Padded(states, history.lengths))
        return memory


class CMN(EmotionModel):
    """Conversational memory network, audio only (Hazarika et al., NAACL 2018).

    q_1 = tanh(B u + b);  M_l = GRU'_l(tanh(dropout(GRU_l(history l)))) for l = own, other;
    for r = 1 to hops: p_l = softmax_k tanh(q_r . M_l,k);  o_l = sum_k dropout(p_l)_k M_l,k;
    q_{r+1} = tanh(q_r + o_own + o_other);  logits = W q_{hops+1} + c.
    874,504 parameters at the published sizes with 988 functionals and 4 classes.

    The equations and values are those of the authors' released code (declare-lab/conv-emotion,
    commit 1702c30), except for one difference, which is ours: each history is a sequence of its
    own. The released code gives both histories one common axis of 40 slots. There, the softmax of a
    history also gives weight to slots of the other one, and the memory GRU runs over empty slots.

    hidden_size : size of the query, of both GRUs and of a memory cell (released code: 100)
    hops : how often the memories are read (released code: 3)
    dropout : share dropped of the states of the first GRUs, and of the attention weights (released
        code: 0.7, which it writes as a share of 0.3 that is kept)

    current : (batch, 1, dims), one vector an utterance
    own, other : (batch, turns, dims), the vectors of the turns before the current one, of the same
        speaker and of the others, the oldest first. An empty history adds zero to the query
    returns : the attention `own` and `other`, (batch, turns) each: the mean over the hops of the
        weights before dropout (the mean is ours). The embedding is the last query,
        (batch, hidden_size)
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        *,
        hidden_size: int = 100,
        hops: int = 3,
        dropout: float = 0.7,
    ) -> None:
        super().__init__()
        check_sizes(dropout, dims=dims, classes=classes, hidden_size=hidden_size, hops=hops)
        self.hops = hops
        self.query = nn.Linear(dims, hidden_size)
        self.own = Memory(dims, hidden_size, dropout)
        self.other = Memory(dims, hidden_size, dropout)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_size, classes)

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None, /
    ) -> Output:
        if own is None or other is None:
            raise ValueError("this model reads context turns: pass `own` and `other`")
        query = torch.tanh(self.query(single_vectors(current)))  # (batch, hidden)
        memories = {"own": (self.own(own), own.mask), "other": (self.other(other), other.mask)}
        attention: dict[str, Tensor] = {}
        for _ in range(self.hops):
            update = query
            for name, (memory, mask) in memories.items():
                scores = torch.tanh(torch.einsum("bs,bts->bt", query, memory))
                weights = masked_softmax(scores, mask)  # (batch, turns)
                update = update + torch.einsum("bt,bts->bs", self.dropout(weights), memory)
                attention[name] = attention.get(name, 0) + weights / self.hops
            query = torch.tanh(update)
        return Output(self.output(query), query, attention)
