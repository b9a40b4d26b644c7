"""The parts of a feature set: its configuration class and its registry entry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from features.errors import shorten

SEARCHABLE = Field(json_schema_extra={"searchable": True})
"""Marks a key that a search may set."""


def by_speaker(normalize: str) -> bool:
    """Whether this value of `normalize` takes mean and deviation from each speaker."""
    return normalize not in ("train", "none")


class FeatureConfig(BaseModel):
    """The options that all feature sets share. An unknown key is an error.

    Only `name` decides the extracted values. The other options apply when features are loaded,
    so you can change them without a new extraction.

    name : the feature set
    normalize : the values that share one mean and deviation when they become z-scores: those of
        one speaker, because a speaker's level and voice say little about emotion (`speaker`, for
        log-mel `channel` and `band`); or those of the fold's training part (`train`), one mean
        and deviation for each column. `none` keeps the extracted values
    max_errors : utterances without features that a run accepts. The default is 0: leaving out
        utterances changes the corpus, so you must allow it
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    normalize: Annotated[str, SEARCHABLE]
    max_errors: int = Field(0, ge=0, json_schema_extra={"decides": "nothing"})

    @property
    def pooling(self) -> int:
        """Frames that are averaged into one; 1 keeps every frame."""
        return 1

    @property
    def cap(self) -> int | None:
        """Frames that are kept of each utterance, before pooling; None keeps all."""
        return None

    @property
    def cut(self) -> int | None:
        """Frames of each segment into which an utterance is cut; None: utterances stay whole."""
        return None

    @property
    def group(self) -> int | None:
        """Neighbouring columns that share a speaker's mean and deviation.

        None: the speaker's statistics are not used.
        """
        return 1 if by_speaker(self.normalize) else None


@dataclass(frozen=True)
class FeatureSet:
    """The registry entry of a feature set.

    configuration : its options; the default of `name` is its name
    extract : (samples, sample rate) -> (frames, dims) float32; raises ValueError for a signal
        that cannot be used
    dims : columns of a frame
    identity : the texts that decide extracted values, beside the name and
        `features.extract.EXTRACTION_VERSION`
    picture : the columns that show an utterance to people: a spectrogram, or a curve
    groups : columns of each group of descriptors, by name; empty if all columns are one group
    """

    configuration: type[FeatureConfig]
    extract: Callable[[npt.NDArray[np.floating], int], npt.NDArray[np.float32]]
    dims: int
    identity: Callable[[], tuple[str, ...]]
    picture: slice
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def versions(*libraries: str) -> tuple[str, ...]:
    """The names and versions of `libraries`, and of those that read all audio."""
    return tuple(f"{name} {version(name)}" for name in (*libraries, "soundfile", "soxr"))


def finite(values: npt.NDArray[np.floating], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Functionals of an utterance, (1, columns), as float32. `names` are those of the columns.

    Raises ValueError, with the names, if values are NaN or infinite.
    """
    if bad := [names[column] for column in np.flatnonzero(~np.isfinite(values[0])).tolist()]:
        raise ValueError(f"openSMILE returned values that are not finite: {shorten(bad)}")
    return np.ascontiguousarray(values, dtype=np.float32)
