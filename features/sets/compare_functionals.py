"""6373 functionals of an utterance: openSMILE's ComParE 2016 set.

65 descriptors at 10 ms (energy, spectrum, MFCC 1 to 14, F0 and voice quality) and their deltas,
each summarised by functionals. Sources: Schuller et al., "The INTERSPEECH 2013 Computational
Paralinguistics Challenge", and the file `ComParE_2016.conf` of the opensmile package, which is used
as it is.

The set follows one rule: an utterance has all 6373 values, or no features. If the signal is too
short, or if openSMILE returns a value that is not finite, the utterance is listed with the reason,
and no value is filled in.
"""

import functools
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from features.sets.base import SEARCHABLE, FeatureConfig, FeatureSet, Shape, finite, versions
from features.signal import SAMPLE_RATE, clip, prepare

DIMS = 6373
MIN_SAMPLES = 960
"""60 ms, one pitch frame of ComParE: openSMILE returns no values for less."""


class CompareConfig(FeatureConfig):
    """Options of `compare_functionals`.

    normalize : `speaker` (default) computes the z-scores of each functional over all utterances
        of a speaker. A speaker with one utterance gets zeros. `train` computes them over the
        fold's training part
    """

    shapes: ClassVar[tuple[Shape, ...]] = ("vector",)

    name: Literal["compare_functionals"] = "compare_functionals"
    normalize: Annotated[Literal["speaker", "train", "none"], SEARCHABLE] = "speaker"

    def load(self) -> FeatureSet:
        return FEATURE_SET


@functools.cache
def _smile() -> Any:
    """openSMILE with ComParE's functionals."""
    import opensmile

    return opensmile.Smile(
        opensmile.FeatureSet.ComParE_2016,
        opensmile.FeatureLevel.Functionals,
        sampling_rate=SAMPLE_RATE,
    )


def columns() -> tuple[str, ...]:
    """openSMILE's names of the 6373 columns, in its order."""
    return tuple(_smile().feature_names)


def extract(samples: npt.NDArray[np.floating], sample_rate: int) -> npt.NDArray[np.float32]:
    """Compute the functionals of one utterance.

    `samples`: (n,) float, mono; values outside -1..1 are clipped. A `sample_rate` other than
    16 kHz is converted first. Returns (1, 6373) float32 with the columns of `columns`.

    Raises ValueError if `samples` is not a mono float signal, holds NaN or infinity, is shorter
    than 960 samples (60 ms) at 16 kHz, or if openSMILE returns values that are not finite. Use
    processes, not threads: openSMILE calls Python at each frame.
    """
    signal = clip(prepare(samples, sample_rate, MIN_SAMPLES))
    return finite(_smile()(signal, SAMPLE_RATE)[0].T, columns())


FEATURE_SET = FeatureSet(
    extract=extract,
    dims=DIMS,
    shape="vector",
    identity=lambda: versions("opensmile"),
)
