"""Loads the networks of a trial."""

import math

import torch
from safetensors.torch import load as tensors_of
from torch import nn

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.errors import ConfigError, translated
from orchestrator.ledger.ledger import Ledger, unusable
from orchestrator.ledger.records import TrialRecord
from orchestrator.ledger.seals import sha256
from orchestrator.results.opened import OpenedSweep
from orchestrator.training.checkpoints import file_name
from orchestrator.training.fold_run import build_model
from ser_models import Sizes
from ser_models.base import EmotionModel
from ser_models.sequences import Output, Padded


class FoldEnsemble(EmotionModel):
    """The networks of all folds of a trial, whose posteriors are averaged.

    networks : fold -> network

    Shapes
    ------
    returns : Output with logits (batch, classes) float64, the logarithm of the mean of the folds'
        posteriors; an embedding (batch, folds * embedding), the folds' embeddings side by side; and
        no attention
    """

    def __init__(self, networks: dict[str, EmotionModel]) -> None:
        super().__init__()
        self.networks = networks
        self.members = nn.ModuleList(networks.values())  # so that `to` and `eval` reach them

    def forward(
        self, current: Padded, own: Padded | None = None, other: Padded | None = None
    ) -> Output:
        outputs = [network(current, own, other) for network in self.networks.values()]
        logarithms = torch.stack([out.logits.double().log_softmax(dim=1) for out in outputs])
        logits = logarithms.logsumexp(dim=0) - math.log(len(outputs))
        return Output(logits, torch.cat([out.embedding for out in outputs], dim=1), {})


@translated()
def load_model(
    sweep: OpenedSweep | str, trial: str | None = None, fold: str | None = None
) -> EmotionModel:
    """Rebuild a trial's network with its selected weights, on the CPU, in evaluation mode.

    sweep : an opened sweep, or its folder or URI
    trial : the id of a trial with a score; by default the best trial
    fold : the name of a fold; by default the ensemble of all folds (`FoldEnsemble`)

    >>> model = load_model("runs/iaan-loso", fold="Ses01")
    >>> model(current, own, other).logits.softmax(dim=1)

    The inputs are `ser_models.sequences.Padded`, with the features and the normalisation of the
    sweep. With `features.normalize: train`, the inputs are features as extracted. The network then
    has the mean and deviation of its fold's training part, and computes z-scores itself.

    Raises ConfigError if the trial or the fold does not exist, LedgerError if the weights are
    damaged.
    """
    if isinstance(sweep, str):
        sweep = OpenedSweep(Ledger(Storage.open(sweep)))
    record = sweep.trial(trial)
    names = [audit.name for audit in sweep.record.audit.folds]
    if fold is None:
        return FoldEnsemble({name: _network(sweep, record, name) for name in names}).eval()
    if fold not in names:
        known = ", ".join(names)
        raise ConfigError(f"sweep {sweep.name} has no fold {fold!r}; its folds: {known}")
    return _network(sweep, record, fold)


def _network(sweep: OpenedSweep, record: TrialRecord, fold: str) -> EmotionModel:
    configuration = parse(sweep.record.configuration).with_values(record.hyperparameters)
    features = configuration.features
    counts = next(audit for audit in sweep.record.audit.folds if audit.name == fold)
    classes, speakers = len(sweep.record.classes), len(counts.parts["train"].speakers)
    feature_set = features.load()
    sizes = Sizes(feature_set.dims, classes, speakers, features.cut or 1, feature_set.groups)
    folder, name = sweep.ledger.trial_storage(record.id), file_name(fold)
    try:
        data = folder.read(name)
        if sha256(data) != record.files.get(name):
            raise ValueError("its SHA-256 is not the recorded one")
    except (FileNotFoundError, ValueError) as error:
        raise unusable(folder, name, error) from error
    network = build_model(configuration, sizes)
    network.load_state_dict(tensors_of(data))
    return network.eval()
