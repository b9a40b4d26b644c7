"""Encoders of ONNX Runtime: a waveform (1, n) to states (1, T, H), or to a vector (1, H)."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from features.encoders.description import (
    Array,
    Description,
    full_gpu,
    missing,
    problem,
    sha256,
    waveform_settings,
)
from features.signal import MIN_SAMPLES, SAMPLE_RATE

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def describe(encoder: str) -> Description:
    """Describe an ONNX file. A second and two seconds of silence show its sizes.

    `preprocessor_config.json` beside the file says by `do_normalize` whether the waveform is
    normalised. Weights that the file keeps outside must lie beside it, in files whose names begin
    with its name.

    Raises FeatureError if the file does not exist or is not such an encoder; DependencyError if
    ONNX Runtime is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise missing("onnxruntime", "onnx")
    file = Path(encoder).expanduser().resolve()
    if not file.is_file():
        raise problem(encoder, "does not exist: pass an ONNX file, a folder or a hub id")
    normalize, settings_file = waveform_settings(encoder, file.parent, default=False)
    parts = sorted(part for part in file.parent.glob("*") if part.name.startswith(file.name))
    contents = tuple(sha256(part) for part in (settings_file, *parts))
    size, stride = _sizes(encoder, str(file), contents)
    return Description(
        place=str(file),
        kind="onnx",
        states=1,
        size=size,
        stride=stride,
        least=MIN_SAMPLES,
        normalize=normalize,
        contents=contents,
        libraries=("onnxruntime",),
    )


@functools.cache
def _sizes(encoder: str, file: str, contents: tuple[str, ...]) -> tuple[int, int]:
    """The size of a state, and the samples between two states (0 without a time axis)."""
    session = _session(encoder, file, "cpu")
    short, long = (_run(encoder, session, np.zeros(n * SAMPLE_RATE, np.float32)) for n in (1, 2))
    if short.shape[-1] != long.shape[-1]:
        raise problem(encoder, f"gives {short.shape[-1]} and then {long.shape[-1]} values a state")
    if short.ndim == 2:
        return short.shape[1], 0
    more = long.shape[1] - short.shape[1]
    if more <= 0 or SAMPLE_RATE % more:
        raise problem(encoder, f"gives {more} more states for one more second: choose another file")
    return short.shape[2], SAMPLE_RATE // more


def _session(encoder: str, file: str, device: str) -> Any:
    """The file in ONNX Runtime, with one thread: the bits may depend on the number of threads."""
    import onnxruntime

    if _PROVIDERS[device] not in onnxruntime.get_available_providers():
        raise problem(
            encoder, "needs onnxruntime-gpu for features.device=cuda. Install it, or set cpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(file, options, providers=[_PROVIDERS[device]])
    except Exception as error:  # ONNX Runtime has no common base class of errors
        if device == "cuda" and (full := full_gpu(error)):
            raise full from error
        raise problem(encoder, f"cannot be loaded by ONNX Runtime: {_line(error)}") from error
    if len(session.get_inputs()) != 1:
        names = ", ".join(node.name for node in session.get_inputs())
        raise problem(encoder, f"has the inputs {names}: it must have one, a waveform (1, n)")
    return session


def _run(encoder: str, session: Any, signal: Array) -> Array:
    """The first output of a session for (n,) samples: (1, T, H) or (1, H)."""
    names = [session.get_outputs()[0].name]
    try:
        output = session.run(names, {session.get_inputs()[0].name: signal[None]})[0]
    except Exception as error:
        if _PROVIDERS["cuda"] in session.get_providers() and (full := full_gpu(error)):
            raise full from error
        raise problem(encoder, f"does not take a waveform (1, n): {_line(error)}") from error
    array = np.asarray(output, np.float32)
    if array.ndim not in (2, 3) or len(array) != 1:
        raise problem(
            encoder, f"gives the shape {array.shape}: its first output must be (1, T, H) or (1, H)"
        )
    return array


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0]


class OnnxEncoder:
    """An encoder of an ONNX file, with its weights."""

    def __init__(self, description: Description, device: str) -> None:
        self.name = Path(description.place).name
        self.session = _session(self.name, description.place, device)

    def __call__(self, signal: Array) -> Array:
        """The output, (1, T, H), of (n,) samples. A vector is one state: T is 1."""
        output = _run(self.name, self.session, signal)
        return output if output.ndim == 3 else output[:, None]
