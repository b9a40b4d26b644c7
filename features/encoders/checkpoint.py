"""Encoders of transformers: a folder, or a model of the Hugging Face hub."""

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

from features.encoders.description import (
    Description,
    missing,
    problem,
    read_json,
    sha256,
    waveform_settings,
)
from features.signal import MIN_SAMPLES

CONVOLUTIONAL = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
"""Kinds of encoder that read the waveform with convolutions."""
KINDS = (*CONVOLUTIONAL, "whisper")
WHISPER_STRIDE = 320
"""Samples: hops of 160, and a convolution of stride 2."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def read(encoder: str) -> Description:
    """Describe the encoder of a folder or of a hub id. Only `config.json` and the like are parsed.

    Raises FeatureError if the folder does not exist, if it holds no weights or another kind of
    model, or if the hub cannot be reached; DependencyError if transformers is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise missing("transformers", "encoders")
    folder = Path(encoder).expanduser()
    if not folder.is_dir():
        folder = _from_hub(encoder)
    settings_file = folder / "config.json"
    if not settings_file.is_file():
        raise problem(encoder, "has no config.json: pass the folder of an encoder")
    settings = read_json(encoder, settings_file)
    kind = settings.get("model_type")
    if kind not in KINDS:
        raise problem(
            encoder, f"holds a model of type {kind}: choose a speech encoder ({', '.join(KINDS)})"
        )
    weights = weight_files(folder)
    if not _whole(weights):
        raise problem(
            encoder, "has no weights, or a part of them: no model.safetensors or pytorch_model.bin"
        )
    whisper = kind == "whisper"
    normalize, waveform_file = waveform_settings(encoder, folder, default=not whisper)
    try:
        states, size, stride, least = _sizes(settings, whisper)
    except (KeyError, TypeError, ValueError) as error:
        raise problem(encoder, f"has no sizes of a {kind} encoder in config.json") from error
    files = (settings_file, waveform_file, *weights)
    return Description(
        place=str(folder.resolve()),
        kind=kind,
        states=states,
        size=size,
        stride=stride,
        least=least,
        normalize=normalize,
        contents=tuple(sha256(file) for file in files),
        libraries=("transformers", "torch"),
    )


def _sizes(settings: dict[str, Any], whisper: bool) -> tuple[int, int, int, int]:
    """Hidden states, their size, samples between two of them, and samples of the shortest input."""
    if whisper:
        return settings["encoder_layers"] + 1, settings["d_model"], WHISPER_STRIDE, MIN_SAMPLES
    # The defaults are those of transformers, whose older versions saved only changed values.
    kernels = settings.get("conv_kernel", [10, 3, 3, 3, 3, 2, 2])
    strides = settings.get("conv_stride", [5, 2, 2, 2, 2, 2, 2])
    field, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * step
        step *= stride
    states = settings.get("num_hidden_layers", 12) + 1
    return states, settings.get("hidden_size", 768), math.prod(strides), max(field, MIN_SAMPLES)


def weight_files(folder: Path) -> list[Path]:
    """The files of weights that are loaded: safetensors if there are any, else PyTorch's."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := sorted(file for file in folder.glob(pattern) if file.is_file()):
            index = folder / f"{pattern.replace('*', '')}.index.json"
            return [*files, *([index] if index.is_file() else [])]
    return []


def _whole(files: list[Path]) -> bool:
    """Whether there are weights. If an index names their files, all of them must be there."""
    if not files or files[-1].suffix != ".json":
        return bool(files)
    parts = read_json(str(files[-1].parent), files[-1]).get("weight_map")
    names = {file.name for file in files}
    return isinstance(parts, dict) and bool(parts) and names.issuperset(map(str, parts.values()))


def _from_hub(encoder: str) -> Path:
    """The folder of a model of the hub: the copy on this machine, or else a new download."""
    if not _HUB_ID.fullmatch(encoder):
        raise problem(encoder, "does not exist: pass the folder of an encoder, or a hub id")
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    def snapshot(patterns: list[str], local: bool = False) -> Path:
        place = huggingface_hub.snapshot_download(
            encoder, allow_patterns=patterns, local_files_only=local
        )
        return Path(place)

    settings = ["config.json", "preprocessor_config.json", "processor_config.json"]
    try:
        folder = snapshot(settings, local=True)
        if (folder / "config.json").is_file() and _whole(weight_files(folder)):
            return folder
    except (OSError, ValueError):
        pass  # not on this machine
    try:
        folder = snapshot([*settings, "model*.safetensors*"])
        return folder if weight_files(folder) else snapshot([*settings, "pytorch_model*.bin*"])
    except RepositoryNotFoundError as error:
        raise problem(
            encoder, "is no folder here, and the hub has no model of this name for you"
        ) from error
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        raise problem(
            encoder,
            "is no folder here, and the hub does not answer. Download the model on a machine with "
            "a network, and pass its folder",
        ) from error
