"""Any set of openSMILE: a set of its Python package, or a configuration file of your own.

`level` selects the low-level descriptors, a sequence of frames, or the functionals, one vector for
each utterance. Sources of the sets: Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set
(GeMAPS) for Voice Research and Affective Computing", IEEE Transactions on Affective Computing 2016;
Schuller et al., the INTERSPEECH challenges of 2009 to 2013 (IS09 to IS13) and 2016 (ComParE);
Eyben, Wöllmer and Schuller, "openSMILE", ACM Multimedia 2010 (emobase). The package's files are
used as they are, at 16 kHz.

The set follows one rule: an utterance has all values, or no features. If the signal is too short
for a row, or if openSMILE returns a value that is not finite, the utterance is listed with the
reason, and no value is filled in.
"""

import os
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from features.errors import FeatureError
from features.sets import emobase_functionals, opensmile_files
from features.sets.base import (
    EXTRACTED,
    SEARCHABLE,
    FeatureConfig,
    FeatureSet,
    Shape,
    finite,
    versions,
)
from features.sets.smile import rows, smile
from features.signal import FRAMES_PER_SECOND, SAMPLE_RATE, prepare


class Named(NamedTuple):
    """A set of the opensmile package.

    descriptors, functionals : columns of each level
    least : samples at 16 kHz of the shortest signal for which both levels have values
    energy : column of the descriptors that shows an utterance: loudness, or energy
    """

    descriptors: int
    functionals: int
    least: int
    energy: int


SETS: dict[str, Named] = {
    "ComParE_2016": Named(65, 6373, 960, 6),
    "GeMAPSv01a": Named(18, 62, 960, 0),
    "GeMAPSv01b": Named(18, 62, 960, 0),
    "eGeMAPSv01a": Named(23, 88, 960, 0),
    "eGeMAPSv01b": Named(23, 88, 960, 0),
    "eGeMAPSv02": Named(25, 88, 960, 0),
    "emobase": Named(26, 988, 640, 1),
    "IS09": Named(16, 384, 400, 0),
    "IS10": Named(38, 1582, 1120, 0),
    "IS11": Named(59, 4368, 1120, 5),
    "IS12": Named(64, 6125, 1120, 6),
    "IS13": Named(65, 6373, 960, 6),
}
"""By name. A table, because importing openSMILE takes longer than all the rest of a worker."""

LEVELS = {"low_level_descriptors": "lld", "functionals": "func"}
"""openSMILE's data level of each value of `level`. Configuration files follow this convention."""

_FRAMES = {"pool": 5, "max_frames": 2500}
"""Default options of frames: those of `emobase_lld45`, so that sets are compared alike."""


class OpenSmileConfig(FeatureConfig):
    """Options of `opensmile`.

    feature_set : a set of the opensmile package (a key of `SETS`), or the path of a configuration
        file. The file's content decides the extracted values, not its name or its place
    level : `functionals` (default), one vector an utterance, or `low_level_descriptors`, frames of
        10 ms
    pool : frames that are averaged into one, 1 keeps all. Only for descriptors; the default is 5
    max_frames : frames that are kept of each utterance, before pooling. Only for descriptors; the
        default is 2500 (25 s)
    normalize : `speaker` (default) computes the z-scores of each column over all utterances of a
        speaker. `train` computes them over the fold's training part
    """

    shapes: ClassVar[tuple[Shape, ...]] = ("frames", "vector")

    name: Literal["opensmile"] = "opensmile"
    feature_set: Annotated[str, Field(min_length=1), EXTRACTED] = "eGeMAPSv02"
    level: Annotated[Literal["functionals", "low_level_descriptors"], EXTRACTED] = "functionals"
    pool: int | None = Field(None, ge=1, validate_default=True)
    max_frames: int | None = Field(None, ge=1, validate_default=True)
    normalize: Annotated[Literal["speaker", "train", "none"], SEARCHABLE] = "speaker"

    @field_validator("feature_set")
    @classmethod
    def _one_name_for_a_set(cls, name: str) -> str:
        return f"{name}v01a" if name in ("GeMAPS", "eGeMAPS") else name

    @field_validator("pool", "max_frames", mode="before")
    @classmethod
    def _of_frames(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("level") != "functionals":
            return _FRAMES[str(info.field_name)] if value is None else value
        if value is not None:
            raise ValueError("applies to level low_level_descriptors only; functionals are one row")
        return None

    @property
    def pooling(self) -> int:
        return self.pool or 1

    @property
    def cap(self) -> int | None:
        return self.max_frames

    def files(self) -> dict[str, str]:
        return {} if self.feature_set in SETS else {"feature_set": self.feature_set}

    def extracted(self) -> dict[str, object]:
        values = super().extracted()
        if self.feature_set not in SETS:
            del values["feature_set"]  # `identity` has the content of the file
        return values

    def load(self) -> FeatureSet:
        level = LEVELS[self.level]
        named = SETS.get(self.feature_set)
        digest, names, rate = "", None, float(FRAMES_PER_SECOND)
        if named is None:
            digest = self._digest()
            names, rate = opensmile_files.describe(self.feature_set, level, digest)
            if (rate > 0) != (level == "lld"):
                found = "one row" if level == "lld" else f"{rate:g} rows a second"
                raise FeatureError(
                    f"features.feature_set: {self.feature_set} gives {found} at its data level "
                    f"{level}, which features.level={self.level} reads"
                )
            named = Named(len(names), len(names), 1, _energy(names))
        least = named.least

        def extract(samples: npt.NDArray[np.floating], rate: int) -> npt.NDArray[np.float32]:
            """Compute the values of one utterance.

            `samples`: (n,) float, mono; values outside -1..1 are clipped. Another `rate` than
            16 kHz is converted first. Returns (frames, dims) float32; functionals are one row.

            Raises ValueError if `samples` is not a mono float signal, holds NaN or infinity, is too
            short, or if openSMILE returns values that are not finite.
            """
            signal = prepare(samples, rate, least)
            opensmile = smile(self.feature_set, level, digest)
            values = rows(opensmile, signal)
            if np.isnan(values).all() and len(values) == 1:
                raise ValueError(
                    f"too short: openSMILE gives no values for {len(signal)} samples at 16 kHz "
                    f"({1000 * len(signal) / SAMPLE_RATE:g} ms)"
                )
            return finite(values, opensmile.feature_names)

        identity = versions("opensmile")
        contents = (digest,) if digest else ()
        if level == "func":
            emobase = self.feature_set == "emobase"
            return FeatureSet(
                extract=extract,
                dims=named.functionals,
                shape="vector",
                identity=lambda: (digest, *identity),
                contents=contents,
                groups=emobase_functionals.GROUPS if emobase else {},
            )
        return FeatureSet(
            extract=extract,
            dims=named.descriptors,
            shape="frames",
            identity=lambda: (digest, *identity),
            contents=contents,
            picture=slice(named.energy, named.energy + 1),
            rate=rate,
        )

    def _digest(self) -> str:
        """The digest of the configuration file. Raises FeatureError."""
        if not os.path.isfile(self.feature_set):
            raise FeatureError(
                f"features.feature_set: openSMILE has no set {self.feature_set}, and there is no "
                f"file of this name. Sets: {', '.join(SETS)}"
            )
        return opensmile_files.contents(self.feature_set)


def _energy(names: tuple[str, ...]) -> int:
    """The first column that holds loudness or energy; else the first column."""
    words = ("loudness", "lengthl1norm", "energy", "intensity")
    return next(
        (number for number, name in enumerate(names) if any(w in name.lower() for w in words)), 0
    )
