"""IAAN and its three variants, as options of one network."""

from typing import Literal

import torch
from torch import Tensor, nn

from ser_models.attention import BahdanauAttention, InteractionAttention
from ser_models.base import EmotionModel, check_sizes
from ser_models.recurrence import MaskedRecurrence
from ser_models.sequences import Dropout, Output, Padded

ContextKind = Literal["none", "previous", "random"]


class IAAN(EmotionModel):
    """Interaction-aware attention network (Yeh, Lin and Lee, ICASSP 2019).

    BiGRU (current turn), two GRUs > Bahdanau attention (context turns)
    > interaction-aware attention > [h_c ; h_p ; h_r] > linear > ReLU > dropout > linear.
    Parameters at the published sizes with 45 descriptors and 4 classes: 3,595,076; 3,529,540 for
    prediction from h_c alone; 761,668 without context.

    hidden_size : states of a context GRU, and of both directions of the BiGRU together (paper: 512)
    attention_size : d of the attention layers (paper: 512)
    projection_size : size of the first projection (authors' code: 64; the paper gives none)
    dropout : share dropped before and after each recurrent layer and after the first projection.
        The paper says "90% dropout", the authors' code keeps 0.9, and their published run keeps
        all. 0.1 is ours
    normalize_projection : whether layer normalisation follows the first projection. The authors'
        code has it, the paper does not mention it. False is the paper's equation
    context : `previous` (the turns before), `random` (any turns of the dialogue: RandIAAN) or
        `none` (BiGRU+ATT: attention and prediction from the current turn alone)
    predict_from_context : False to predict from h_c alone (BiGRU+IAA)

    The output has the attention `current`, and `own` and `other` if the context is used. Turns in
    `own` and `other` may be absent (length 0).
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
            raise ValueError(f"hidden_size is {hidden_size}: it must be even and at least 2")
        check_sizes(dropout, dims=dims, classes=classes)
        check_sizes(attention_size=attention_size, projection_size=projection_size)
        self.context: ContextKind = context
        self.predict_from_context = predict_from_context and context != "none"
        self.current = MaskedRecurrence(nn.GRU, dims, hidden_size // 2, dropout, bidirectional=True)
        if context == "none":
            self.attention: nn.Module = BahdanauAttention(hidden_size, attention_size)
        else:
            self.own = MaskedRecurrence(nn.GRU, dims, hidden_size, dropout)
            self.other = MaskedRecurrence(nn.GRU, dims, hidden_size, dropout)
            self.own_pooling = BahdanauAttention(hidden_size, attention_size)
            self.other_pooling = BahdanauAttention(hidden_size, attention_size)
            self.attention = InteractionAttention(hidden_size, hidden_size, attention_size)
        pooled = hidden_size * (3 if self.predict_from_context else 1)
        self.projection = nn.Linear(pooled, projection_size)
        self.normalization = nn.LayerNorm(projection_size) if normalize_projection else None
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(projection_size, classes)

    def decayed_parameters(self) -> list[Tensor]:
        """The weights and biases of the two projection layers, as in the paper."""
        return [*self.projection.parameters(), *self.output.parameters()]

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None, /
    ) -> Output:
        states = self.current(current)  # (batch, time, hidden)
        attention: dict[str, Tensor] = {}
        if self.context == "none":
            pooled, attention["current"] = self.attention(states, current.mask)
        else:
            if own is None or other is None:
                raise ValueError("this model reads context turns: pass `own` and `other`")
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
