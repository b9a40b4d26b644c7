"""Two ways to tell ACRNN-r who speaks, and a way to train SSA-CRNN-r's speaker classifier first."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.training.batches import make_batch
from orchestrator.training.gradient import GradientRun
from orchestrator.training.optimizers import Optimizer
from orchestrator.training.seeds import seeded
from ser_models import MODELS
from ser_models.acrnn import ACRNN, CHANNELS, SLOPE
from ser_models.sequences import Output, Padded
from ser_models.ssa_crnn import SSACRNN

Telling = Callable[[Dataset], Dataset]


def mark_speakers(dataset: Dataset) -> Dataset:
    """Write the speaker into every frame: add 3 to one static band of each speaker.

    The bands have deviation 1. Those of ten speakers are four bands apart.
    """
    bands, names = dataset.dims // CHANNELS, sorted(set(dataset.speakers))
    frames = np.array(dataset.frames)
    for row, speaker in enumerate(dataset.speakers):
        begin, end = dataset.offsets[row : row + 2]
        frames[begin:end, names.index(speaker) * bands // len(names)] += 3
    return replace(dataset, frames=frames)


def number_speakers(dataset: Dataset) -> Dataset:
    """Add a column with the number of the speaker, which `SpeakerJoined` takes off again."""
    names = sorted(set(dataset.speakers))
    numbers = np.asarray([names.index(speaker) for speaker in dataset.speakers], np.float32)
    column = np.repeat(numbers, np.diff(dataset.offsets))
    return replace(dataset, frames=np.column_stack([dataset.frames, column]))


class SpeakerJoined(ACRNN):
    """ACRNN-r that joins a learned vector of the true speaker to its pooled states.

    The vector (d) stands in the place of the pooled states of SSA-CRNN-r's speaker encoder: beside
    the pooled states of the emotion encoder (d), before the layer of the embedding.

    dims : columns of a frame with the one of `number_speakers`
    speakers : all speakers of the corpus; each must be in the training part
    """

    def __init__(self, dims: int, classes: int, speakers: int, **hyperparameters: Any) -> None:
        super().__init__(dims - 1, classes, **hyperparameters)
        size, embedding_size = self.projection.in_features, self.projection.out_features
        self.speakers = nn.Embedding(speakers, size)
        self.projection = nn.Linear(2 * size, embedding_size)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        speaker = current.values[:, 0, -1].long()  # the first frame is never padding
        states, mask = self.encoder(Padded(current.values[:, :, :-1], current.lengths))
        pooled, attention = self.pooling(states, mask)
        joined = torch.cat([pooled, self.speakers(speaker)], dim=1)  # (batch, 2 * d)
        embedding = nn.functional.leaky_relu(self.projection(joined), SLOPE)
        logits, penalty = self.output(self.dropout(embedding))
        return Output(logits, embedding, {"current": attention}, penalty=penalty)


def train_speaker_first(run: GradientRun, epochs: int) -> None:
    """Train the speaker classifier of SSA-CRNN-r alone, before the first epoch of both networks.

    The SSA-CRNN paper: "The first is … trained for SR. The second … is trained (along with C_sp)".
    """
    model = run.model
    assert isinstance(model, SSACRNN)
    parameters = [p for name, p in model.named_parameters() if name.startswith("speaker_")]
    rate = run.training.learning_rate
    optimizer = Optimizer(run.training.optimizer, [(parameters, 0.0)], rate)
    model.train()
    for run.epoch in range(-epochs, 0):  # batches and dropout are not those of a later epoch
        with seeded(run.device, run.training.seed, run.fold.name, run.epoch):
            for rows in map(run.pieces.take, run._batches()):
                model.zero_grad(set_to_none=False)
                batch = make_batch(run.dataset, rows)
                output = model(batch.current)
                speakers = torch.from_numpy(run.speaker_of[rows.rows])
                loss = model.extra_loss(output, batch.labels, speakers)
                (loss / len(speakers)).backward()
                optimizer.step()
    run.epoch = 0


def register_speaker_joined(sizes: dict[str, Any]) -> dict[str, Any]:
    """Add the model `acrnn_r_joined`, with `sizes`, and return its section `model`."""
    entry = MODELS["acrnn_r"]._replace(network=SpeakerJoined, fixed=sizes)
    MODELS["acrnn_r_joined"] = entry
    return {"name": "acrnn_r_joined"}
