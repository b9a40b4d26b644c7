"""ACRNN and ACRNN-r, and the encoder that they share with SSA-CRNN."""

import torch
from torch import Tensor, nn

from ser_models.attention import DotAttention
from ser_models.base import EmotionModel, check_sizes
from ser_models.recurrence import MaskedRecurrence
from ser_models.regularizers import RegularizedLinear, RegularizerKind
from ser_models.sequences import Dropout, MaskedBatchNorm, Output, Padded, traced

CHANNELS = 3  # static, delta and delta of delta; a frame has all bands of a channel side by side
KERNEL = (5, 3)  # frames and bands of each convolution
GROUPS = 6  # of rows with similar length, whose convolutions are computed together on a CPU
SLOPE = 0.01  # of every leaky ReLU below zero


class ConvolutionalEncoder(nn.Module):
    """The encoder of a spectrogram. ACRNN has one, SSA-CRNN has two.

    (3, time, bands) > conv 5x3 > max-pool 2x2 > `conv_layers` conv 5x3 > (time / 2, maps * bands
    / 2) > linear > batch norm > leaky ReLU > dropout > BLSTM. Leaky ReLU after each convolution.
    Source: Chen et al. 2018, with the batch normalisation. The linear layer has no bias, because
    the normalisation would remove it (ours).

    Padding does not change the states (ours): maps are zero beyond the real frames of each row, an
    odd last frame is pooled with a frame of zeros, and batch statistics cover real steps only.

    current : Padded of (batch, time, 3 * bands)
    returns : (batch, steps, 2 * hidden_size) states, zeros on padding; (batch, steps) mask.
        n frames are ceil(n / 2) steps
    """

    def __init__(
        self,
        dims: int,
        first_maps: int,
        maps: int,
        conv_layers: int,
        linear_size: int,
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if dims < 2 * CHANNELS or dims % (2 * CHANNELS):
            raise ValueError(f"dims is {dims}: it must be 3 channels of an even number of bands")
        check_sizes(dropout, first_maps=first_maps, maps=maps, conv_layers=conv_layers)
        check_sizes(linear_size=linear_size, hidden_size=hidden_size)
        padding = (KERNEL[0] // 2, KERNEL[1] // 2)
        self.first = nn.Conv2d(CHANNELS, first_maps, KERNEL, padding=padding)
        self.further = nn.ModuleList(
            nn.Conv2d(maps if layer else first_maps, maps, KERNEL, padding=padding)
            for layer in range(conv_layers)
        )
        self.linear = nn.Linear(maps * dims // (2 * CHANNELS), linear_size, bias=False)
        self.normalization = MaskedBatchNorm(linear_size)
        self.dropout = Dropout(dropout)
        self.recurrence = MaskedRecurrence(nn.LSTM, linear_size, hidden_size, bidirectional=True)

    def forward(self, current: Padded) -> tuple[Tensor, Tensor]:
        # The mask is copied because inductor (torch 2.13) gives wrong attention weights for a
        # strided mask after a change of shapes. A similar error:
        # https://github.com/pytorch/pytorch/issues/172693
        mask = current.mask[:, ::2].contiguous()
        states = self._projected_in_groups(current)
        states = nn.functional.leaky_relu(self.normalization(states, mask), SLOPE)
        steps = Padded(self.dropout(states), (current.lengths + 1) // 2)
        return self.recurrence(steps), mask

    def _projected_in_groups(self, current: Padded) -> Tensor:
        """As `_projected`. On a CPU, rows of similar length are computed together.

        Convolutions take most of the time, and as much over padding as over speech. On a GPU, the
        host would wait for the lengths.
        """
        static = torch.compiler.is_compiling() or traced()
        if current.values.device.type != "cpu" or static:
            return self._projected(current)
        order = torch.argsort(current.lengths, stable=True)
        time, parts = (current.values.shape[1] + 1) // 2, []
        for rows in order.chunk(GROUPS):
            lengths = current.lengths[rows]
            longest = max(1, int(lengths.max()))
            states = self._projected(Padded(current.values[rows, :longest], lengths))
            parts.append(nn.functional.pad(states, (0, 0, 0, time - states.shape[1])))
        return torch.cat(parts)[torch.argsort(order)]

    def _projected(self, current: Padded) -> Tensor:
        """Convolutions and the linear layer: (batch, time / 2, linear), zeros on padding."""
        mask = current.mask
        values = current.values.masked_fill(~mask[:, :, None], 0)
        maps = values.unflatten(2, (CHANNELS, -1)).transpose(1, 2)  # (batch, 3, time, bands)
        # All maps keep this memory format. On a CPU, it makes the convolutions of small networks
        # and the pooling faster.
        maps = maps.contiguous(memory_format=torch.channels_last)
        maps = _convolve(self.first, maps, mask)
        # Padding copies the largest tensor, so it is left out for an even number of frames. A trace
        # pads always: the pooling drops a last frame without a partner.
        if traced() or maps.shape[2] % 2:
            maps = nn.functional.pad(maps, (0, 0, 0, 1))
        maps = nn.functional.max_pool2d(maps, 2)  # (batch, first_maps, time / 2, bands / 2)
        # The leaky ReLU rises, so it may follow the pooling, which leaves a quarter of the values.
        maps = _leaky_relu(maps)
        mask = mask[:, ::2].contiguous()  # a step is real if the first of its two frames is real
        for convolution in self.further:
            maps = _leaky_relu(_convolve(convolution, maps, mask))
        return self.linear(maps.transpose(1, 2).flatten(2))


def _convolve(convolution: nn.Module, maps: Tensor, mask: Tensor) -> Tensor:
    """A convolution, zero beyond the real frames of each row."""
    convolved: Tensor = convolution(maps)
    # A mask of booleans would be converted for each element, in both directions.
    return convolved * mask[:, None, :, None].to(convolved.dtype)


def _leaky_relu(maps: Tensor) -> Tensor:
    """In place, because maps take most of the memory."""
    return nn.functional.leaky_relu(maps, SLOPE, inplace=True)


class ACRNN(EmotionModel):
    """Attention-based convolutional recurrent network (Chen et al. 2018), as in SSA-CRNN's paper.

    conv 5x3 > max-pool 2x2 > five conv 5x3 > linear > batch norm > leaky ReLU > BLSTM
    > attention pooling > linear > leaky ReLU (embedding) > dropout > regularised linear.
    9,317,760 parameters at the published sizes with 40 bands and 4 classes. Four more without a
    regulariser, because only then the last layer has a bias.

    dims : 3 * bands: the static, delta and delta-of-delta bands of a frame (paper: 120)
    first_maps : maps of the first convolution (paper: 128)
    maps : maps of each further convolution (paper: 256)
    conv_layers : number of further convolutions (Chen: 5; the SSA-CRNN paper says "several")
    linear_size : size of the linear layer before the BLSTM (paper: 768)
    hidden_size : states of one direction of the BLSTM (paper: 128)
    embedding_size : size of the layer before the last (paper: 128); its leaky ReLU is Chen's
    dropout : share dropped before the BLSTM and after the embedding (the paper gives none; 0 is
        ours)
    regularizer : `penalty`, `projection` or `none` (plain ACRNN). The paper states the norm of the
        weights as an equality, and names neither a penalty nor a projection. Both ways to reach
        the norm, and the default, are ours
    regularizer_weight : lambda of `penalty`; None means 0.01 (ours)

    The output has the attention `current` (batch, steps). A step is two frames, 20 ms.
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        *,
        first_maps: int = 128,
        maps: int = 256,
        conv_layers: int = 5,
        linear_size: int = 768,
        hidden_size: int = 128,
        embedding_size: int = 128,
        dropout: float = 0.0,
        regularizer: RegularizerKind = "penalty",
        regularizer_weight: float | None = None,
    ) -> None:
        super().__init__()
        check_sizes(classes=classes, embedding_size=embedding_size)
        sizes = (dims, first_maps, maps, conv_layers, linear_size, hidden_size, dropout)
        self.encoder = ConvolutionalEncoder(*sizes)
        self.pooling = DotAttention(2 * hidden_size)
        self.projection = nn.Linear(2 * hidden_size, embedding_size)
        self.dropout = Dropout(dropout)
        self.output = RegularizedLinear(embedding_size, classes, regularizer, regularizer_weight)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        states, mask = self.encoder(current)
        pooled, attention = self.pooling(states, mask)  # (batch, 2 * hidden)
        embedding = nn.functional.leaky_relu(self.projection(pooled), SLOPE)
        logits, penalty = self.output(self.dropout(embedding))
        return Output(logits, embedding, {"current": attention}, penalty=penalty)
