"""SSA-CRNN-r: an emotion classifier and a speaker classifier that are trained together."""

from torch import Tensor, nn

from ser_models.acrnn import SLOPE, ConvolutionalEncoder
from ser_models.attention import DotAttention, SelfSpeakerAttention
from ser_models.base import EmotionModel, check_sizes
from ser_models.regularizers import RegularizedLinear, RegularizerKind
from ser_models.sequences import Dropout, Output, Padded


class SSACRNN(EmotionModel):
    """Speaker attentive CRNN (Interspeech 2021).

    C_sp: encoder > attention pooling > linear > leaky ReLU > dropout > linear (speakers).
    C_em: encoder > self speaker attention over both encoders' states > linear > leaky ReLU
    > dropout > regularised linear (emotions). The encoder is `ConvolutionalEncoder`.
    18,931,104 parameters at the published sizes with 40 bands, 4 classes, 10 speakers and segments
    of 300 frames.

    The loss is cross-entropy of the emotions + `speaker_weight` * cross-entropy of the speakers
    + the penalty of the regulariser. Both networks are trained together: the gradient of the
    emotion loss also flows into the speaker encoder.

    speakers : number of speakers in the training part. If the test speakers are others, the
        speaker logits of the test part have no meaning
    segment : frames of a full segment (paper: 300), the most that a batch may have; the query has
        half as many weights
    speaker_weight : weight of the speakers' cross-entropy (the paper gives none; 1 is ours)
    others : as in `ACRNN`, the same for both networks; only the emotion layer has a regulariser

    The output has the attention `emotion` and `speaker` (a_em and a_sp, which together sum to 1)
    and `speaker_pooling` (of C_sp), each (batch, steps). A step is two frames, 20 ms.
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
        check_sizes(classes=classes, speakers=speakers)
        check_sizes(segment=segment, embedding_size=embedding_size)
        if speaker_weight < 0:
            raise ValueError(f"speaker_weight is {speaker_weight}: it must be at least 0")
        self.segment = segment
        self.speaker_weight = speaker_weight
        sizes = (dims, first_maps, maps, conv_layers, linear_size, hidden_size, dropout)
        self.emotion_encoder = ConvolutionalEncoder(*sizes)
        self.speaker_encoder = ConvolutionalEncoder(*sizes)
        size = 2 * hidden_size  # d
        self.attention = SelfSpeakerAttention(size, (segment + 1) // 2)
        self.emotion_projection = nn.Linear(2 * size, embedding_size)
        self.output = RegularizedLinear(embedding_size, classes, regularizer, regularizer_weight)
        self.speaker_pooling = DotAttention(size)
        self.speaker_projection = nn.Linear(size, embedding_size)
        self.speaker_output = nn.Linear(embedding_size, speakers)
        self.dropout = Dropout(dropout)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        if (frames := current.values.shape[1]) > self.segment:
            raise ValueError(f"a batch has {frames} frames, but segment is {self.segment}")
        h_em, mask = self.emotion_encoder(current)
        h_sp, _ = self.speaker_encoder(current)
        c_em, a_em, a_sp = self.attention(h_em, h_sp, mask)  # (batch, 2 * d)
        c_sp, pooling = self.speaker_pooling(h_sp, mask)  # (batch, d)
        z_em = nn.functional.leaky_relu(self.emotion_projection(c_em), SLOPE)
        z_sp = nn.functional.leaky_relu(self.speaker_projection(c_sp), SLOPE)
        logits, penalty = self.output(self.dropout(z_em))
        attention = {"emotion": a_em, "speaker": a_sp, "speaker_pooling": pooling}
        speaker_logits = self.speaker_output(self.dropout(z_sp))
        return Output(logits, z_em, attention, speaker_logits, z_sp, penalty)

    def extra_loss(self, output: Output, labels: Tensor, speakers: Tensor) -> Tensor:
        """`speaker_weight` * cross-entropy of the speakers, summed over the batch."""
        assert output.speaker_logits is not None
        logits = output.speaker_logits.float()  # half precision under autocast
        return self.speaker_weight * nn.functional.cross_entropy(logits, speakers, reduction="sum")
