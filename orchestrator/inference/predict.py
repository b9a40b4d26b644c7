"""The posteriors of utterances: normalised by speaker, with context turns, by all networks."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from features.context import Turns, random_turns, turns_before
from features.sets import FeatureConfig
from features.source import pool
from features.statistics import Statistics, merge, normalise, share
from orchestrator.config import registry
from orchestrator.data.dataset import Dataset
from orchestrator.inference.model import SpeechModel
from orchestrator.inference.speakers import SpeakerStatistics, entry_of, shrunk
from orchestrator.training import evaluation
from ser_models.base import EmotionModel


@dataclass(frozen=True)
class Utterance:
    """One utterance, with the features of its audio.

    values : (frames, dims) float32, as extracted
    seconds : of audio
    speaker : utterances of one speaker share statistics
    id : decides the order in which a speaker's utterances are summed
    """

    values: npt.NDArray[np.float32]
    seconds: float
    speaker: str
    id: str = ""


def speakers_of(utterances: Sequence[Utterance]) -> dict[str, SpeakerStatistics]:
    """The statistics of each speaker, from all utterances of the speaker.

    They have the bits of the feature store's, if the store has the same utterances.
    """
    members: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in sorted(utterances, key=lambda utterance: utterance.id):
        members[utterance.speaker].append(utterance)
    return {
        speaker: SpeakerStatistics(
            merge([entry_of(utterance.values) for utterance in said]),
            sum(utterance.seconds for utterance in said),
            len(said),
        )
        for speaker, said in members.items()
    }


class Use(NamedTuple):
    """How the features of an utterance are normalised.

    statistics : `speaker`, `shrunk` (less than 10 s of the speaker), `training` (those of the
        training part, inside the network) or `none`
    weight : share of the speaker's own statistics; None if no statistics of speakers are used
    """

    statistics: str
    weight: float | None = None


def use_of(model: SpeechModel, speaker: SpeakerStatistics) -> Use:
    """How the model normalises the utterances of this speaker."""
    features = model.description.features
    if features.group is None:
        return Use("training" if features.normalize == "train" else "none")
    weight = speaker.weight(_vectors(model))
    return Use("speaker" if weight >= 1 else "shrunk", weight)


def _vectors(model: SpeechModel) -> bool:
    """Whether each utterance gives one vector."""
    return model.description.features.load().shape == "vector"


def log_posteriors(
    model: SpeechModel,
    utterances: Sequence[Utterance],
    speakers: Mapping[str, SpeakerStatistics] = {},
    context: tuple[Turns, Turns] | None = None,
) -> npt.NDArray[np.float64]:
    """The logarithms of the posteriors, (utterances, classes): those of the networks' mean.

    speakers : statistics of speakers; by default those of their utterances here
    context : `context_of` the utterances; by default they have no context turns

    On a CPU, the test part of a fold gets the bits that the trial recorded.
    """
    known = {**speakers_of(utterances), **speakers}
    uses = {name: use_of(model, statistics) for name, statistics in known.items()}
    alike = all(use.weight is None or use.weight >= 1 for use in uses.values())
    turns = context or (Turns.none(len(utterances)),) * 2
    shared: Dataset | None = None
    logarithms = []
    with one_thread():
        for name, network in model.networks.items():
            if shared is None or not alike:
                prior = None if alike else model.typical_speakers[name]
                ready = {
                    speaker: _ready(statistics, prior, uses[speaker], model.description.features)
                    for speaker, statistics in known.items()
                }
                shared = _dataset(model, utterances, ready, turns)
            logarithms.append(_of_network(network, shared))
    if len(logarithms) == 1:
        return logarithms[0]
    return np.logaddexp.reduce(logarithms, axis=0) - np.log(len(logarithms))


def _ready(
    speaker: SpeakerStatistics, prior: Statistics | None, use: Use, features: FeatureConfig
) -> Statistics | None:
    """The statistics that normalise a speaker's frames; None if they stay as they are."""
    if features.group is None:
        return None
    own = speaker.own
    if prior is not None and use.weight is not None:
        own = shrunk(own, prior, use.weight)
    return share(own, features.group)


def prepared(
    values: npt.NDArray[np.float32], features: FeatureConfig, statistics: Statistics | None
) -> npt.NDArray[np.float32]:
    """Cut, normalise and pool the features of an utterance, as the feature store does."""
    frames: npt.NDArray[np.floating] = values[: features.cap]
    if statistics is not None:
        frames = normalise(frames, statistics.mean, statistics.deviation)
    return pool(frames, features.pooling).astype(np.float32, copy=False)


def context_of(
    model: SpeechModel,
    speakers: Sequence[str],
    dialogues: Sequence[str | None],
    turns: Sequence[int | None],
) -> tuple[Turns, Turns]:
    """The context turns of the same and of other speakers that the model reads, as rows."""
    context = registry.model(model.description.model.name).context
    if context.kind == "random":
        return random_turns(dialogues, turns, model.description.seed)
    if context.kind == "before":
        return turns_before(speakers, dialogues, turns, context.window, context.most)
    return (Turns.none(len(speakers)),) * 2


def _dataset(
    model: SpeechModel,
    utterances: Sequence[Utterance],
    ready: Mapping[str, Statistics | None],
    context: tuple[Turns, Turns],
) -> Dataset:
    features = model.description.features
    frames = [prepared(one.values, features, ready[one.speaker]) for one in utterances]
    count = len(utterances)
    return Dataset(
        frames=np.concatenate(frames),
        offsets=np.concatenate([[0], np.cumsum([*map(len, frames)])]).astype(np.int64),
        segment=features.cut,
        labels=np.full(count, -1, dtype=np.int64),
        own=context[0],
        other=context[1],
        previous=np.full((2, count), -1, dtype=np.int64),
        ids=[utterance.id for utterance in utterances],
        speakers=[utterance.speaker for utterance in utterances],
        classes=model.classes,
        groups=model.description.features.load().groups,
    )


def _of_network(network: EmotionModel, dataset: Dataset) -> npt.NDArray[np.float64]:
    rows = np.arange(len(dataset.ids))
    device = next(network.parameters()).device
    batches = evaluation.outputs(network, dataset, rows, device)
    return evaluation.log_posteriors(dataset, rows, batches).numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread, as in a worker on a CPU: the order of sums changes the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
