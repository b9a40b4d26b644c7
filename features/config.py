"""What a user chooses about features: one class a feature set, `FEATURE_CONFIGS` by name.

Only `name` decides what is extracted; the rest is applied when features are loaded, so that it
can be changed without computing anything again.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from features import logmel


class FeatureConfig(BaseModel):
    """What all feature sets have. A key that a set does not have is an error.

    name : the feature set
    normalize : over what values become z-scores, always of one speaker alone: a speaker's level
        and voice say little of emotion. `none` keeps them as they were extracted
    max_errors : utterances that may fail to be read before a run is refused. 0, because a corpus
        with holes is another corpus, which someone should have decided
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    normalize: str
    max_errors: int = Field(
        0, ge=0, description="Utterances that may fail to be read before a run is refused."
    )

    @property
    def pooling(self) -> int:
        """Frames averaged into one; 1 where they are kept as they are."""
        return 1

    @property
    def cap(self) -> int | None:
        """Frames kept of each utterance, before pooling; None: all."""
        return None

    @property
    def cut(self) -> int | None:
        """Frames of the segments that an utterance is cut into; None: it is not."""
        return None

    @property
    def group(self) -> int | None:
        """Neighbouring columns that share one mean and deviation; None: not normalised."""
        return None if self.normalize == "none" else 1


class EmobaseConfig(FeatureConfig):
    """45 openSMILE descriptors at 10 ms, the input of the IAAN models (`features.emobase`).

    pool : frames averaged into one. 5, the IAAN paper's value; 1 keeps all
    normalize : `speaker` (default, the paper's): each descriptor over all frames of all of a
        speaker's utterances
    max_frames : frames kept of each utterance, before pooling. 2500 (25 s), the paper's value
    """

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

    @property
    def pooling(self) -> int:
        return self.pool

    @property
    def cap(self) -> int | None:
        return self.max_frames


class LogMelConfig(FeatureConfig):
    """3-D log-mel, the input of the ACRNN and SSA-CRNN models (`features.logmel`).

    segment : frames that a network sees at a time; an utterance is cut into as many as it needs.
        300 (3 s), the papers' value; even, because the networks halve time
    normalize : `channel` (default) takes the SSA-CRNN paper's "each channel normalised per
        speaker" by the letter: one mean and one deviation for each of static, delta and delta2,
        over its 40 bands and all of a speaker's frames, so that the shape of the spectrum stays.
        `band` is another reading: each of the 120 columns on its own, which takes out the mean
        spectrum of the speaker and the microphone
    """

    name: Literal["logmel3d"] = Field(
        "logmel3d", description="Feature set: 40 log-mel bands at 10 ms, their deltas and delta2."
    )
    segment: int = Field(
        300, ge=2, multiple_of=2, description="Frames of a segment, an even number: 300 is 3 s."
    )
    normalize: Literal["channel", "band", "none"] = Field(
        "channel",
        description="z-normalisation by speaker: of each channel (static, delta, delta2) over its "
        "40 bands, or of each band of each channel on its own.",
    )

    @property
    def cut(self) -> int | None:
        return self.segment

    @property
    def group(self) -> int | None:
        return {"channel": logmel.BANDS, "band": 1, "none": None}[self.normalize]


class FunctionalsConfig(FeatureConfig):
    """988 openSMILE functionals, one row an utterance (`features.functionals`).

    normalize : `speaker` (default, as for the descriptors that they summarise): each functional
        over all of a speaker's utterances. Of a speaker with a single one, zeros are left
    """

    name: Literal["emobase_functionals"] = Field(
        "emobase_functionals",
        description="Feature set: openSMILE's emobase, 988 functionals of each utterance.",
    )
    normalize: Literal["speaker", "none"] = Field(
        "speaker",
        description="z-normalisation of each functional over all of a speaker's utterances.",
    )


FEATURE_CONFIGS: dict[str, type[FeatureConfig]] = {
    "emobase_lld45": EmobaseConfig,
    "logmel3d": LogMelConfig,
    "emobase_functionals": FunctionalsConfig,
}
