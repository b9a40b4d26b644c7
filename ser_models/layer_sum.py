"""SUPERB's classifier of emotions: a weighted sum of the layers of a frozen encoder."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ser_models.base import EmotionModel, check_sizes
from ser_models.sequences import Output, Padded, single_vectors


class LayerSum(EmotionModel):
    """The emotion head of SUPERB (Yang et al., Interspeech 2021) on the means of hidden states.

    m_1..m_G: mean over time of each layer's states, H values each;  a = softmax(w);
    x = W_1 (sum_g a_g m_g) + b_1;  logits = W_2 x + b_2. 197,905 parameters with the 13 layers of
    768 values of a base model and 4 classes.

    SUPERB weighs and projects each frame, and then takes the mean over time. All of it is linear,
    so the mean may be taken first: the logits are the same. w starts with zeros, so all layers
    weigh the same at first.

    groups : name -> columns of each layer, as in `FeatureSet.groups`; all layers have the same
        size. Without groups, all columns are one layer
    projection_size : size of the projection (SUPERB: 256)
    current : (batch, 1, dims), one vector an utterance

    The output has no attention. The embedding is the projection, (batch, projection_size).
    """

    order: Tensor

    def __init__(
        self,
        dims: int,
        classes: int,
        groups: Mapping[str, tuple[int, ...]],
        *,
        projection_size: int = 256,
    ) -> None:
        super().__init__()
        check_sizes(dims=dims, classes=classes, projection_size=projection_size)
        columns = list(groups.values()) or [tuple(range(dims))]
        order = [column for group in columns for column in group]
        if len({len(group) for group in columns}) != 1 or sorted(order) != list(range(dims)):
            raise ValueError(
                f"the groups of {dims} columns have the sizes {sorted(map(len, columns))}: "
                "layer_sum needs layers of one size, as in the feature set encoder_layers"
            )
        # Not saved: the feature set decides the order.
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.weights = nn.Parameter(torch.zeros(len(columns)))
        self.projection = nn.Linear(dims // len(columns), projection_size)
        self.output = nn.Linear(projection_size, classes)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        vectors = single_vectors(current)[:, self.order]
        layers = vectors.unflatten(1, (len(self.weights), -1))  # (batch, layers, size)
        mixed = torch.einsum("g,bgs->bs", torch.softmax(self.weights, dim=0), layers)
        embedding = self.projection(mixed)
        return Output(self.output(embedding), embedding, {})
