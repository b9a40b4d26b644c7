"""Configuration files of openSMILE that a user wrote: their contents, and whether they can be used.

openSMILE is the only thing that such a file can start. Components that read or write other files
or devices are refused: several workers would write the same file, and the values would depend on
more than the recording.
"""

import hashlib
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from features.errors import FeatureError
from features.sets.smile import rows, smile
from features.signal import SAMPLE_RATE

_INCLUDE = re.compile(rb"^[ \t]*\\\{(?:\\cm\[\w+\{)?([^{}\[\]\r\n]+)\}", re.MULTILINE)
r"""`\{file}`, or the default file of an option, `\{\cm[option{file}:description]}`."""
_TYPE = re.compile(rb"^[ \t]*(?:instance\[[^\]]*\]\.)?type[ \t]*=[ \t]*(c\w+)", re.MULTILINE)
_OUTSIDE = re.compile("(Source|Sink|Portaudio|OpenCV|Record|Play)", re.IGNORECASE)
_ALLOWED = ("cExternalAudioSource", "cExternalSource", "cExternalSink", "cNullSink")


class Described(NamedTuple):
    """A data level of a configuration file.

    names : of the columns
    rate : rows in a second of a long signal; 0 if there is one row for the whole signal
    """

    names: tuple[str, ...]
    rate: float


def contents(path: str) -> str:
    """The SHA-256 of a configuration file and of the files that it includes, at any depth.

    openSMILE looks for an included file beside the file that includes it, and beside the main file.
    Files at both places count. Raises FeatureError if the file cannot be read, or if it has a
    component that reads or writes another file or a device.
    """
    main = Path(path)
    digest, seen, left = hashlib.sha256(), set[Path](), [main]
    while left:
        file = left.pop(0)
        if file.resolve() in seen:
            continue
        seen.add(file.resolve())
        try:
            text = file.read_bytes()
        except OSError as error:
            raise _problem(path, f"cannot be read: {error.strerror}") from None
        digest.update(b"%d:" % len(text) + text)
        for kind in (match.decode() for match in _TYPE.findall(text)):
            if _OUTSIDE.search(kind) and kind not in _ALLOWED:
                raise _problem(
                    path,
                    f"has the component {kind}, which reads or writes a file or a device. Remove "
                    r"it: the values go to the sink that \{\cm[sink{?}]} includes",
                )
        included = [match.decode(errors="replace") for match in _INCLUDE.findall(text)]
        places = [folder / name for name in included for folder in (file.parent, main.parent)]
        left += [place for place in places if place.is_file()]
    return digest.hexdigest()


@cache
def describe(path: str, level: str, digest: str) -> Described:
    """Try openSMILE with a configuration file whose `contents` are `digest`.

    Raises FeatureError, with openSMILE's own reason, if it does not work.
    """
    from opensmile.core.lib import OpenSmileException

    try:
        opensmile = smile(path, level, digest)
        noise = np.random.default_rng(0).normal(size=4 * SAMPLE_RATE).astype(np.float32) * 0.1
        shorter, longer = (len(rows(opensmile, noise[: n * SAMPLE_RATE])) for n in (2, 4))
    except OpenSmileException:
        raise _problem(path, f"is refused by openSMILE: {_reason(path, level)}") from None
    return Described(tuple(opensmile.feature_names), (longer - shorter) / 2)


def _reason(path: str, level: str) -> str:
    """The first error in openSMILE's log."""
    import opensmile
    from opensmile.core.lib import OpenSmileException

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        try:
            opensmile.Smile(path, level, sampling_rate=SAMPLE_RATE, logfile=str(log))
        except OpenSmileException:
            errors = re.findall(r"\(ERR\) \[[1-9]\] (.+)", log.read_text(errors="replace"))
            if errors:
                return errors[0].strip()
    return r"it gives no reason. Check that the file includes \cm[source{?}] and \cm[sink{?}]"


def _problem(path: str, problem: str) -> FeatureError:
    return FeatureError(f"features.feature_set: {path} {problem}")
