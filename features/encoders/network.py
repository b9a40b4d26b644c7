"""Encoders of transformers, with their weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from features.encoders.checkpoint import WHISPER_STRIDE, weight_files
from features.encoders.description import Array, Description, full_gpu, problem
from features.errors import FeatureError
from features.signal import SAMPLE_RATE


class TransformersEncoder:
    """wav2vec2, HuBERT, WavLM, data2vec-audio, or the encoder of Whisper.

    Nothing of the folder is run as code: its class is one of transformers, and weights that are
    not safetensors are read by `torch.load` with `weights_only`.
    """

    def __init__(self, description: Description, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise FeatureError(
                "features.device: torch finds no GPU on this machine. Set features.device to cpu"
            )
        self.device = torch.device(device)
        network, self.mel = _load(description)
        with _memory_errors():
            self.network = network.to(self.device).eval()

    def __call__(self, signal: Array) -> Array:
        """All hidden states, (states, T, H), of (n,) samples: at most 30 s for Whisper.

        Raises DeviceError if the memory of the GPU is too small.
        """
        with _memory_errors(), _same_bits(), torch.inference_mode():
            if self.mel is None:
                values = torch.from_numpy(signal)[None]
            else:
                # Padded to 30 s, the only length that Whisper's encoder takes.
                values = self.mel(signal, sampling_rate=SAMPLE_RATE, return_tensors="pt")
                values = values["input_features"]
            output = self.network(values.to(self.device), output_hidden_states=True)
            states = torch.stack([state[0] for state in output.hidden_states])
            if self.mel is not None:
                states = states[:, : -(-len(signal) // WHISPER_STRIDE)]  # no state of the padding
            array: Array = states.float().cpu().numpy()
            return array


def _load(description: Description) -> tuple[Any, Any]:
    """The network, and Whisper's function from samples to mel bands (None for other encoders)."""
    from transformers import AutoConfig, AutoModel

    place, encoder = description.place, Path(description.place).name
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(place, local_files_only=True)
            config.add_adapter = False  # an adapter has a frame rate of its own
            network, loaded = AutoModel.from_pretrained(
                place,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=weight_files(Path(place))[0].suffix == ".safetensors",
                dtype=torch.float32,  # a checkpoint in half precision is computed in float32 too
                output_loading_info=True,
            )
        except FeatureError:
            raise
        except Exception as error:  # transformers has no common base class of errors
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise problem(encoder, f"cannot be loaded by transformers: {reason}") from error
        mel = None
        if description.kind == "whisper":
            from transformers import WhisperFeatureExtractor

            network = network.encoder
            mel = WhisperFeatureExtractor.from_pretrained(place, local_files_only=True)
    # transformers fills in random weights for missing ones. Those are the decoder of Whisper, which
    # is not used, and the vector that masks frames in pretraining.
    needed = [
        name
        for name in loaded["missing_keys"]
        if not name.startswith("decoder.") and not name.endswith("masked_spec_embed")
    ]
    if needed:
        first = sorted(needed)[0]
        raise problem(encoder, f"lacks {len(needed)} weights ({first}): it is of another model")
    return network, mel


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn the errors of a full GPU into one line with the remedy."""
    try:
        yield
    except RuntimeError as error:
        if full := full_gpu(error):
            raise full from error
        raise


@contextmanager
def _same_bits() -> Iterator[None]:
    """Settings of torch under which the values do not depend on the process.

    The bits of a matrix product may depend on the number of threads, and those of a convolution on
    a GPU on the algorithm that cuDNN finds fastest.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bars and warnings of transformers: missing weights are checked above."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
