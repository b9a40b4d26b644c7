"""45 low-level descriptors of speech at 10 ms: the input of the IAAN models.

openSMILE's emobase chain, set up in `emobase_lld45.conf` beside this file: F0 and voicing by
autocorrelation and cepstrum on 60 ms frames, the rest on 25 ms frames, all smoothed over three
frames, regression coefficients over two frames to either side. Taken from the input of
"An Interaction-aware Attention Network for Speech Emotion Recognition in Spoken Dialogs"
(Yeh, Lin and Lee, ICASSP 2019).

Loudness is emobase's, with its fault: openSMILE's cIntensity looks at the first two samples of a
frame only, (I / 1e-6)^0.3 with I their Hamming-weighted squares over the window's sum. It is kept,
because the published numbers rest on it.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.samples import MIN_SAMPLES, clip, prepare
from features.samples import SAMPLE_RATE as SAMPLE_RATE

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
"""Names of the 45 descriptors, in the order of `extract`'s columns."""


def frame_count(samples: int) -> int:
    """Frames that `samples` samples at 16 kHz give: one each 10 ms."""
    return (samples - MIN_SAMPLES) // 160 + 2


@functools.cache
def _smile() -> tuple[Any, list[int]]:
    """openSMILE with our configuration, and where it puts our columns. One a process."""
    import opensmile

    smile = opensmile.Smile(str(CONFIG_FILE), "all", sampling_rate=SAMPLE_RATE)
    return smile, [smile.feature_names.index(source) for source in _SOURCES.values()]


def extract(samples: npt.NDArray[np.floating], sample_rate: int) -> npt.NDArray[np.float32]:
    """Descriptors of one utterance.

    `samples`: (n,) float, mono, in -1..1; what lies outside is clipped. A `sample_rate` other
    than 16 kHz is resampled first. Returns (frames, 45) float32, columns as in `COLUMNS`, frame
    t centred on 10 t ms: F0 in Hz (0 where unvoiced), zero crossings per sample.

    Raises ValueError where `samples` is not a mono float signal, holds NaN or infinity, or is
    shorter than 480 samples (30 ms) at 16 kHz. Not to be called from several threads: openSMILE
    calls back into Python at each frame; use processes.
    """
    signal = clip(prepare(samples, sample_rate))
    smile, order = _smile()
    values = smile(signal, SAMPLE_RATE)[0].T[:, order]  # (frames, 45)
    if len(values) != frame_count(len(signal)) or not np.isfinite(values).all():
        raise ValueError(f"openSMILE gave {len(values)} frames or a value that is not finite")
    return np.ascontiguousarray(values, dtype=np.float32)
