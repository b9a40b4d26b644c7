"""Attention layers that pool a sequence of states into one vector."""

import torch
from torch import Tensor, nn


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real frames of each row; exactly 0 on padding and in rows without frames.

    scores, mask, returns : (batch, time)
    """
    # Under autocast scores have half precision, too coarse for weights over hundreds of frames.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    # With -inf, a row without frames would be 0/0, and its gradient NaN.
    floor = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, floor), dim=1) * mask


class BahdanauAttention(nn.Module):
    """Additive attention pooling: e_t = v . tanh(W h_t + b), c = sum_t softmax(e)_t h_t.

    Source: Bahdanau et al. 2015, without a query. IAAN pools its context turns with this layer.

    states : (batch, time, size)
    mask : (batch, time)            True on real frames
    returns : (batch, size), (batch, time)   pooled states (zeros for a row without frames), weights
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
    context turn is a zero vector. Its projection has no bias, so it adds nothing to a score.

    states : (batch, time, size)         BiGRU outputs of the current turn
    own, other : (batch, context_size)   pooled context turns
    mask : (batch, time)                 True on real frames
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


class DotAttention(nn.Module):
    """Attention pooling by a dot product: a = softmax_t(h_t . w), c = sum_t a_t h_t.

    Sources: the attention of ACRNN (Chen et al. 2018, as the SSA-CRNN paper gives it) and the
    weighted pooling of Mirsamadi et al. 2017 (eq. 8 and 9). The two are the same.

    Shapes are those of `BahdanauAttention`.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weights = masked_softmax(self.score(states).squeeze(2), mask)
        return torch.einsum("bt,bts->bs", weights, states), weights


class SelfSpeakerAttention(nn.Module):
    """Self Speaker Attention (SSA-CRNN, Interspeech 2021): an emotion query over both encoders.

    q = h_em^T w_q;  s = [h_em W_k,em q ; h_sp W_k,sp q] / sqrt(T);  [a_em ; a_sp] = softmax(s);
    c = [a_em^T h_em W_v,em ; a_sp^T h_sp W_v,sp]. The 2T scores share one softmax, so a larger
    weight of the speaker means a smaller weight of the emotion. The concatenation is our reading
    of "c in R^{2d}".

    w_q has an entry for each of the T steps of a full segment. A batch of shorter segments uses
    the first entries, and the divisor stays sqrt(T). The result then does not depend on padding.
    The initial w_q is uniform in +-1/sqrt(T), like a linear layer over T values (ours).

    size : d, states of both directions of an encoder
    steps : T, steps of a full segment
    emotion, speaker : (batch, time, size)   states of the two encoders; time at most `steps`
    mask : (batch, time)                     True on real steps
    returns : (batch, 2 * size), (batch, time), (batch, time)   pooled values, a_em, a_sp
    """

    def __init__(self, size: int, steps: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(steps).uniform_(-(steps**-0.5), steps**-0.5))
        self.emotion_key = nn.Linear(size, size, bias=False)
        self.speaker_key = nn.Linear(size, size, bias=False)
        self.emotion_value = nn.Linear(size, size, bias=False)
        self.speaker_value = nn.Linear(size, size, bias=False)

    def forward(
        self, emotion: Tensor, speaker: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, time = len(self.query), emotion.shape[1]
        if time > steps:
            raise ValueError(f"a batch has {time} steps, but the query has {steps} weights")
        query = torch.einsum("bts,bt->bs", emotion, self.query[:time] * mask)
        keys = torch.cat([self.emotion_key(emotion), self.speaker_key(speaker)], dim=1)
        scores = torch.einsum("bts,bs->bt", keys, query) / steps**0.5  # (batch, 2 * time)
        weights = masked_softmax(scores, torch.cat([mask, mask], dim=1))
        # Slices, because an ONNX file of `split` would have the time of its example.
        of_emotion, of_speaker = weights[:, :time], weights[:, time:]
        c_em = torch.einsum("bt,bts->bs", of_emotion, self.emotion_value(emotion))
        c_sp = torch.einsum("bt,bts->bs", of_speaker, self.speaker_value(speaker))
        return torch.cat([c_em, c_sp], dim=1), of_emotion, of_speaker
