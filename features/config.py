"""What a user chooses about features."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FeatureConfig(BaseModel):
    """Features of a run. Only `name` decides what is extracted; the rest is applied on load."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["emobase_lld45"] = Field(
        "emobase_lld45", description="Feature set: 45 openSMILE descriptors at 10 ms."
    )
    pool: int = Field(
        5, ge=1, description="Frames averaged into one; the IAAN paper's value is 5, 1 keeps all."
    )
    normalize: Literal["speaker", "none"] = Field(
        "speaker",
        description="z-normalisation of each descriptor over all of a speaker's utterances.",
    )
    max_frames: int = Field(
        2500, ge=1, description="Frames kept of each utterance, before pooling: 2500 is 25 s."
    )
    max_errors: int = Field(
        0, ge=0, description="Utterances that may fail to be read before a run is refused."
    )
