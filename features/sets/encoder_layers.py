"""The hidden states of a pretrained encoder, averaged over time: one row an utterance.

A row has the mean over time of each hidden state, one layer after another: (L + 1) H columns for L
layers of H values. Layer 0 is the input of the first layer. A model that is linear up to its mean
over time, such as SUPERB's head for emotions (`layer_sum`), needs no more, and the means take a
hundredth of the space of the frames.
"""

import functools
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from features.encoders.windows import Windows
from features.sets.base import FeatureSet, Shape
from features.sets.encoder import EncoderConfig


class EncoderLayersConfig(EncoderConfig):
    """Options of `encoder_layers`; see `EncoderConfig`."""

    shapes: ClassVar[tuple[Shape, ...]] = ("vector",)

    name: Literal["encoder_layers"] = "encoder_layers"

    def load(self) -> FeatureSet:
        description = self.description()
        states, size = description.states, description.size
        return self.feature_set(
            description, time_means, states * size, "vector", groups(states, size)
        )


@functools.cache
def groups(states: int, size: int) -> dict[str, tuple[int, ...]]:
    """The columns of each layer."""
    return {
        f"layer_{layer}": tuple(range(layer * size, (layer + 1) * size)) for layer in range(states)
    }


def time_means(windows: Windows) -> npt.NDArray[np.float64]:
    """The mean over time of each hidden state: (1, states * H)."""
    frames, total = 0, np.zeros((1, 1))
    for states in windows:
        total = total + states.sum(axis=1, dtype=np.float64)
        frames += states.shape[1]
    return (total / frames).reshape(1, -1)
