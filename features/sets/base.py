"""The parts of a feature set: the class of its options, and what they select."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from features.errors import shorten
from features.signal import FRAMES_PER_SECOND

SEARCHABLE = Field(json_schema_extra={"searchable": True})
"""Marks a key that a search may set."""
EXTRACTED = Field(json_schema_extra={"extracted": True, "searchable": True})
"""Marks a key that decides extracted values: it is part of the extraction's hash. A search may set
it, and extracts a set for each of its values."""

Shape = Literal["frames", "vector", "maps"]
"""What an utterance is: a sequence of frames, one row, or frames that are cut into segments and
read as pictures."""


def by_speaker(normalize: str) -> bool:
    """Whether this value of `normalize` takes mean and deviation from each speaker."""
    return normalize not in ("train", "none")


class FeatureConfig(BaseModel):
    """The options that all feature sets share. An unknown key is an error.

    The registry `features.sets.FEATURES` holds a subclass for each set, whose default of `name` is
    the set's name. Only `name` and keys with the marker `EXTRACTED` decide the extracted values.
    The other options apply when features are loaded, so you can change them without a new
    extraction.

    shapes : the shapes that the set can have; the options select one of them (`FeatureSet.shape`)

    name : the feature set
    normalize : the values that share one mean and deviation when they become z-scores: those of
        one speaker, because a speaker's level and voice say little about emotion (`speaker`, for
        log-mel `channel` and `band`); or those of the fold's training part (`train`), one mean
        and deviation for each column. `none` keeps the extracted values
    max_errors : utterances without features that a run accepts. The default is 0: leaving out
        utterances changes the corpus, so you must allow it
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shapes: ClassVar[tuple[Shape, ...]] = ("frames",)

    name: str
    normalize: Annotated[str, SEARCHABLE]
    max_errors: int = Field(0, ge=0, json_schema_extra={"decides": "nothing"})

    def load(self) -> "FeatureSet":
        """The feature set with these options.

        Pure and cheap, because it is called often: it may read the configuration and the hash of
        files that the options name, but builds no network. Raises FeatureError, which names
        the key (`features.…`), if such files cannot be used.
        """
        raise NotImplementedError

    def extracted(self) -> dict[str, object]:
        """The options that decide extracted values, beside `name`, as plain values."""
        marked = {
            key
            for key, field in type(self).model_fields.items()
            if isinstance(field.json_schema_extra, dict)
            and field.json_schema_extra.get("extracted")
        }
        return self.model_dump(mode="json", include=marked)

    def files(self) -> dict[str, str]:
        """The options that name files or folders, by key. Models from others must not set them."""
        return {}

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
    """A feature set with its options applied: how it is computed, and what its values are.

    extract : (samples, sample rate) -> (frames, dims) float32; raises ValueError for a signal
        that cannot be used. It may build what it needs, once a process, at the first call
    dims : columns of a frame
    shape : what an utterance is; `vector` has one row
    contents : the digests of the files that the options name (`FeatureConfig.files`). A model that
        was trained with the set works with the same contents only
    identity : the texts that decide extracted values, beside the name, the options with the marker
        `EXTRACTED` and `features.extract.EXTRACTION_VERSION`
    picture : the columns that show an utterance to people: a spectrogram, or a curve. None: there
        is nothing to draw
    groups : columns of each group of descriptors, by name; empty if all columns are one group
    rate : frames in a second, before pooling. A `vector` has no rate
    ready : builds what `extract` needs in this process. A worker calls it before it reads audio, so
        that its errors are not those of a recording
    gpu : the share of a GPU that a worker takes; 0: a worker takes a CPU
    """

    extract: Callable[[npt.NDArray[np.floating], int], npt.NDArray[np.float32]]
    dims: int
    shape: Shape
    identity: Callable[[], tuple[str, ...]]
    picture: slice | None = None
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rate: float = FRAMES_PER_SECOND
    contents: tuple[str, ...] = ()
    ready: Callable[[], object] = lambda: None
    gpu: float = 0.0


def versions(*libraries: str) -> tuple[str, ...]:
    """The names and versions of `libraries`, and of those that read all audio."""
    return tuple(f"{name} {version(name)}" for name in (*libraries, "soundfile", "soxr"))


def sources(*files: str) -> tuple[str, ...]:
    """The SHA-256 of files, as `identity` of a set of your own: `sources(__file__)`.

    If a file changes, the features are extracted again.
    """
    return tuple(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files)


def finite(values: npt.NDArray[np.floating], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """openSMILE's values of an utterance, (rows, columns), as float32. `names` are of the columns.

    Raises ValueError, with the names, if values are NaN or infinite.
    """
    columns = np.flatnonzero(~np.isfinite(values).all(axis=0)).tolist()
    if bad := [names[column] for column in columns]:
        raise ValueError(f"openSMILE returned values that are not finite: {shorten(bad)}")
    return np.ascontiguousarray(values, dtype=np.float32)
