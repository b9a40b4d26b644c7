"""Trains one configuration of a sweep on all labelled utterances, without any test part.

A refit has no score of its own. Its honest score is the nested estimate of the sweep, which says
how well the search's choice works on speech that did not train.

    <sweep>/refits/<trial>/seed-<n>/refit.json            the record, written last
    <sweep>/refits/<trial>/seed-<n>/fold-all.safetensors  the weights
    <sweep>/refits/<trial>/seed-<n>/checkpoint-<epoch>/   while it trains

On a CPU, the same seed gives the same bits. A finished refit is not trained again.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors.torch import load as tensors_of
from torch import Tensor

from features.extract import extract
from features.storage import Storage
from orchestrator.config import registry
from orchestrator.config.parsing import parse_stored
from orchestrator.config.sections import Configuration, GradientTraining
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.data.prepare import plan_folds, prepare
from orchestrator.errors import ConfigError, LedgerError, SerError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Digest, FileName, Record, TrialId, TrialRecord
from orchestrator.ledger.seals import seal, sha256, unseal
from orchestrator.results.opened import OpenedSweep
from orchestrator.training import checkpoints
from orchestrator.training.checkpoints import Checkpoint
from orchestrator.training.fitted import FitRun
from orchestrator.training.fold_run import FoldRun, Replica, Row, TrainingError
from orchestrator.training.gradient import GradientRun
from orchestrator.training.state import StateError

WHOLE = "all"
"""The name of the only part: all labelled utterances train."""
RECORD = "refit.json"


class RefitRecord(Record):
    """A finished refit.

    epochs : number of trained epochs: the median over folds of the selected epochs
    speakers : number of training speakers, which decides the size of some networks
    files : SHA-256 of the weights
    """

    trial: TrialId
    seed: int = Field(ge=0, lt=2**63)
    epochs: int = Field(ge=1)
    utterances: int = Field(ge=1)
    speakers: int = Field(ge=1)
    fingerprint: str
    seconds: float
    files: dict[FileName, Digest]


class Refit(NamedTuple):
    """A finished refit with its weights, by the names of the network's tensors."""

    record: RefitRecord
    weights: dict[str, Tensor]


@dataclass
class _Gradient(GradientRun):
    """A network that trains a fixed number of epochs."""

    def train_epoch(self) -> list[Row]:
        return _trained(self, self._train)


@dataclass
class _Fitted(FitRun):
    """A model that is fitted in one step."""

    def train_epoch(self) -> list[Row]:
        return _trained(self, self._train)


def _trained(run: FoldRun, train: Callable[[], Row]) -> list[Row]:
    """Train an epoch. No part selects, so the newest weights are the ones to keep."""
    run.epoch += 1
    run.model.train()
    row = train()
    run.best_epoch = run.epoch
    run.best_weights = {name: t.detach().clone() for name, t in run.model.state_dict().items()}
    return [row]


def refit_epochs(sweep: OpenedSweep, trial: TrialRecord) -> int:
    """The median over folds of the selected epochs. A median between two epochs is rounded up,
    which is our choice.
    """
    rows = sweep.ledger.folds(trial.id).to_pylist()
    epochs = {row["fold"]: row["epoch"] for row in rows if row["selected"]}
    return -int(-statistics.median(epochs.values()) // 1)


def refit(
    sweep: OpenedSweep,
    trial: str | None = None,
    seeds: int = 1,
    overrides: dict[str, Any] | None = None,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
    trust: Sequence[str] = (),
) -> list[RefitRecord]:
    """Train a trial's configuration on all labelled utterances, once for each seed.

    trial : the id of a trial with a score; by default the best trial
    seeds : number of seeds: that of the sweep, and those that follow it
    overrides : `storage` and `corpus.root`, if the recordings or the features have moved
    progress : gets a name, and the number of epochs done and to do
    trust : as in `orchestrator.load_model`

    Raises ConfigError if the trial does not exist, or if the corpus is not the sweep's;
    SerError if the training fails.
    """
    record = sweep.trial(trial)
    registry.allow(trust)
    base = parse_stored(sweep.record.configuration).with_values(
        {**record.hyperparameters, **(overrides or {})}
    )
    first = base.training.seed
    wanted = range(first, first + seeds)
    found = {done.seed: done for done in refits(sweep, record.id)}
    if all(seed in found for seed in wanted):
        return [found[seed] for seed in wanted]
    dataset, fold = refit_data(base, sweep.record.fingerprint)
    epochs = refit_epochs(sweep, record)
    return [
        found.get(seed) or train_refit(sweep, record, base, dataset, fold, seed, epochs, progress)
        for seed in wanted
    ]


def refit_data(configuration: Configuration, fingerprint: str) -> tuple[Dataset, Fold]:
    """The data of the sweep, and the fold in which all labelled utterances train."""
    storage = Storage.open(configuration.storage)
    prepared = prepare(plan_folds(configuration), storage, lambda done, total, error: None)
    if prepared.fingerprint != fingerprint:
        raise ConfigError(
            "corpus.root: the recordings, labels or features are not those of the sweep. Restore "
            "them, or start a new sweep"
        )
    dataset = prepared.dataset
    none = np.empty(0, dtype=np.int64)
    fold = Fold(WHOLE, np.flatnonzero(dataset.labels >= 0), none, none)
    if configuration.features.normalize == "train":
        manifest = plan_folds(configuration).corpus.manifest
        store = extract(manifest, configuration.features, storage.child("features"))
        parts = {WHOLE: [dataset.ids[row] for row in fold.train]}
        dataset = replace(dataset, statistics=store.statistics(parts))
    return dataset, fold


def train_refit(
    sweep: OpenedSweep,
    trial: TrialRecord,
    base: Configuration,
    dataset: Dataset,
    fold: Fold,
    seed: int,
    epochs: int,
    progress: Callable[[str, int, int], None],
) -> RefitRecord:
    """Train with one seed to the end, or resume. Writes and returns the record."""
    folder = _folder(sweep.ledger, trial.id, seed)
    config = base.with_values({"training.seed": seed})
    kind = _Gradient if isinstance(config.training, GradientTraining) else _Fitted
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the number of threads changes the order of sums, and so the bits
    try:
        run = kind(fold, dataset, config, device, Replica())
        start = _restored(folder, run)
        history, curve, before = start.history, start.curve, start.seconds
        began = saved = time.monotonic()
        while run.epoch < epochs:
            history = history + run.train_epoch()
            curve = [*curve, history[-1]["ua"]]
            progress(f"refit, seed {seed}", run.epoch, epochs)
            if time.monotonic() - saved >= config.training.checkpoint_every:
                seconds = before + time.monotonic() - began
                files = checkpoints.write_state(folder, run.epoch, run)
                checkpoints.commit(folder, Checkpoint(history, curve, seconds), files)
                saved = time.monotonic()
        files = checkpoints.write_weights(folder, run)
    except TrainingError as error:
        raise SerError(f"the refit of trial {trial.id} with seed {seed} failed: {error}") from None
    finally:
        torch.set_num_threads(threads)
    done = RefitRecord(
        trial=trial.id,
        seed=seed,
        epochs=epochs,
        utterances=len(fold.train),
        speakers=len({dataset.speakers[row] for row in fold.train}),
        fingerprint=sweep.record.fingerprint,
        seconds=round(before + time.monotonic() - began, 3),
        files=files,
    )
    folder.write(RECORD, seal(done.model_dump()))
    checkpoints.delete_all(folder)
    return done


def _restored(folder: Storage, run: FoldRun) -> Checkpoint:
    """Load the newest checkpoint that can be loaded, or return an empty one."""
    while (start := checkpoints.newest(folder, [WHOLE])) is not None:
        try:
            run.load_state(checkpoints.read_state(folder, start.epoch, run))
            return start
        except StateError as error:
            damaged = {checkpoints.file_name(WHOLE): str(error)}
            checkpoints.rename_damaged(folder, start.epoch, damaged)
    return Checkpoint([], [], 0.0)


def _folder(ledger: Ledger, trial: str, seed: int) -> Storage:
    ledger.trial_storage(trial)  # raises LedgerError if `trial` is not an id
    return ledger.storage.child(f"refits/{trial}/seed-{seed}")


def refits(sweep: OpenedSweep, trial: str | None = None) -> list[RefitRecord]:
    """The finished refits of a trial whose weights are whole, by seed. By default the best trial.

    A damaged refit is not in the list: `refit` trains it again.
    """
    identity = sweep.trial(trial).id
    folder = sweep.ledger.storage.child(f"refits/{identity}")
    found = []
    for name in folder.list():
        seed = name.removeprefix("seed-")
        if name.startswith("seed-") and seed.isascii() and seed.isdigit():
            record = _record(folder.child(name), identity, int(seed))
            if record is not None and _whole(folder.child(name), record):
                found.append(record)
    return sorted(found, key=lambda record: record.seed)


def _record(folder: Storage, trial: str, seed: int) -> RefitRecord | None:
    try:
        record = RefitRecord.model_validate(unseal(folder.read(RECORD)))
    except (FileNotFoundError, LedgerError, ValidationError):
        return None
    return record if (record.trial, record.seed) == (trial, seed) else None


def _whole(folder: Storage, record: RefitRecord) -> bool:
    try:
        return all(sha256(folder.read(name)) == digest for name, digest in record.files.items())
    except FileNotFoundError:
        return False


def open_refits(sweep: OpenedSweep, trial: str | None = None) -> list[Refit]:
    """The finished refits of a trial with their weights. By default the best trial.

    Raises ConfigError if there is no refit.
    """
    records = refits(sweep, trial)
    if not records:
        identity = sweep.trial(trial).id
        raise ConfigError(
            f"sweep {sweep.name} has no refit of trial {identity}. Run `ser refit` first"
        )
    name = checkpoints.file_name(WHOLE)
    return [
        Refit(r, tensors_of(_folder(sweep.ledger, r.trial, r.seed).read(name))) for r in records
    ]


def honest_score(sweep: OpenedSweep, trial: str) -> str:
    """A sentence with the score that a refit of a trial may claim."""
    scores = sweep.scores()
    nested, best = scores["nested"], scores["best"]
    if best is None or best["trial"] != trial:
        return (
            "A refit has no test part. You chose the trial, so the nested estimate does not "
            "describe this refit, and the trial's own score is optimistic if it led to the choice"
        )
    if nested is None:
        pooled = best["pooled"]["ua"]["value"]
        return (
            f"A refit has no test part, and this sweep has no nested estimate. The UA of the "
            f"cross-validated trial is {pooled:.3f}, which is optimistic"
        )
    mean = nested["mean_over_folds"]["ua"]["value"]
    return (
        f"A refit has no test part. Its honest score is the nested estimate of the sweep: UA "
        f"{nested['pooled']['ua']:.3f} pooled, {mean:.3f} mean over folds"
    )
