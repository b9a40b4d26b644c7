"""The facts of an encoder that can be known without its weights in memory."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from features.errors import DependencyError, DeviceError, FeatureError
from features.signal import SAMPLE_RATE

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Description:
    """An encoder: its place, sizes and contents.

    place : the folder or the ONNX file
    kind : `model_type` of its configuration, or `onnx`
    states : hidden states: the input of the first layer and the output of each layer
    size : H, values of a state
    stride : samples between two states; 0 if the encoder gives one vector an utterance
    least : samples of the shortest utterance
    normalize : whether the waveform gets mean 0 and variance 1 before the encoder reads it
    contents : the SHA-256 of the weights and of each file of settings
    libraries : those that compute its values
    """

    place: str
    kind: str
    states: int
    size: int
    stride: int
    least: int
    normalize: bool
    contents: tuple[str, ...]
    libraries: tuple[str, ...]


class Encoder(Protocol):
    """An encoder with its weights."""

    def __call__(self, signal: Array) -> Array:
        """Compute all hidden states, (states, T, H), of (n,) samples at 16 kHz."""
        ...


def problem(encoder: str, reason: str) -> FeatureError:
    """The error of an encoder that cannot be used."""
    return FeatureError(f"features.encoder: {encoder!r} {reason}")


_OUT_OF_MEMORY = re.compile(r"out of memory|failed to allocate memory|ALLOC_FAILED", re.I)
"""In the errors of CUDA, of its libraries, and of ONNX Runtime's arena."""


def full_gpu(error: Exception) -> DeviceError | None:
    """The error to raise if `error`, of work on a GPU, says that its memory is full; else None.

    Neither torch nor ONNX Runtime has one class for this.
    """
    if not _OUT_OF_MEMORY.search(str(error)):
        return None
    return DeviceError(
        "features.device: the memory of the GPU is too small for the workers that share it. End "
        "other programs that use it, choose a smaller encoder, or set features.device to cpu. Then "
        "run the same command: finished utterances are kept"
    )


def missing(library: str, extra: str) -> DependencyError:
    """The error of a library that is not installed."""
    return DependencyError(
        f"this encoder needs {library}, which is not installed. "
        f"Run `pip install 'ser-orchestrator[{extra}]'` on every node"
    )


def read_json(encoder: str, file: Path) -> dict[str, Any]:
    """A JSON object from a file of an encoder's folder."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise problem(encoder, f"has a file that cannot be read: {file.name} ({error})") from error
    if not isinstance(values, dict):
        raise problem(encoder, f"has a file that is not a JSON object: {file.name}")
    return values


def waveform_settings(encoder: str, folder: Path, default: bool) -> tuple[bool, Path]:
    """Whether an encoder normalises the waveform, and the file that says so.

    default : the value if the file has no `do_normalize`

    Newer versions of transformers write the settings into `processor_config.json`, together with
    those of the tokenizer.
    """
    for name, part in (("preprocessor_config.json", None), ("processor_config.json", "feature_")):
        file = folder / name
        if not file.is_file():
            continue
        settings = read_json(encoder, file)
        if part is not None:
            settings = settings.get("feature_extractor") or {}
        if (rate := settings.get("sampling_rate", SAMPLE_RATE)) != SAMPLE_RATE:
            raise problem(encoder, f"reads audio at {rate} Hz: choose an encoder for 16000 Hz")
        return bool(settings.get("do_normalize", default)), file
    raise problem(
        encoder,
        "has no preprocessor_config.json, so the scale of its waveform is unknown. Copy this file "
        'from the source of the encoder, or write one with {"do_normalize": true} or false',
    )


_digests: dict[tuple[str, int, int], str] = {}


def sha256(file: Path) -> str:
    """The SHA-256 of a file. A file is read again only if its size or time changes."""
    info = file.stat()
    key = (str(file), info.st_size, info.st_mtime_ns)
    if key not in _digests:
        with file.open("rb") as stream:
            _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]
