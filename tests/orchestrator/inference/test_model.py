"""Networks that are loaded from a trial give the posteriors that the trial recorded."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from features.statistics import Statistics
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.audit import audit
from orchestrator.data.dataset import Dataset, Indices
from orchestrator.data.folds import Fold
from orchestrator.errors import ConfigError, LedgerError
from orchestrator.inference.model import SpeechModel, load_model
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, SweepRecord
from orchestrator.results.opened import OpenedSweep
from orchestrator.training.batches import make_batch
from orchestrator.training.runs import fold_run
from ser_models.base import EmotionModel
from tests.support.made_sweep import sweep_fields
from tests.support.training import TRIAL, cross_validated, in_form, with_model

Trained = tuple[Path, Dataset, Configuration]


NOTHING = Statistics(0, np.zeros(1), np.ones(1))


def trained(
    folder: Path,
    model: str,
    table: pa.Table,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
    normalize: str = "none",
) -> Trained:
    """Train a trial of a sweep that searches another size and another learning rate."""
    resolved = with_model(configuration, model).resolved()
    resolved["features"]["normalize"] = normalize
    if "segment" in resolved["features"]:
        resolved["features"]["segment"] = 8
    config = parse(resolved)
    dims = config.features.load().dims
    data = in_form(model, dataset)
    frames = np.resize(data.frames.T, (dims, len(data.frames))).T
    data = dataclasses.replace(data, frames=frames.copy(), segment=config.features.cut)
    if normalize == "train":
        data = dataclasses.replace(data, statistics={f.name: statistics(data, f) for f in folds})
    record, _ = cross_validated(folder, data, folds, config)
    assert record.status == "complete"

    search = {"space": "iaan", "trials": 1}
    keys = {"c": 0.5, "linear_size": 20, "attention_size": 20, "local_size": 20, "hidden_size": 20}
    key = next(key for key in keys if key in resolved["model"])
    searched = {f"model.{key}": resolved["model"][key]}
    base = config.with_values({f"model.{key}": keys[key], "search": search})
    ledger = Ledger(Storage.open(str(folder)))
    ledger.write_proposal(Proposal(number=0, trial=record.id, hyperparameters=searched))
    ledger.write_trial(record.model_copy(update={"hyperparameters": searched}))
    rows = (data.labels, data.classes, folds, data.own, data.other, config.folds)
    fields = sweep_fields("toy", "validation", list(data.classes), {}, 1)
    fields |= {"configuration": base.resolved(), "audit": audit(table, *rows)}
    ledger.write_sweep(SweepRecord.model_validate(fields))
    return folder, data, config


@pytest.fixture
def iaan(
    tmp_path: Path,
    table: pa.Table,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
) -> Trained:
    return trained(tmp_path, "iaan", table, dataset, folds, configuration)


def recorded(folder: Path, fold: str) -> NDArray[np.float64]:
    """The posteriors in predictions.parquet, (utterances, classes)."""
    table = Ledger(Storage.open(str(folder))).predictions(TRIAL)
    names = [name for name in table.column_names if name.startswith("posterior_")]
    return np.asarray([[r[n] for n in names] for r in table.to_pylist() if r["fold"] == fold])


def posteriors(
    network: EmotionModel, fold: Fold, data: Dataset, config: Configuration
) -> NDArray[np.float64]:
    run = fold_run(fold, data, config)
    run.model = network
    return run.predict(np.sort(fold.test)).exp().numpy()


def statistics(data: Dataset, fold: Fold) -> Statistics:
    """Over the training part."""
    frames = np.concatenate(
        [data.frames[data.offsets[row] : data.offsets[row + 1]] for row in fold.train]
    )
    return Statistics(len(frames), frames.mean(0, np.float64), frames.std(0, np.float64))


@pytest.mark.parametrize("normalize", ["none", "train"])
@pytest.mark.parametrize(
    "model", ["iaan", "ssa_crnn_r", "adrnn", "linear_svm", "svm_trees", "mdnn", "cmn"]
)
def test_a_loaded_fold_gives_the_recorded_posteriors(
    normalize: str,
    model: str,
    tmp_path: Path,
    table: pa.Table,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
) -> None:
    folder, data, config = trained(tmp_path, model, table, dataset, folds, configuration, normalize)
    data = dataclasses.replace(data, statistics=dict.fromkeys(data.statistics, NOTHING))
    for fold in folds:
        network = load_model(str(folder), fold=fold.name)
        assert not network.training
        computed = posteriors(network, fold, data, config)
        np.testing.assert_array_equal(computed, recorded(folder, fold.name))


def test_the_ensemble_averages_the_posteriors_of_the_folds(
    iaan: Trained, folds: list[Fold]
) -> None:
    folder, data, _ = iaan
    sweep = OpenedSweep(Ledger(Storage.open(str(folder))))
    ensemble = load_model(sweep, TRIAL)
    assert isinstance(ensemble, SpeechModel)
    assert list(ensemble.networks) == [fold.name for fold in folds]
    assert not any(module.training for module in ensemble.modules())
    rows: Indices = folds[0].test[:5]
    batch = make_batch(data, data.pieces(rows))
    with torch.no_grad():
        output = ensemble(batch.current, batch.own, batch.other)
        mean = sum(
            network(batch.current, batch.own, batch.other).logits.double().softmax(1)
            for network in ensemble.networks.values()
        ) / len(folds)
    torch.testing.assert_close(output.logits.exp(), mean)
    assert output.logits.shape == (5, 4)


def test_an_ensemble_moves_and_trains_with_its_networks(iaan: Trained) -> None:
    ensemble = load_model(str(iaan[0]))
    assert isinstance(ensemble, SpeechModel)
    ensemble.double().train()
    for network in ensemble.networks.values():
        assert network.training
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}


def test_unknown_names_and_damaged_weights_are_refused(iaan: Trained) -> None:
    folder, _, _ = iaan
    with pytest.raises(ConfigError, match=r"toy has no fold 's9'; its folds: s0, s1, s2"):
        load_model(str(folder), fold="s9")
    with pytest.raises(ConfigError, match=f"has no trial 'ffffffffff'; finished trials: {TRIAL}"):
        load_model(str(folder), "ffffffffff")
    weights = folder / f"trials/{TRIAL}/fold-s1.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert load_model(str(folder), fold="s0")
    with pytest.raises(LedgerError, match=r"fold-s1\.safetensors cannot be used: its SHA-256"):
        load_model(str(folder), fold="s1")
    weights.unlink()
    with pytest.raises(LedgerError, match=r"fold-s1\.safetensors cannot be used: .*No such file"):
        load_model(str(folder))
