"""ADRNN: dilated convolutions with a residual skip, a BLSTM, attention and centre loss."""

import torch
from torch import Tensor, nn

from ser_models.acrnn import CHANNELS, SLOPE
from ser_models.attention import DotAttention
from ser_models.base import EmotionModel, check_sizes
from ser_models.recurrence import MaskedRecurrence
from ser_models.sequences import Dropout, MaskedBatchNorm, Output, Padded, traced


class NormalizedConvolution(nn.Module):
    """Dilated convolution > batch norm, zero beyond the real steps of each row.

    The convolution has no bias, because the normalisation would remove it (ours). The normalisation
    covers all real steps and bands of a map.

    offset : whether the normalisation has a bias
    maps : (batch, maps, steps, bands)
    mask : (batch, steps)   True on real steps
    returns : (batch, new maps, steps, bands)
    """

    def __init__(
        self, maps: int, new_maps: int, kernel_size: int, dilation: int, offset: bool = True
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.convolution = nn.Conv2d(
            maps, new_maps, kernel_size, padding=padding, dilation=dilation, bias=False
        )
        self.normalization = MaskedBatchNorm(new_maps, offset=offset)

    def forward(self, maps: Tensor, mask: Tensor) -> Tensor:
        convolved = self.convolution(maps).permute(0, 2, 3, 1)  # (batch, steps, bands, new maps)
        bands = convolved.shape[2]
        real = mask[:, :, None].expand(-1, -1, bands).flatten(1)  # (batch, steps * bands)
        normalized = self.normalization(convolved.flatten(1, 2), real) * real[:, :, None]
        # An ONNX file of `unflatten` would have the steps of its example.
        return normalized.view_as(convolved).permute(0, 3, 1, 2)


class DilatedEncoder(nn.Module):
    """The encoder of a spectrogram.

    P = max-pool(leaky(conv(3, time, bands)));  D = three dilated convolutions > batch norm > leaky;
    S = one dilated convolution > batch norm;  X = D(P) + S(P) > linear > batch norm > leaky
    > dropout > BLSTM. The linear layer and the normalisation of S have no bias, because the
    normalisation after the linear layer would remove it (ours).

    Padding does not change the states (ours): maps are zero beyond the real frames of each row,
    frames that do not fill the last pool are pooled with zeros, and batch statistics cover real
    steps only.

    current : Padded of (batch, time, 3 * bands)
    returns : (batch, steps, 2 * hidden_size) states, zeros on padding; (batch, steps) mask.
        n frames are ceil(n / pool) steps
    """

    def __init__(
        self,
        dims: int,
        maps: int,
        last_maps: int,
        kernel_size: int,
        dilation: int,
        pool: int,
        linear_size: int,
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        check_sizes(dropout, maps=maps, last_maps=last_maps, dilation=dilation, pool=pool)
        check_sizes(linear_size=linear_size, hidden_size=hidden_size)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}: it must be odd and at least 1")
        if dims < CHANNELS * pool or dims % (CHANNELS * pool):
            needed = f"{CHANNELS} channels of a number of bands that pool ({pool}) divides"
            raise ValueError(f"dims is {dims}: it must be {needed}")
        self.pool = pool
        self.first = nn.Conv2d(CHANNELS, maps, kernel_size, padding=kernel_size // 2)
        self.dilated = nn.ModuleList(
            NormalizedConvolution(maps, new_maps, kernel_size, dilation)
            for new_maps in (maps, maps, last_maps)
        )
        self.skip = NormalizedConvolution(maps, last_maps, kernel_size, dilation, offset=False)
        bands = dims // (CHANNELS * pool)
        self.linear = nn.Linear(last_maps * bands, linear_size, bias=False)
        self.normalization = MaskedBatchNorm(linear_size)
        self.dropout = Dropout(dropout)
        self.recurrence = MaskedRecurrence(nn.LSTM, linear_size, hidden_size, bidirectional=True)

    def forward(self, current: Padded) -> tuple[Tensor, Tensor]:
        # The mask is copied as in `ConvolutionalEncoder`.
        mask = current.mask[:, :: self.pool].contiguous()
        pooled = maps = self._pooled(current)
        for layer in self.dilated:
            maps = nn.functional.leaky_relu(layer(maps, mask), SLOPE)
        maps = maps + self.skip(pooled, mask)
        states = self.normalization(self.linear(maps.transpose(1, 2).flatten(2)), mask)
        states = self.dropout(nn.functional.leaky_relu(states, SLOPE))
        steps = Padded(states, (current.lengths + self.pool - 1) // self.pool)
        return self.recurrence(steps), mask

    def _pooled(self, current: Padded) -> Tensor:
        """(batch, maps, steps, bands / pool), zeros on padding."""
        mask = current.mask
        values = current.values.masked_fill(~mask[:, :, None], 0)
        maps = values.unflatten(2, (CHANNELS, -1)).transpose(1, 2)  # (batch, 3, time, bands)
        maps = self.first(maps.contiguous(memory_format=torch.channels_last))
        maps = nn.functional.leaky_relu(maps * mask[:, None, :, None].to(maps.dtype), SLOPE)
        # A trace pads by a fixed number. The pooling drops frames that fill no pool.
        missing = self.pool - 1 if traced() else -maps.shape[2] % self.pool
        if missing:
            maps = nn.functional.pad(maps, (0, 0, 0, missing))
        return nn.functional.max_pool2d(maps, self.pool)


class ADRNN(EmotionModel):
    """Attention-based dilated recurrent network (Meng, Yan, Yuan and Wei, IEEE Access 2019).

    conv > max-pool > three dilated conv with a skip > linear > BLSTM > attention pooling > linear
    > leaky ReLU (embedding x) > dropout > linear. `DilatedEncoder` has the layers before the
    pooling. 5,759,812 parameters at the default sizes with 40 bands and 4 classes.

    The loss is the cross-entropy + `center_weight` / 2 * sum_i ||x_i - c_{y_i}||^2 (centre loss,
    Wen et al. 2016). The centres c_j receive no gradient. After each step of the optimiser, with
    the embeddings of the whole batch from before the step:
    c_j <- c_j - center_rate * sum_{i: y_i = j} (c_j - x_i) / (1 + #{i: y_i = j}).

    The abstract names dilated convolutions in the place of pooling, the skip, the BLSTM, the
    attention and the centre loss. The order and the sizes of the layers are those of a
    re-implementation (github.com/donghyun1234/speech_emotion_recognition), which has no centre
    loss. Ours: one max-pool of 2 frames and 2 bands (there 4 and 2), the order of normalisation and
    leaky ReLU after the linear layer, no normalisation of the embedding, the attention of `ACRNN`,
    the update of the centres as it is written here, and their start at zero.

    dims : 3 * bands: the static, delta and delta-of-delta bands of a frame (120)
    maps : maps of the first convolution and of the first two dilated ones (128)
    last_maps : maps of the third dilated convolution and of the skip (256)
    kernel_size : frames and bands of each convolution; odd (3)
    dilation : of the four dilated convolutions, in frames and bands (2)
    pool : frames and bands that the max-pool joins (2 is ours); 1 for no pooling
    linear_size : size of the linear layer before the BLSTM (768)
    hidden_size : states of one direction of the BLSTM (128)
    embedding_size : size of the layer before the last (64)
    dropout : share dropped before the BLSTM and after the embedding (0 is ours)
    center_weight : weight of the centre loss (0.01 is ours)
    center_rate : between 0 and 1; 0 keeps the centres at zero (0.5 is ours)

    The output has the attention `current` (batch, steps). A step is `pool` frames.
    """

    centers: Tensor

    def __init__(
        self,
        dims: int,
        classes: int,
        *,
        maps: int = 128,
        last_maps: int = 256,
        kernel_size: int = 3,
        dilation: int = 2,
        pool: int = 2,
        linear_size: int = 768,
        hidden_size: int = 128,
        embedding_size: int = 64,
        dropout: float = 0.0,
        center_weight: float = 0.01,
        center_rate: float = 0.5,
    ) -> None:
        super().__init__()
        check_sizes(classes=classes, embedding_size=embedding_size)
        if not center_weight >= 0:
            raise ValueError(f"center_weight is {center_weight}: it must be at least 0")
        if not 0 <= center_rate <= 1:
            raise ValueError(f"center_rate is {center_rate}: it must be between 0 and 1")
        self.center_weight, self.center_rate = center_weight, center_rate
        sizes = (maps, last_maps, kernel_size, dilation, pool, linear_size, hidden_size)
        self.encoder = DilatedEncoder(dims, *sizes, dropout)
        self.pooling = DotAttention(2 * hidden_size)
        self.projection = nn.Linear(2 * hidden_size, embedding_size)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(embedding_size, classes)
        self.register_buffer("centers", torch.zeros(classes, embedding_size))

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        states, mask = self.encoder(current)
        pooled, attention = self.pooling(states, mask)  # (batch, 2 * hidden)
        embedding = nn.functional.leaky_relu(self.projection(pooled), SLOPE)
        return Output(self.output(self.dropout(embedding)), embedding, {"current": attention})

    def extra_loss(self, output: Output, labels: Tensor, speakers: Tensor) -> Tensor:
        """`center_weight` / 2 * the squared distances to the centres, summed over the batch."""
        distances = output.embedding.to(self.centers.dtype) - self.centers[labels]
        return self.center_weight / 2 * distances.square().sum()

    @torch.no_grad()
    def after_step(self, embeddings: Tensor, labels: Tensor) -> None:
        """Move the centre of each class towards the embeddings of its pieces in the batch."""
        # A product with zeros and ones, because a GPU adds by index in an order of its own.
        members = nn.functional.one_hot(labels, len(self.centers)).to(embeddings.dtype)
        counts = members.sum(0)[:, None]  # (classes, 1)
        differences = counts * self.centers - members.t() @ embeddings
        self.centers.sub_(self.center_rate * differences / (1 + counts))
