"""The parts that `encoder_layers` and `encoder_frames` share: their options, and the extraction."""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from features import encoders
from features.encoders import windows
from features.encoders.description import Description
from features.errors import FeatureError
from features.sets.base import EXTRACTED, SEARCHABLE, FeatureConfig, FeatureSet, Shape, versions
from features.signal import SAMPLE_RATE, prepare

GPU_SHARE = 0.25
"""Of a GPU that a worker takes. An encoder that reads one utterance at a time fills no GPU."""


class EncoderConfig(FeatureConfig):
    """Options of the sets of a frozen, pretrained encoder.

    encoder : the folder of an encoder, its id on the Hugging Face hub, or an ONNX file. This key
        is required. The contents of the files decide the extracted values, not their place
    device : `cpu` (default) or `cuda`. The values of the two differ in their last bits, so the
        device is your choice, and not that of the machine
    normalize : `none` (default): encoders end with a layer norm. `speaker` computes the z-scores
        of each column over all values of a speaker; `train` computes them over the fold's training
        part
    """

    encoder: Annotated[str, EXTRACTED] = ""
    device: Annotated[Literal["cpu", "cuda"], Field(json_schema_extra={"extracted": True})] = "cpu"
    normalize: Annotated[Literal["speaker", "train", "none"], SEARCHABLE] = "none"

    def extracted(self) -> dict[str, object]:
        # The weights decide the values: a copy in another place gives the same.
        return {key: value for key, value in super().extracted().items() if key != "encoder"}

    def files(self) -> dict[str, str]:
        return {"encoder": self.encoder}

    def description(self) -> Description:
        """The facts of the encoder. Raises FeatureError if it cannot be used."""
        if not self.encoder:
            raise FeatureError(
                "features.encoder: this key is required: pass the folder of a pretrained encoder, "
                "its id on the Hugging Face hub, or an ONNX file"
            )
        return encoders.describe(self.encoder)

    def feature_set(
        self,
        description: Description,
        reduce: "Reduce",
        dims: int,
        shape: Shape,
        groups: dict[str, tuple[int, ...]] | None = None,
    ) -> FeatureSet:
        """The feature set whose rows `reduce` computes from the hidden states."""

        def extract(samples: npt.NDArray[np.floating], rate: int) -> npt.NDArray[np.float32]:
            """Compute the features of one utterance.

            `samples`: (n,) float, mono. Raises ValueError if `samples` is not such a signal, is
            shorter than one state, or if the encoder returns values that are not finite.
            """
            signal = prepare(samples, rate, description.least)
            network = encoders.load(description, self.device)
            values = reduce(windows.states(network, description, signal))
            if not np.isfinite(values).all():
                raise ValueError("the encoder returned values that are not finite")
            return np.ascontiguousarray(values, dtype=np.float32)

        return FeatureSet(
            extract=extract,
            dims=dims,
            shape=shape,
            identity=lambda: (*description.contents, *versions(*description.libraries)),
            contents=description.contents,
            groups=groups or {},
            rate=SAMPLE_RATE / (description.stride or SAMPLE_RATE),
            ready=lambda: encoders.load(description, self.device),
            gpu=GPU_SHARE if self.device == "cuda" else 0.0,
        )


Reduce = Callable[[windows.Windows], npt.NDArray[np.floating]]
"""From the hidden states of each window, (states, T, H), to rows (n, dims)."""
