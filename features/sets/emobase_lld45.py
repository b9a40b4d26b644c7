"""45 low-level descriptors of speech at 10 ms: the input of the IAAN models.

The descriptors are those of "An Interaction-aware Attention Network for Speech Emotion
Recognition in Spoken Dialogs" (Yeh, Lin and Lee, ICASSP 2019). The paper names openSMILE's
"Emobase 2010" set. The file in the authors' released code is a configuration of emobase, another
set, and we follow the file: its values and ours are equal. `emobase_lld45.conf` beside this file
has the chain: F0 and voicing by autocorrelation and cepstrum on 60 ms frames, the others on 25 ms
frames. All are smoothed over three frames. Deltas are regression coefficients over two frames on
either side.

Loudness is emobase's, with a known defect: openSMILE's cIntensity uses only the first two samples
of a frame. With I, their Hamming-weighted squares divided by the sum of the window, loudness is
(I / 1e-6)^0.3. The defect stays, because the published scores include it.
"""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from features.sets.base import SEARCHABLE, FeatureConfig, FeatureSet, versions
from features.signal import MIN_SAMPLES, SAMPLE_RATE, clip, prepare

CONFIG_FILE = Path(__file__).with_name("emobase_lld45.conf")

_SOURCES: dict[str, str] = {
    "f0": "F0_sma",
    "f0_delta": "F0_sma_de",
    "loudness": "pcm_loudness_sma",
    "loudness_delta": "pcm_loudness_sma_de",
    "loudness_delta2": "pcm_loudness_sma_de_de",
    "voicing": "voiceProb_sma",
    "voicing_delta": "voiceProb_sma_de",
    "zcr": "pcm_zcr_sma",
    "zcr_delta": "pcm_zcr_sma_de",
    **{f"mfcc_{i}": f"mfcc_sma[{i}]" for i in range(1, 13)},
    **{f"mfcc_{i}_delta": f"mfcc_sma_de[{i}]" for i in range(1, 13)},
    **{f"mfcc_{i}_delta2": f"mfcc_sma_de_de[{i}]" for i in range(1, 13)},
}
COLUMNS: tuple[str, ...] = tuple(_SOURCES)
"""Names of the 45 descriptors, in the order of the columns."""


class EmobaseConfig(FeatureConfig):
    """Options of `emobase_lld45`.

    pool : frames that are averaged into one. The default is the IAAN paper's 5; 1 keeps all
    normalize : `speaker` (default, as in the paper) computes the z-scores of each descriptor over
        all frames of all utterances of a speaker. `train` computes them over all frames of the
        fold's training part
    max_frames : frames that are kept of each utterance, before pooling. The default is the
        paper's 2500 (25 s)
    """

    name: Literal["emobase_lld45"] = "emobase_lld45"
    pool: int = Field(5, ge=1)
    normalize: Annotated[Literal["speaker", "train", "none"], SEARCHABLE] = "speaker"
    max_frames: int = Field(2500, ge=1)

    def load(self) -> FeatureSet:
        return FEATURE_SET

    @property
    def pooling(self) -> int:
        return self.pool

    @property
    def cap(self) -> int | None:
        return self.max_frames


@functools.cache
def _smile() -> tuple[Any, list[int]]:
    """openSMILE with our configuration, and the index of each column in its output."""
    import opensmile

    smile = opensmile.Smile(str(CONFIG_FILE), "all", sampling_rate=SAMPLE_RATE)
    return smile, [smile.feature_names.index(source) for source in _SOURCES.values()]


def extract(samples: npt.NDArray[np.floating], sample_rate: int) -> npt.NDArray[np.float32]:
    """Compute the descriptors of one utterance.

    `samples`: (n,) float, mono; values outside -1..1 are clipped. A `sample_rate` other than
    16 kHz is converted first. Returns (frames, 45) float32 with the columns of `COLUMNS`. Frame t
    is centred on 10 t ms. F0 is in Hz (0 if unvoiced), zcr in zero crossings per sample.

    Raises ValueError if `samples` is not a mono float signal, holds NaN or infinity, or is
    shorter than 480 samples (30 ms) at 16 kHz. Use processes, not threads: openSMILE calls
    Python at each frame.
    """
    signal = clip(prepare(samples, sample_rate))
    smile, order = _smile()
    values = smile(signal, SAMPLE_RATE)[0].T[:, order]  # (frames, 45)
    if len(values) != (len(signal) - MIN_SAMPLES) // 160 + 2 or not np.isfinite(values).all():
        raise ValueError(f"openSMILE returned {len(values)} frames or a value that is not finite")
    return np.ascontiguousarray(values, dtype=np.float32)


FEATURE_SET = FeatureSet(
    extract=extract,
    dims=len(COLUMNS),
    shape="frames",
    identity=lambda: (CONFIG_FILE.read_text(encoding="utf-8"), *versions("opensmile")),
    picture=slice(COLUMNS.index("loudness"), COLUMNS.index("loudness") + 1),
)
