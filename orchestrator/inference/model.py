"""Loads the networks of a trial, with everything that turns speech into posteriors."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load as tensors_of
from torch import nn

from features.sets import FeatureConfig
from features.signal import SAMPLE_RATE, prepare
from features.statistics import Statistics
from features.storage import Storage
from orchestrator.config import registry
from orchestrator.config.parsing import parse_stored
from orchestrator.config.sections import Configuration, ModelConfig
from orchestrator.errors import ConfigError, FeatureError, translated
from orchestrator.inference.feature_files import check_contents, check_given, contents_of
from orchestrator.inference.speakers import SpeakerStatistics, speaker_statistics
from orchestrator.ledger.ledger import Ledger, unusable
from orchestrator.ledger.records import TrialRecord
from orchestrator.ledger.seals import sha256
from orchestrator.results.opened import OpenedSweep
from orchestrator.training.checkpoints import file_name
from orchestrator.training.fold_run import build_network
from ser_models import Sizes
from ser_models.base import EmotionModel
from ser_models.sequences import Output, Padded

Samples = npt.NDArray[np.floating]


class Member(NamedTuple):
    """One network of a model.

    speakers : number of its training speakers
    """

    network: EmotionModel
    speakers: int


class Description(NamedTuple):
    """All that decides a model's networks and their input.

    name : the sweep
    trial : the id of the trial
    model, features : sections of the configuration
    classes : in the order of the posteriors
    seed : of random context turns
    refit : whether the networks trained on all labelled utterances
    """

    name: str
    trial: str
    model: ModelConfig
    features: FeatureConfig
    classes: tuple[str, ...]
    seed: int
    refit: bool = False

    def sizes(self, speakers: int) -> Sizes:
        """The sizes of a network with this number of training speakers."""
        chosen, segment = self.features.load(), self.features.cut or 1
        return Sizes(chosen.dims, len(self.classes), speakers, segment, chosen.groups)

    def network(self, speakers: int) -> EmotionModel:
        """The network with fresh weights."""
        return build_network(self.model, self.features, self.sizes(speakers))


class SpeechModel(EmotionModel):
    """The networks of a trial, whose posteriors are averaged. `predict` takes speech itself.

    description : the networks and their input
    networks : fold -> network
    speakers : fold -> number of its training speakers
    typical_speakers : returns, for each fold, the typical training speaker
        (`orchestrator.inference.speakers`). Called only if a speaker has little audio

    Shapes
    ------
    returns : Output with logits (batch, classes) float64, the logarithm of the mean of the folds'
        posteriors; an embedding (batch, folds * embedding), the folds' embeddings side by side; and
        no attention. With one network: the output of this network
    """

    def __init__(
        self,
        description: Description,
        members: Mapping[str, Member],
        typical_speakers: Callable[[], Mapping[str, Statistics]],
    ) -> None:
        super().__init__()
        self.description = description
        self.networks = {name: member.network for name, member in members.items()}
        self.speakers = {name: member.speakers for name, member in members.items()}
        self.members = nn.ModuleList(self.networks.values())  # so that `to` and `eval` reach them
        self._typical_speakers = typical_speakers

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None
    ) -> Output:
        outputs = [network(current, own, other) for network in self.networks.values()]
        if len(outputs) == 1:
            return outputs[0]
        logarithms = torch.stack([out.logits.double().log_softmax(dim=1) for out in outputs])
        logits = logarithms.logsumexp(dim=0) - math.log(len(outputs))
        return Output(logits, torch.cat([out.embedding for out in outputs], dim=1), {})

    @property
    def classes(self) -> tuple[str, ...]:
        """The emotions, in the order of the posteriors."""
        return self.description.classes

    @cached_property
    def typical_speakers(self) -> Mapping[str, Statistics]:
        """The typical training speaker of each fold."""
        return self._typical_speakers()

    @translated()
    def extract(self, samples: Samples, rate: int) -> npt.NDArray[np.float32]:
        """The features of an utterance, (frames, dims), as extracted.

        samples : (n,) float, mono, in -1..1
        rate : Hz

        Raises FeatureError for a signal that cannot be used.
        """
        try:
            return self.description.features.load().extract(samples, rate)
        except ValueError as error:
            raise FeatureError(str(error)) from error

    def speaker(self, recordings: Sequence[Samples], rate: int) -> SpeakerStatistics:
        """The statistics of a speaker, for `predict`. Give all recordings that you have.

        recordings : (n,) float each, mono, in -1..1
        rate : Hz
        """
        values = [self.extract(samples, rate) for samples in recordings]
        return speaker_statistics(values, sum(map(len, recordings)) / rate)

    def predict(
        self, samples: Samples, rate: int, speaker: SpeakerStatistics | None = None
    ) -> dict[str, float]:
        """The posterior of each class for one utterance, without context turns.

        samples : (n,) float, mono, in -1..1; at least 30 ms
        rate : Hz
        speaker : for a model that normalises by speaker. By default, this utterance is all that is
            known of the speaker, and short statistics are shrunk

        >>> model = load_model("exported")
        >>> model.predict(samples, 16_000)
        {'ang': 0.11, 'hap': 0.06, 'neu': 0.71, 'sad': 0.12}

        Raises FeatureError for a signal that cannot be used.
        """
        from orchestrator.inference.predict import Utterance, log_posteriors

        if rate != SAMPLE_RATE:
            try:
                samples, rate = prepare(samples, rate), SAMPLE_RATE
            except ValueError as error:
                raise FeatureError(str(error)) from error
        utterance = Utterance(self.extract(samples, rate), len(samples) / rate, "")
        known = {} if speaker is None else {"": speaker}
        posterior = np.exp(log_posteriors(self, [utterance], known)[0])
        return dict(zip(self.classes, posterior.tolist(), strict=True))


@translated()
def load_model(
    sweep: OpenedSweep | str,
    trial: str | None = None,
    fold: str | None = None,
    refit: bool = False,
    features: Mapping[str, str] | None = None,
    trust: Sequence[str] = (),
) -> SpeechModel:
    """Rebuild a trial's networks with their selected weights, on the CPU, in evaluation mode.

    sweep : an opened sweep, its folder or URI, or a folder that `ser export` wrote
    trial : the id of a trial with a score; by default the best trial
    fold : the name of a fold; by default the ensemble of all folds
    refit : use the networks that `ser refit` trained on all labelled utterances: the mean over
        their seeds. Their names are `seed-0` and so on
    features : options that name files, as in `{"encoder": "folder"}`. A folder of `ser export`
        needs them, because its own paths are not used. For a sweep, they replace the sweep's
    trust : names of your own code (`my_models:MyNet`) that the sweep may import in this process

    >>> model = load_model("runs/iaan-loso", fold="Ses01")
    >>> model(current, own, other).logits.softmax(dim=1)

    The inputs are `ser_models.sequences.Padded`, with the features and the normalisation of the
    sweep. With `features.normalize: train`, the inputs are features as extracted. The network then
    has the mean and deviation of its fold's training part, and computes z-scores itself. `predict`
    takes samples.

    Raises ConfigError if the trial, the fold or the refit does not exist, if `features` has
    another key or lacks one, or if the sweep names code that is not allowed; FeatureError if the
    files of the features are missing, or not those of training; LedgerError if the weights are
    damaged.
    """
    given = dict(features or {})
    if refit and fold is not None:
        raise ConfigError(f"a refit has no fold {fold!r}. Give a fold, or take the refit")
    if isinstance(sweep, str):
        folder = Storage.open(sweep)
        if folder.exists("model.json"):
            return _exported(folder, trial, fold, refit, given, trust)
        sweep = OpenedSweep(Ledger(folder))
    record = sweep.trial(trial)
    names = [audit.name for audit in sweep.record.audit.folds]
    if fold is not None and fold not in names:
        known = ", ".join(names)
        raise ConfigError(f"sweep {sweep.name} has no fold {fold!r}; its folds: {known}")
    registry.allow(trust)
    configuration = parse_stored(sweep.record.configuration).with_values(record.hyperparameters)
    check_given(configuration.features, given)
    trained = contents_of(sweep.record, configuration.features)
    configuration = configuration.with_values({f"features.{k}": v for k, v in given.items()})
    check_contents(configuration.features, trained, sweep.name)
    description = Description(
        sweep.name,
        record.id,
        configuration.model,
        configuration.features,
        tuple(sweep.record.classes),
        configuration.training.seed,
        refit,
    )
    if refit:
        return _refitted(sweep, configuration, description)
    training = {
        audit.name: list(audit.parts["train"].speakers) for audit in sweep.record.audit.folds
    }
    members = {}
    for name in names if fold is None else [fold]:
        speakers = len(training[name])
        network = _network(sweep, record, description, name, speakers)
        members[name] = Member(network, speakers)
    chosen = {name: training[name] for name in members}
    return SpeechModel(description, members, lambda: _typical(sweep, configuration, chosen)).eval()


def _refitted(
    sweep: OpenedSweep, configuration: Configuration, description: Description
) -> SpeechModel:
    """The networks that trained on all labelled utterances, one for each seed."""
    from orchestrator.inference.refit import open_refits

    members = {}
    for record, weights in open_refits(sweep, description.trial):
        network = description.network(record.speakers)
        network.load_state_dict(weights)
        members[f"seed-{record.seed}"] = Member(network, record.speakers)
    audited = [part for audit in sweep.record.audit.folds for part in audit.parts.values()]
    speakers = sorted({name for part in audited for name in part.speakers})

    def typical() -> dict[str, Statistics]:
        (one,) = _typical(sweep, configuration, {"all": speakers}).values()
        return dict.fromkeys(members, one)

    return SpeechModel(description, members, typical).eval()


def _exported(
    folder: Storage,
    trial: str | None,
    fold: str | None,
    refit: bool,
    given: Mapping[str, str],
    trust: Sequence[str],
) -> SpeechModel:
    """The model of a folder that `ser export` wrote, or one of its networks."""
    from orchestrator.inference.exported import read_model

    registry.allow(trust)
    model = read_model(folder, given)
    if refit and not model.description.refit:
        raise ConfigError(f"{folder.root} has networks of folds. Export it again with --refit")
    if trial is not None and trial != model.description.trial:
        raise ConfigError(f"{folder.root} has the trial {model.description.trial}, not {trial!r}")
    if fold is None:
        return model
    if fold not in model.networks:
        known = ", ".join(model.networks)
        raise ConfigError(f"{folder.root} has no fold {fold!r}; its folds: {known}")
    member = Member(model.networks[fold], model.speakers[fold])
    return SpeechModel(model.description, {fold: member}, lambda: model.typical_speakers).eval()


def _network(
    sweep: OpenedSweep, record: TrialRecord, description: Description, fold: str, speakers: int
) -> EmotionModel:
    folder, name = sweep.ledger.trial_storage(record.id), file_name(fold)
    try:
        data = folder.read(name)
        if sha256(data) != record.files.get(name):
            raise ValueError("its SHA-256 is not the recorded one")
    except (FileNotFoundError, ValueError) as error:
        raise unusable(folder, name, error) from error
    network = description.network(speakers)
    network.load_state_dict(tensors_of(data))
    return network


def _typical(
    sweep: OpenedSweep, configuration: Configuration, training: Mapping[str, Sequence[str]]
) -> dict[str, Statistics]:
    """The typical training speaker of each fold, from the corpus and the feature store."""
    from orchestrator.inference.corpus import typical_speakers

    return typical_speakers(sweep.ledger, configuration, training)
