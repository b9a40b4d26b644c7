"""The classifier of EmoBox: a projection of each frame, and the mean over time."""

import torch
from torch import nn

from ser_models.base import EmotionModel, check_sizes
from ser_models.sequences import Dropout, Output, Padded


class MeanPool(EmotionModel):
    """The downstream network of EmoBox (Ma et al., Interspeech 2024) on frames of an encoder.

    x_t = ReLU(A h_t + a);  c = mean over t of x_t;  logits = W c + b. 197,892 parameters with 768
    values a frame and 4 classes.

    hidden_size : size of the projection (ours: 256)
    dropout : share dropped of the mean (ours: 0; EmoBox drops nothing)

    The output has the attention `current`: 1 / frames on each real frame. The embedding is c.
    """

    def __init__(
        self, dims: int, classes: int, *, hidden_size: int = 256, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_sizes(dropout, dims=dims, classes=classes, hidden_size=hidden_size)
        self.projection = nn.Linear(dims, hidden_size)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_size, classes)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        projected = torch.relu(self.projection(current.values))  # (batch, time, hidden)
        # Under autocast, half precision is too coarse for weights over hundreds of frames.
        kind = torch.promote_types(projected.dtype, torch.float32)
        weights = current.mask.to(kind) / current.lengths[:, None].clamp(min=1)
        mean = torch.einsum("bt,bts->bs", weights, projected.to(kind))
        return Output(self.output(self.dropout(mean)), mean, {"current": weights})
