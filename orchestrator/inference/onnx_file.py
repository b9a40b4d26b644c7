"""The networks of a model as one ONNX file. Needs the extra `onnx`.

Inputs: `values` (batch, time, dims) float32 and `lengths` (batch,) int64; a model with context also
has `own`, `own_lengths`, `other` and `other_lengths`. Batch and time are dynamic. Output:
`posteriors` (batch, classes) float32. The values are features that are cut, normalised by speaker
and pooled already, as `model.json` says; z-scores of the training part are inside the file. For a
model that reads segments, each row is a segment, and `time` is fixed: pad a shorter one.
"""

import io
import warnings

import torch
from torch import Tensor, nn

from orchestrator.config import registry
from orchestrator.errors import DependencyError
from orchestrator.inference.model import SpeechModel
from ser_models.sequences import Padded

FILE = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4


class Posteriors(nn.Module):
    """A model from plain tensors to posteriors."""

    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, values: Tensor, lengths: Tensor, *context: Tensor) -> Tensor:
        turns = [Padded(*context[start : start + 2]) for start in range(0, len(context), 2)]
        posteriors = [
            network(Padded(values, lengths), *turns).logits.softmax(dim=1)
            for network in self.model.networks.values()
        ]
        return torch.stack(posteriors).mean(dim=0)


def names(model: SpeechModel) -> list[str]:
    """The inputs of the model's file, in their order."""
    context = registry.model(model.description.model.name).context.kind != "none"
    more = ["own", "own_lengths", "other", "other_lengths"] if context else []
    return ["values", "lengths", *more]


def onnx_bytes(model: SpeechModel) -> bytes:
    """The ONNX file of a model. Raises DependencyError without the extra `onnx`."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise DependencyError(
            "--onnx needs an optional package: pip install 'ser-orchestrator[onnx]'"
        ) from None
    features = model.description.features
    dims, time = features.load().dims, features.cut or 1
    if features.load().shape == "frames":
        time = 8
    inputs: list[Tensor] = []
    axes: dict[str, dict[int, str]] = {"posteriors": {0: "batch"}}
    for name in names(model):
        if name.endswith("lengths"):
            inputs.append(torch.tensor([time, max(1, time - 2)]))
            axes[name] = {0: "batch"}
        else:
            inputs.append(torch.zeros(2, time, dims))
            axes[name] = {0: "batch"}
            if features.cut is None:
                axes[name][1] = "time" if name == "values" else f"{name}_time"
    sink = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter of traces is deprecated, but the other one (torch 2.13) needs static lengths.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Posteriors(model).eval(),
            tuple(inputs),
            sink,  # type: ignore[arg-type]  # a file works too
            input_names=names(model),
            output_names=["posteriors"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return sink.getvalue()
