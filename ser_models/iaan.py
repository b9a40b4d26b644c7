"""IAAN and its three variants: one network with switches."""

from typing import Literal

import torch
from torch import Tensor, nn

from ser_models.attention import BahdanauAttention, InteractionAttention
from ser_models.checks import at_least, is_share
from ser_models.sequences import MaskedRecurrence, Output, Padded

ContextKind = Literal["none", "previous", "random"]


class IAAN(nn.Module):
    """Interaction-aware attention network (Yeh, Lin and Lee, ICASSP 2019).

    BiGRU (current turn), two GRUs > Bahdanau attention (context turns)
    > interaction-aware attention > [h_c ; h_p ; h_r] > linear > ReLU > dropout > linear.
    3,595,076 parameters at the published sizes with 45 descriptors and 4 classes; 3,529,540 where
    it predicts from h_c alone, 761,668 without context.

    Parameters
    ----------
    dims : descriptors a frame
    classes : number of emotions
    hidden_size : states of a context GRU, and of both directions of the BiGRU together (512)
    attention_size : d of the attention layers (512)
    projection_size : of the first projection; the paper is silent, the authors' code has 64
    dropout : share dropped before and after each recurrent layer and after the first projection.
        The paper says "90% dropout", its code keeps 0.9, its published run keeps all: 0.1 is ours
    normalize_projection : layer normalisation of the first projection's output. The authors' code
        normalises there; that it is over the layer, so that no utterance depends on the others
        of its batch, is our choice
    context : `previous` (the turns before), `random` (any of the dialogue: RandIAAN), or `none`
        (BiGRU+ATT: attention and prediction from the current turn alone)
    predict_from_context : False predicts from h_c alone (BiGRU+IAA)

    Shapes
    ------
    current, own, other : Padded of (batch, time, dims); own and other may be absent (length 0)
    returns : Output with attention `current`, and `own`, `other` where the context is used
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        *,
        hidden_size: int = 512,
        attention_size: int = 512,
        projection_size: int = 64,
        dropout: float = 0.1,
        normalize_projection: bool = False,
        context: ContextKind = "previous",
        predict_from_context: bool = True,
    ) -> None:
        super().__init__()
        if hidden_size < 2 or hidden_size % 2:
            raise ValueError(
                f"hidden_size is {hidden_size}: it must be even, for half of it goes each way"
            )
        at_least(1, dims=dims, attention_size=attention_size, projection_size=projection_size)
        at_least(2, classes=classes)
        is_share(dropout=dropout)
        self.context: ContextKind = context
        self.predict_from_context = predict_from_context and context != "none"
        self.current = MaskedRecurrence(
            nn.GRU, dims, hidden_size // 2, bidirectional=True, dropout=dropout
        )
        if context == "none":
            self.attention: nn.Module = BahdanauAttention(hidden_size, attention_size)
        else:
            self.own = MaskedRecurrence(nn.GRU, dims, hidden_size, dropout=dropout)
            self.other = MaskedRecurrence(nn.GRU, dims, hidden_size, dropout=dropout)
            self.own_pooling = BahdanauAttention(hidden_size, attention_size)
            self.other_pooling = BahdanauAttention(hidden_size, attention_size)
            self.attention = InteractionAttention(hidden_size, hidden_size, attention_size)
        pooled = hidden_size * (3 if self.predict_from_context else 1)
        self.projection = nn.Linear(pooled, projection_size)
        self.normalization = nn.LayerNorm(projection_size) if normalize_projection else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(projection_size, classes)

    def decayed_parameters(self) -> list[Tensor]:
        """What weight decay applies to: the weights of the two projection layers (the paper)."""
        return [self.projection.weight, self.output.weight]

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None
    ) -> Output:
        states = self.current(current)  # (batch, time, hidden)
        attention: dict[str, Tensor] = {}
        if self.context == "none":
            pooled, attention["current"] = self.attention(states, current.mask)
        else:
            if own is None or other is None:
                raise ValueError("this model attends to context turns: pass `own` and `other`")
            h_own, attention["own"] = self.own_pooling(self.own(own), own.mask)
            h_other, attention["other"] = self.other_pooling(self.other(other), other.mask)
            pooled, attention["current"] = self.attention(states, h_own, h_other, current.mask)
            if self.predict_from_context:
                pooled = torch.cat([pooled, h_own, h_other], dim=1)  # (batch, 3 * hidden)
        projected = self.projection(pooled)
        if self.normalization is not None:
            projected = self.normalization(projected)
        embedding = torch.relu(projected)  # (batch, projection)
        return Output(self.output(self.dropout(embedding)), embedding, attention)
