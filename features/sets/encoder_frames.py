"""The frames of one layer of a pretrained encoder: (T, H), about 50 frames a second."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from features.encoders.description import Array, problem
from features.encoders.windows import Windows
from features.errors import FeatureError
from features.sets.base import EXTRACTED, FeatureSet, Shape
from features.sets.encoder import EncoderConfig


class EncoderFramesConfig(EncoderConfig):
    """Options of `encoder_frames`; see also `EncoderConfig`.

    layer : the layer whose output is taken; 0 is the input of the first layer. The default is the
        last layer
    pool : frames that are averaged into one; 1 (default) keeps all
    max_frames : frames that are kept of each utterance, before pooling. The default is 1500 (30 s)
    """

    shapes: ClassVar[tuple[Shape, ...]] = ("frames",)

    name: Literal["encoder_frames"] = "encoder_frames"
    layer: Annotated[int | None, Field(ge=0), EXTRACTED] = None
    pool: int = Field(1, ge=1)
    max_frames: int = Field(1500, ge=1)

    @property
    def pooling(self) -> int:
        return self.pool

    @property
    def cap(self) -> int | None:
        return self.max_frames

    def load(self) -> FeatureSet:
        description = self.description()
        last = description.states - 1
        layer = last if self.layer is None else self.layer
        if layer > last:
            raise FeatureError(
                f"features.layer is {layer}, but the last layer of {self.encoder!r} is {last}"
            )
        if not description.stride:
            raise problem(
                self.encoder, "gives one vector an utterance: use features.name=encoder_layers"
            )

        def frames(windows: Windows) -> Array:
            return np.concatenate([states[layer] for states in windows])

        return self.feature_set(description, frames, description.size, "frames")
