"""openSMILE, as the feature sets call it.

openSMILE calls Python at each frame, so it is not thread-safe beside busy Python: use processes.
"""

import functools
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from features.signal import SAMPLE_RATE, clip


@functools.cache
def smile(configuration: str, level: str, contents: str = "") -> Any:
    """openSMILE with a set of its package, or with a configuration file, in this process.

    configuration : name of a set of the package, such as `eGeMAPSv02`, or the path of a file
    level : the data level to read: `lld` or `func` of the package's sets, or another one of a file
    contents : digest of the file. A changed file is read again

    Raises `opensmile.core.lib.OpenSmileException` if openSMILE refuses the file.
    """
    import opensmile

    sets = opensmile.FeatureSet.__members__
    chosen = sets.get(configuration, configuration)
    if configuration in sets:
        level = opensmile.FeatureLevel(level)
    with warnings.catch_warnings():
        # opensmile 2.6 calls older sets deprecated. They stay available: published scores use them.
        warnings.filterwarnings("ignore", "Feature set .* deprecated", UserWarning)
        return opensmile.Smile(chosen, level, sampling_rate=SAMPLE_RATE)


def rows(smile: Any, signal: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
    """openSMILE's values of a signal at 16 kHz: (rows, columns), with a row for each frame.

    If the signal is too short for a row, the package returns one row of NaN.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Segment too short", UserWarning)
        values: npt.NDArray[np.floating] = smile(clip(signal), SAMPLE_RATE)[0].T
    return values
