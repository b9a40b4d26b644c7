"""ACRNN and ACRNN-r, and the encoder that SSA-CRNN shares with them."""

from torch import Tensor, nn

from ser_models.attention import DotAttention
from ser_models.checks import at_least, is_share, weight_matrices
from ser_models.regularizers import RegularizedLinear, RegularizerKind
from ser_models.sequences import MaskedBatchNorm, MaskedRecurrence, Output, Padded

CHANNELS = 3
"""Static, delta, delta of delta: the columns of a frame, one channel's bands after another's."""

KERNEL = (5, 3)
"""Frames and bands under a convolution's kernel."""

SLOPE = 0.01
"""Of every leaky ReLU below zero."""


class ConvolutionalEncoder(nn.Module):
    """What reads the spectrogram, in ACRNN once and in SSA-CRNN twice.

    (3, time, bands) > conv 5x3 > max-pool 2x2 > `conv_layers` conv 5x3 > (time / 2, maps * bands
    / 2) > linear > batch norm > leaky ReLU > dropout > BLSTM. Leaky ReLU after each convolution.

    Source: Chen et al. 2018; as there, batch normalisation comes between the linear layer and its
    leaky ReLU. That layer has no bias, which the normalisation would take out again (ours).

    Padding changes nothing: maps are zero beyond the real frames of each row after every layer, as
    they are beyond the edge of a batch, an odd last frame is pooled with a frame of zeros, and
    batch statistics are of real steps only. A row of n frames has ceil(n / 2) steps.

    Shapes
    ------
    current : Padded of (batch, time, 3 * bands)
    returns : (batch, time / 2, 2 * hidden_size) states, zeros on padding; (batch, time / 2) mask
    """

    def __init__(
        self,
        dims: int,
        *,
        first_maps: int,
        maps: int,
        conv_layers: int,
        linear_size: int,
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if dims < 2 * CHANNELS or dims % (2 * CHANNELS):
            raise ValueError(f"dims is {dims}: it must be three channels of an even count of bands")
        at_least(
            1,
            first_maps=first_maps,
            maps=maps,
            conv_layers=conv_layers,
            linear_size=linear_size,
            hidden_size=hidden_size,
        )
        is_share(dropout=dropout)
        padding = (KERNEL[0] // 2, KERNEL[1] // 2)
        self.first = nn.Conv2d(CHANNELS, first_maps, KERNEL, padding=padding)
        self.further = nn.ModuleList(
            nn.Conv2d(maps if layer else first_maps, maps, KERNEL, padding=padding)
            for layer in range(conv_layers)
        )
        self.linear = nn.Linear(maps * dims // (2 * CHANNELS), linear_size, bias=False)
        self.normalization = MaskedBatchNorm(linear_size)
        self.dropout = nn.Dropout(dropout)
        self.recurrence = MaskedRecurrence(nn.LSTM, linear_size, hidden_size, bidirectional=True)

    def forward(self, current: Padded) -> tuple[Tensor, Tensor]:
        mask = current.mask
        values = current.values.masked_fill(~mask[:, :, None], 0)
        maps = values.unflatten(2, (CHANNELS, -1)).transpose(1, 2)  # (batch, 3, time, bands)
        maps = _convolve(self.first, maps, mask)
        if maps.shape[2] % 2:  # to pad by nothing would copy what takes most of the memory
            maps = nn.functional.pad(maps, (0, 0, 0, 1))
        maps = nn.functional.max_pool2d(maps, 2)  # (batch, first_maps, time / 2, bands / 2)
        # A step is real where the first of its two frames is. Copied, for inductor (torch 2.13)
        # gives wrong attention weights for a mask with strides once the shapes change.
        mask = mask[:, ::2].contiguous()
        for convolution in self.further:
            maps = _convolve(convolution, maps, mask)
        states = self.linear(maps.transpose(1, 2).flatten(2))  # (batch, time / 2, linear)
        states = nn.functional.leaky_relu(self.normalization(states, mask), SLOPE)
        steps = Padded(self.dropout(states), (current.lengths + 1) // 2)
        return self.recurrence(steps), mask


def _convolve(convolution: nn.Module, maps: Tensor, mask: Tensor) -> Tensor:
    """Convolution > leaky ReLU, zero beyond the real frames of each row."""
    convolved = convolution(maps) * mask[:, None, :, None]
    return nn.functional.leaky_relu(convolved, SLOPE, inplace=True)  # maps are what takes memory


class ACRNN(nn.Module):
    """Attention-based convolutional recurrent network (Chen et al. 2018), as in SSA-CRNN's paper.

    conv 5x3 > max-pool 2x2 > five conv 5x3 > linear > batch norm > leaky ReLU > BLSTM
    > attention pooling > linear > leaky ReLU (embedding) > dropout > regularised linear.
    9,317,760 parameters at the published sizes with 40 bands and 4 classes; four more without the
    regulariser, whose layer has no bias.

    Parameters
    ----------
    dims : 3 * bands, a frame's static, delta and delta-of-delta bands (120 in the paper)
    classes : number of emotions
    first_maps : of the first convolution (128, the paper's)
    maps : of each further convolution (256, the paper's)
    conv_layers : further convolutions; 5 is Chen's, the SSA-CRNN paper says "several"
    linear_size : of the layer before the BLSTM (768, the paper's)
    hidden_size : of one direction of the BLSTM (128, the paper's)
    embedding_size : of the layer before the last (128, the paper's); its leaky ReLU is Chen's
    dropout : share dropped before the BLSTM and after the embedding; the paper is silent, 0 is ours
    regularizer : `penalty`, `projection` or `none` (plain ACRNN); the paper has both, and that
        `penalty` is the default is ours
    regularizer_weight : lambda of `penalty`; the paper gives none, and None is our 0.01

    Shapes
    ------
    current : Padded of (batch, time, dims); own and other are not looked at
    returns : Output with attention `current` (batch, ceil(time / 2)): one step is two frames, 20 ms
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
        at_least(2, classes=classes)
        at_least(1, embedding_size=embedding_size)
        self.encoder = ConvolutionalEncoder(
            dims,
            first_maps=first_maps,
            maps=maps,
            conv_layers=conv_layers,
            linear_size=linear_size,
            hidden_size=hidden_size,
            dropout=dropout,
        )
        self.pooling = DotAttention(2 * hidden_size)
        self.projection = nn.Linear(2 * hidden_size, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.output = RegularizedLinear(embedding_size, classes, regularizer, regularizer_weight)

    def decayed_parameters(self) -> list[Tensor]:
        """What weight decay applies to: all weight matrices."""
        return weight_matrices(self)

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None
    ) -> Output:
        states, mask = self.encoder(current)
        pooled, attention = self.pooling(states, mask)  # (batch, 2 * hidden)
        embedding = nn.functional.leaky_relu(self.projection(pooled), SLOPE)
        logits, penalty = self.output(self.dropout(embedding))
        return Output(logits, embedding, {"current": attention}, penalty=penalty)
