"""SSA-CRNN-r: an emotion and a speaker classifier that are trained together."""

from torch import Tensor, nn

from ser_models.acrnn import SLOPE, ConvolutionalEncoder
from ser_models.attention import DotAttention, SelfSpeakerAttention
from ser_models.checks import at_least, weight_matrices
from ser_models.regularizers import RegularizedLinear, RegularizerKind
from ser_models.sequences import Output, Padded


class SSACRNN(nn.Module):
    """Speaker attentive CRNN (Interspeech 2021): two ACRNNs, one of which reads the other's states.

    C_sp: encoder > attention pooling > linear > leaky ReLU > dropout > linear (speakers).
    C_em: encoder > self speaker attention over both encoders' states > linear > leaky ReLU
    > dropout > regularised linear (emotions). The encoder is `ConvolutionalEncoder`.
    18,931,104 parameters at the published sizes with 40 bands, 4 classes, 10 speakers and segments
    of 300 frames.

    The loss is cross-entropy of the emotions + `speaker_weight` * cross-entropy of the speakers
    + the penalty, where there is one. The networks are trained together: the emotion's gradient
    flows into the speaker's encoder too.

    Parameters
    ----------
    dims, classes : as in `ACRNN`
    speakers : number of speakers in training; in a fold whose test speakers are others, the
        speaker logits of its test part mean nothing
    segment : frames of a whole segment (300 in the paper); the query has half as many weights
    speaker_weight : of the speaker's cross-entropy in the loss; 1, for the paper weighs neither
    others : as in `ACRNN`, the same for both networks; the regulariser is the emotion layer's

    Shapes
    ------
    current : Padded of (batch, time, dims), time at most `segment`; own, other are not looked at
    returns : Output with attention `emotion` and `speaker` (a_em and a_sp, which sum to 1
        together) and `speaker_pooling` (C_sp's own), each (batch, ceil(time / 2)): one step is two
        frames, 20 ms
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        speakers: int,
        segment: int,
        *,
        first_maps: int = 128,
        maps: int = 256,
        conv_layers: int = 5,
        linear_size: int = 768,
        hidden_size: int = 128,
        embedding_size: int = 128,
        dropout: float = 0.0,
        speaker_weight: float = 1.0,
        regularizer: RegularizerKind = "penalty",
        regularizer_weight: float | None = None,
    ) -> None:
        super().__init__()
        at_least(2, classes=classes, speakers=speakers)
        at_least(1, segment=segment, embedding_size=embedding_size)
        if speaker_weight < 0:
            raise ValueError(f"speaker_weight is {speaker_weight}: it must be at least 0")
        self.segment = segment
        self.speaker_weight = speaker_weight
        encoders = [
            ConvolutionalEncoder(
                dims,
                first_maps=first_maps,
                maps=maps,
                conv_layers=conv_layers,
                linear_size=linear_size,
                hidden_size=hidden_size,
                dropout=dropout,
            )
            for _ in range(2)
        ]
        self.emotion_encoder, self.speaker_encoder = encoders
        size = 2 * hidden_size  # d
        self.attention = SelfSpeakerAttention(size, (segment + 1) // 2)
        self.emotion_projection = nn.Linear(2 * size, embedding_size)
        self.output = RegularizedLinear(embedding_size, classes, regularizer, regularizer_weight)
        self.speaker_pooling = DotAttention(size)
        self.speaker_projection = nn.Linear(size, embedding_size)
        self.speaker_output = nn.Linear(embedding_size, speakers)
        self.dropout = nn.Dropout(dropout)

    def decayed_parameters(self) -> list[Tensor]:
        """What weight decay applies to: all weight matrices."""
        return weight_matrices(self)

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None
    ) -> Output:
        if current.values.shape[1] > self.segment:
            raise ValueError(
                f"a batch has {current.values.shape[1]} frames, but segment is {self.segment}"
            )
        h_em, mask = self.emotion_encoder(current)
        h_sp, _ = self.speaker_encoder(current)
        c_em, a_em, a_sp = self.attention(h_em, h_sp, mask)  # (batch, 2 * d)
        c_sp, pooling = self.speaker_pooling(h_sp, mask)  # (batch, d)
        z_em = nn.functional.leaky_relu(self.emotion_projection(c_em), SLOPE)
        z_sp = nn.functional.leaky_relu(self.speaker_projection(c_sp), SLOPE)
        logits, penalty = self.output(self.dropout(z_em))
        return Output(
            logits,
            z_em,
            {"emotion": a_em, "speaker": a_sp, "speaker_pooling": pooling},
            speaker_logits=self.speaker_output(self.dropout(z_sp)),
            speaker_embedding=z_sp,
            penalty=penalty,
        )
