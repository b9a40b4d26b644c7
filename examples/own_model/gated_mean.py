"""A model of your own: a gated mean over time of frames. See docs/extending.md."""

import torch
from torch import Tensor, nn

from ser_models import Context, EmotionModel
from ser_models.sequences import Dropout, Output, Padded


class GatedMean(EmotionModel):
    """Emotions from a mean over time whose weights the network learns, one for each value.

    h_t = ReLU(A x_t + a);  g_t = sigmoid(B x_t + b);  c = sum of g_t h_t / sum of g_t over time;
    logits = W c + w.

    hidden_size : size of h_t and g_t
    dropout : share dropped of c
    sharpness : factor of the input of the sigmoid
    """

    # The class attributes are the entry of the model. Without them, these are the defaults.
    reads = "frames"  # a sequence of frames; or "vector", one vector an utterance
    features = "emobase_lld45"  # the feature set if the configuration names no other
    context = Context()  # no turns beside the current one
    # Defaults of the section `training`. PyTorch's flag of the same name is an instance's.
    training = {"learning_rate": 3e-3, "weight_decay": 1e-4}  # type: ignore  # noqa: RUF012

    # Positional parameters are sizes of the data. Keyword-only parameters are hyperparameters:
    # each has a type and a default, and a configuration sets it as model.NAME.
    def __init__(
        self,
        dims: int,
        classes: int,
        *,
        hidden_size: int = 64,
        dropout: float = 0.2,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__()
        if hidden_size < 1:
            raise ValueError(f"hidden_size is {hidden_size}: it must be at least 1")
        self.sharpness = sharpness
        self.value = nn.Linear(dims, hidden_size)
        self.gate = nn.Linear(dims, hidden_size)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_size, classes)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        hidden = torch.relu(self.value(current.values))  # (batch, time, hidden)
        gate = torch.sigmoid(self.sharpness * self.gate(current.values))
        mean = self._mean(hidden, gate * current.mask[:, :, None])  # padding has the weight 0
        return Output(self.output(self.dropout(mean)), mean, {})

    @staticmethod
    def _mean(hidden: Tensor, weights: Tensor) -> Tensor:
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-6)
