"""The networks of a model as one ONNX file. Needs the extra `onnx`.

Inputs: `values` (batch, time, dims) float32 and `lengths` (batch,) int64. If a model reads one
vector for each utterance, `values` is (batch, 1, dims), and there are no `lengths`. A model with
context also has `own`, `own_lengths`, `other` and `other_lengths`. There, a length of 0 means no
turn, and `time` is at least 1. Batch and time are dynamic. Output: `posteriors` (batch, classes)
float32. The values are features that are cut, normalised by speaker and pooled already, as
`model.json` says; z-scores of the training part are inside the file. For a model that reads
segments, each row is a segment, of at most `features.segment` frames.
"""

import io
import warnings
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from orchestrator.config import registry
from orchestrator.errors import ConfigError, DependencyError
from orchestrator.inference.model import SpeechModel
from ser_models.sequences import Padded
from ser_models.standardised import Standardised

FILE = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4


class Posteriors(nn.Module):
    """A model from plain tensors to posteriors."""

    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        if reads_vectors(self.model):
            values, *further = inputs
            inputs = (values, torch.ones_like(values[:, 0, 0], dtype=torch.int64), *further)
        turns = [Padded(*inputs[start : start + 2]) for start in range(0, len(inputs), 2)]
        posteriors = [
            network(*turns).logits.softmax(dim=1) for network in self.model.networks.values()
        ]
        return torch.stack(posteriors).mean(dim=0)


def reads_vectors(model: SpeechModel) -> bool:
    """Whether the model reads one vector for each utterance."""
    return model.description.features.load().shape == "vector"


def names(model: SpeechModel) -> list[str]:
    """The inputs of the model's file, in their order."""
    context = registry.model(model.description.model.name).context.kind != "none"
    more = ["own", "own_lengths", "other", "other_lengths"] if context else []
    return ["values", *([] if reads_vectors(model) else ["lengths"]), *more]


def onnx_bytes(model: SpeechModel) -> bytes:
    """The ONNX file of a model, after a check against PyTorch.

    Raises DependencyError without the extra `onnx`, and ConfigError for a network that ONNX cannot
    express or whose file gives other posteriors.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        raise DependencyError(
            "--onnx needs optional packages: pip install 'ser-orchestrator[onnx]'"
        ) from None
    exported = Posteriors(model).eval()
    try:
        data = _traced(model, exported)
        check(model, data)
    except Exception as error:  # of the network, which may be the user's own, or of the exporter
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ConfigError(
            f"model.name: {model.description.model.name} cannot be written as ONNX: {reason}. "
            "Export it without --onnx"
        ) from error
    return data


def _traced(model: SpeechModel, exported: nn.Module) -> bytes:
    inputs = example(model, batch=2, time=8)
    axes: dict[str, dict[int, str]] = {"posteriors": {0: "batch"}}
    for name, value in inputs.items():
        axes[name] = {0: "batch"}
        if value.ndim == 3 and value.shape[1] > 1:
            axes[name][1] = "time" if name == "values" else f"{name}_time"
    sink = io.BytesIO()
    # torch 2.13 prints the graph of a failed export, thousands of lines. It asks whether its log is
    # enabled, but tests the function that says so, and not the answer.
    silent = patch.object(torch._C, "_jit_onnx_log", lambda *parts: None)
    with warnings.catch_warnings(), torch.no_grad(), silent:
        # This exporter is deprecated. In the files of the other one (torch 2.13), the weights of an
        # attention have the time of the example, and ONNX Runtime fails for another time.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            exported,
            tuple(inputs.values()),
            sink,  # type: ignore[arg-type]  # a file works too
            input_names=list(inputs),
            output_names=["posteriors"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return sink.getvalue()


def example(model: SpeechModel, batch: int, time: int) -> dict[str, Tensor]:
    """Random features like those of the training part, by the names of the inputs.

    batch : rows, of which the first has `time` frames and the others have fewer. The last row has
        no context turns
    """
    generator = torch.Generator().manual_seed(0)
    dims = model.description.features.load().dims
    network = next(iter(model.networks.values()))
    found: dict[str, Tensor] = {}
    for name in names(model):
        frames = 1 if name == "values" and reads_vectors(model) else time
        if name.endswith("lengths"):
            lengths = torch.randint(1, frames + 1, (batch,), generator=generator)
            lengths[0] = frames
            if name != "lengths" and batch > 1:
                lengths[-1] = 0
            found[name] = lengths
            continue
        values = torch.randn(batch, frames, dims, generator=generator)
        if isinstance(network, Standardised):  # features as extracted
            values = (network.mean + network.deviation * values).float()
        found[name] = values
    return found


def check(model: SpeechModel, data: bytes) -> None:
    """Compare the posteriors of a file with those of PyTorch, for two other batches and times.

    Raises ValueError if they differ by more than `TOLERANCE`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the error that is raised says it
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    longest = model.description.features.cut or 21
    for batch, time in ((1, 3), (3, min(longest, 21))):
        inputs = example(model, batch, time)
        with torch.no_grad():
            expected = Posteriors(model).eval()(*inputs.values()).numpy()
        (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        if found.shape != expected.shape:
            raise ValueError(f"the file gives {list(found.shape)}, not {list(expected.shape)}")
        if (difference := float(np.abs(found - expected).max())) > TOLERANCE:
            raise ValueError(f"the posteriors of the file differ by {difference:.2g}")
