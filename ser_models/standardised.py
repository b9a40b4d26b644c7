"""A network that turns its input into z-scores, with a mean and deviation of its own."""

import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_models.base import EmotionModel, FittedModel
from ser_models.sequences import Output, Padded


class Standardised(EmotionModel):
    """(x - mean) / deviation > network. A column with deviation 0 becomes 0, and so does padding.

    Mean and deviation are saved with the weights, so the network works without its training data.

    mean, deviation : (dims,) float64, of the training part; `set_statistics` sets them
    current, own, other : features as extracted
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: EmotionModel, dims: int) -> None:
        super().__init__()
        self.network = network
        # float64: some descriptors have a mean that is large beside their deviation.
        self.register_buffer("mean", torch.zeros(dims, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones(dims, dtype=torch.float64))

    def set_statistics(self, mean: NDArray, deviation: NDArray) -> None:
        """Set mean and deviation, (dims,) each."""
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(deviation))

    def scores(self, values: Tensor) -> Tensor:
        """The z-scores of `values` (..., dims), in their type."""
        scores = (values - self.mean) / self.deviation  # at least float64
        return torch.where(self.deviation > 0, scores, 0).to(values.dtype)

    def _input(self, turns: Padded | None) -> Padded | None:
        if turns is None:
            return None
        return Padded(torch.where(turns.mask[:, :, None], self.scores(turns.values), 0), turns[1])

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None, /
    ) -> Output:
        return self.network(*map(self._input, (current, own, other)))

    def fit(self, vectors: NDArray, labels: NDArray, seed: int) -> None:
        """Fit a network that is fitted in one step; see `FittedModel.fit`."""
        assert isinstance(self.network, FittedModel)
        self.network.fit(
            self.scores(torch.from_numpy(vectors).to(self.mean.device)).cpu().numpy(), labels, seed
        )

    def decayed_parameters(self) -> list[Tensor]:
        return self.network.decayed_parameters()

    def extra_loss(self, output: Output, labels: Tensor, speakers: Tensor) -> Tensor | None:
        return self.network.extra_loss(output, labels, speakers)

    def after_step(self, embeddings: Tensor, labels: Tensor) -> None:
        self.network.after_step(embeddings, labels)
