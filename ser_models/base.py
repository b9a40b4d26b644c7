"""The base classes of all models, and the check of sizes that they share."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ser_models.sequences import Output, Padded


class Sizes(NamedTuple):
    """Sizes that the data decide.

    dims : values in each frame
    classes : number of emotions
    speakers : number of speakers in the training part
    segment : frames of a full segment, if the features are cut into segments
    groups : columns of each group of descriptors, by name; empty if all columns are one group
    """

    dims: int
    classes: int
    speakers: int = 1
    segment: int = 1
    groups: Mapping[str, tuple[int, ...]] = {}


class EmotionModel(nn.Module):
    """A classifier of emotions. Its positional parameters are fields of `Sizes`.

    Its keyword-only parameters are hyperparameters, which a configuration sets under `model`.
    """

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None, /
    ) -> Output:
        """Classify the turns `current`, Padded of (batch, time, dims).

        `own` and `other`, in the same form, are turns of the same and of the other speaker. Only a
        model with context reads them.
        """
        raise NotImplementedError

    def decayed_parameters(self) -> list[Tensor]:
        """The parameters that weight decay applies to: by default those of two or more dimensions.

        Biases, gains and queries over time have one dimension.
        """
        return [parameter for parameter in self.parameters() if parameter.ndim > 1]

    def extra_loss(self, output: Output, labels: Tensor, speakers: Tensor) -> Tensor | None:
        """The loss beside the cross-entropy of the emotions, or None.

        output : of a batch in training
        labels : (batch,)   number of each piece's class
        speakers : (batch,)   number of each piece's speaker
        returns : ()   sum over the batch; the regulariser's `output.penalty` is not part of it
        """
        return None

    def after_step(self, embeddings: Tensor, labels: Tensor) -> None:
        """Update the buffers that learn without a gradient. Called after each step of training.

        Replicas of a fold call it with the same values, so that their buffers stay equal.

        embeddings : (batch, embedding) float32   `Output.embedding` of the whole batch, before the
            step
        labels : (batch,)   number of each piece's class
        """


class FittedModel(EmotionModel):
    """A model that is fitted in one step, without gradients."""

    def fit(self, vectors: NDArray[np.floating], labels: NDArray[np.integer], seed: int) -> None:
        """Fit on `vectors` (n, dims) and their `labels` (n,), numbered from 0."""
        raise NotImplementedError


def check_sizes(dropout: float = 0.0, **sizes: int) -> None:
    """Raise ValueError for less than two `classes` or `speakers`, or another size below 1."""
    for name, size in sizes.items():
        minimum = 2 if name in ("classes", "speakers") else 1
        if size < minimum:
            raise ValueError(f"{name} is {size}: it must be at least {minimum}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}: it must be at least 0 and below 1")
