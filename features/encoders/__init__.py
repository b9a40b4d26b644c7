"""Pretrained speech encoders: from a folder, the Hugging Face hub or an ONNX file to hidden states.

An encoder always reads one utterance at a time. Base models normalise their first layer over time,
so the padding of a batch would change the values of its shorter utterances.
"""

import functools
from pathlib import Path

from features.encoders import checkpoint, onnx_file
from features.encoders.description import Description, Encoder


def describe(encoder: str) -> Description:
    """Describe an encoder, without its weights in memory.

    encoder : a folder, a hub id, or an ONNX file (`.onnx`)

    Raises FeatureError if the encoder cannot be used, DependencyError if its library is missing.
    """
    return onnx_file.describe(encoder) if encoder.endswith(".onnx") else checkpoint.read(encoder)


@functools.lru_cache(maxsize=1)
def load(description: Description, device: str) -> Encoder:
    """Load an encoder with its weights, once a process. `device` is `cpu` or `cuda`."""
    if Path(description.place).suffix == ".onnx":
        return onnx_file.OnnxEncoder(description, device)
    from features.encoders.network import TransformersEncoder

    return TransformersEncoder(description, device)
