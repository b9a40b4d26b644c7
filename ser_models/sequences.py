"""The input and output of a model, and layers whose results do not depend on padding."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Padded(NamedTuple):
    """Sequences of different lengths in one tensor.

    values : (batch, time, dims)
    lengths : (batch,) int64; 0 if a sequence is absent
    """

    values: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """(batch, time), True on real frames."""
        steps = torch.arange(self.values.shape[1], device=self.values.device)
        return steps[None, :] < self.lengths[:, None]

    def to(self, device: torch.device) -> "Padded":
        """Copy to `device`."""
        return Padded(*(tensor.to(device, non_blocking=True) for tensor in self))


class Output(NamedTuple):
    """The output of a model for a batch.

    logits : (batch, classes)
    embedding : (batch, embedding)   input of the last layer
    attention : name -> (batch, time)   weights over frames or pooled steps, 0 on padding
    speaker_logits : (batch, speakers)   only from a model that also classifies speakers
    speaker_embedding : (batch, embedding)   input of its speaker layer
    penalty : ()   the regulariser's term of the loss of this batch; None in evaluation
    parts : (batch, groups, classes)   logits of local classifiers; only from a model that has them
    """

    logits: Tensor
    embedding: Tensor
    attention: dict[str, Tensor]
    speaker_logits: Tensor | None = None
    speaker_embedding: Tensor | None = None
    penalty: Tensor | None = None
    parts: Tensor | None = None


def traced() -> bool:
    """Whether PyTorch records the operations, for ONNX. Values that Python reads would be fixed."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined]


def single_vectors(current: Padded) -> Tensor:
    """The vectors (batch, dims) of utterances that have one frame each.

    Raises ValueError if an utterance has more frames.
    """
    if not traced() and (frames := int(current.lengths.max())) > 1:
        raise ValueError(f"an utterance has {frames} frames, but this model reads one vector")
    return current.values[:, 0]


class Dropout(nn.Dropout):
    """Dropout as in `nn.Dropout`, in half of its time on a CPU.

    There, torch 2.13 draws Bernoulli numbers three times as slowly as uniform numbers.
    """

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0 or values.device.type != "cpu":
            return super().forward(values)
        uniform = torch.rand(values.shape, dtype=torch.float32, device=values.device)
        return values * uniform.ge_(self.p).div_(1 - self.p).to(values.dtype)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over the real frames of a batch (Ioffe and Szegedy 2015).

    Equal to `nn.BatchNorm1d` on the concatenated real frames. Without concatenation, shapes do not
    depend on the lengths, and the layer compiles.

    offset : whether the layer has a bias, which it adds after its gain
    values : (batch, time, size)
    mask : (batch, time)   True on real frames
    returns : (batch, time, size); padding is normalised but not part of the statistics
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(
        self, size: int, momentum: float = 0.1, epsilon: float = 1e-5, offset: bool = True
    ) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if offset else None
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_variance", torch.ones(size))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        # Under autocast the values have half precision, too coarse for sums over a batch.
        values = values.to(self.weight.dtype)
        if self.training:
            real = mask[:, :, None]
            count = mask.sum()
            mean = (values * real).sum((0, 1)) / count.clamp(min=1)
            squares = (((values - mean) * real) ** 2).sum((0, 1))
            variance = squares / count.clamp(min=1)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_variance.lerp_(squares / (count - 1).clamp(min=1), self.momentum)
        else:
            mean, variance = self.running_mean, self.running_variance
        scale = self.weight * torch.rsqrt(variance + self.epsilon)
        scaled = (values - mean) * scale
        return scaled if self.bias is None else scaled + self.bias
