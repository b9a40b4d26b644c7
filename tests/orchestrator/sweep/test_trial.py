"""Trials on a real Ray: the number of workers does not change results."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ray.exceptions import RayActorError
from ray.train import WorkerGroupError
from safetensors.torch import load

from features.sets.emobase_lld45 import CONFIG_FILE
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.data.prepare import prepare
from orchestrator.errors import HopelessError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.progress import Narrator
from orchestrator.sweep.assignment import Assignment, assigned_runs
from orchestrator.sweep.check import check
from orchestrator.sweep.resources import Resources
from orchestrator.sweep.run import run
from orchestrator.sweep.trial import _run, spaced
from orchestrator.training.runs import fold_run
from tests.support.sweeps import NAME, configure, give_features, outcome, sections, ser

FOLDS = ("Ses01", "Ses02", "Ses03")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, spoken_features: Path) -> Path:
    """The folder of all sweeps of this file, which share their features."""
    made = tmp_path_factory.mktemp("trials")
    give_features(spoken_features, made / "runs")
    return made


def small(folder: Path, spoken: Path, name: str, workers: int, **changed: Any) -> Configuration:
    """One small configuration to cross-validate, unless `changed` has a search."""
    cluster = {"workers_per_trial": workers, **changed.pop("cluster", {})}
    changed = {"search": None, **changed}
    return parse(sections(folder, spoken, name=name, cluster=cluster, **changed))


def train(chosen: Configuration) -> tuple[Ledger, TrialRecord]:
    ledger = Ledger(Storage.open(chosen.storage).child(chosen.name))
    run(*check(chosen), ledger, Narrator())
    (record,) = ledger.trials()
    assert record.status == "complete", record.reason
    return ledger, record


def assert_weights_fit_predictions(
    chosen: Configuration, ledger: Ledger, record: TrialRecord
) -> None:
    """The recorded weights of each fold give its recorded predictions."""
    prepared = prepare(check(chosen)[0], Storage.open(chosen.storage), lambda *_: None)
    for fold in prepared.folds:
        restored = fold_run(fold, prepared.dataset, chosen)
        weights = ledger.trial_storage(record.id).read(f"fold-{fold.name}.safetensors")
        restored.model.load_state_dict(load(weights))
        rows = [r for r in ledger.predictions(record.id).to_pylist() if r["fold"] == fold.name]
        np.testing.assert_allclose(
            restored.predict(np.sort(fold.test)).exp().numpy(),
            [[row[f"posterior_{c}"] for c in prepared.dataset.classes] for row in rows],
            atol=1e-6,
        )


def test_reports_are_spaced() -> None:
    """The driver of many slots would otherwise do nothing but read reports."""
    all_of_them: list[int] = []
    first: list[int] = []
    for epoch, reports in enumerate([spaced(all_of_them.append, 0.0)] * 3):
        reports(epoch)
    rare = spaced(first.append, 1000.0)
    for epoch in range(3):
        rare(epoch)
    assert (all_of_them, first) == ([0, 1, 2], [0])


@pytest.mark.usefixtures("ray_cluster")
def test_the_number_of_workers_changes_no_bit(spoken: Path, folder: Path, tmp_path: Path) -> None:
    """One process trains both trials in turn, and so do the workers of one slot."""
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"parameters": {"model.hidden_size": {"choices": [8, 16]}}}))
    outcomes = []
    for workers in (1, 2):  # of three folds; the last test has the folds of each worker
        chosen = small(
            folder,
            spoken,
            f"workers-{workers}",
            workers,
            model={"dropout": 0.2},
            training={"epochs": 3},
            search={"space": str(path), "sampler": "grid", "scheduler": "none", "trials": 2},
            cluster={"concurrent_trials": 1},
        )
        ledger = Ledger(Storage.open(chosen.storage).child(chosen.name))
        run(*check(chosen), ledger, Narrator())
        assert [record.status for record in ledger.trials()] == ["complete"] * 2
        runs = {name.split("/")[0] for name in ledger.storage.child("tune/train").list()}
        assert len(runs) == (workers > 1), runs
        outcomes.append(outcome(ledger))
    assert outcomes[0] == outcomes[1]
    for record in ledger.trials():
        assert record.files.keys() == {
            "folds.parquet",
            "inspection.parquet",
            "predictions.parquet",
            *(f"fold-{fold}.safetensors" for fold in FOLDS),
        }


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_for_each_fold_agree_with_one_worker_for_all(
    spoken: Path, folder: Path
) -> None:
    """Replicas sum in another order, so their results are equal except for rounding.

    The folds have no validation part, so the selected epoch is the best one on the test part.
    """
    pairs = []
    for workers in (1, 4):
        chosen = small(
            folder,
            spoken,
            f"replicas-{workers}",
            workers,
            training={"epochs": 2, "batch_size": 15},
            folds={"scheme": "random_repeated", "folds": 2, "selection": "held_out"},
            model={"dropout": 0.0},
        )
        ledger, record = train(chosen)
        pairs.append((ledger.folds(record.id).to_pylist(), ledger.predictions(record.id)))
    (rows, predictions), (replicated_rows, replicated_predictions) = pairs
    for row, replicated in zip(rows, replicated_rows, strict=True):
        assert replicated == pytest.approx(row, abs=1e-5)
    for name in [name for name in predictions.column_names if name.startswith("posterior_")]:
        np.testing.assert_allclose(
            replicated_predictions[name].to_numpy(), predictions[name].to_numpy(), atol=1e-5
        )

    assert {row["split"] for row in rows} == {"train", "test"}
    tested = [row for row in rows if row["split"] == "test"]
    assert sum(row["selected"] for row in tested) == 2
    names = {row["fold"] for row in tested}
    best = [max(row["ua"] for row in tested if row["fold"] == fold) for fold in names]
    assert record.score == pytest.approx(np.mean(best), abs=1e-5)


@pytest.mark.usefixtures("ray_cluster")
def test_replicas_of_a_network_with_batch_statistics_leave_weights_that_fit_their_predictions(
    spoken: Path, folder: Path
) -> None:
    """Each replica normalises its own share of a batch, so one worker has other results."""
    sizes = {"first_maps": 2, "maps": 2, "conv_layers": 1, "linear_size": 8, "hidden_size": 4}
    chosen = small(
        folder,
        spoken,
        "batch-statistics",
        4,
        folds={"scheme": "random_repeated", "folds": 2},
        model={"name": "ssa_crnn_r", **sizes},
        training={"epochs": 2},
    )
    ledger, record = train(chosen)
    assert_weights_fit_predictions(chosen, ledger, record)


@pytest.mark.usefixtures("ray_cluster")
def test_trials_fail_at_their_time_limit(spoken: Path, folder: Path) -> None:
    chosen = small(
        folder,
        spoken,
        "endless",
        1,
        training={"epochs": 10**6, "patience": 10**6},
        cluster={"trial_minutes": 0.05, "max_failures": 2},
        search={"trials": 2, "scheduler": "none"},
    )
    ledger = Ledger(Storage.open(chosen.storage).child(chosen.name))
    with pytest.raises(HopelessError, match=r"trials 0 to 1 failed .* Reasons: not finished after"):
        run(*check(chosen), ledger, Narrator())
    for record in ledger.trials():
        assert record.status == "failed"
        assert record.reason == "not finished after 0.05 minutes (cluster.trial_minutes)"
        assert record.score is None


class LostWorker:
    """In place of a slot: no test can meet the moment after the record reliably."""

    def train(self, assignment: Assignment, report: Any) -> None:
        raise WorkerGroupError("the worker is lost", {0: RayActorError()})


def test_a_trial_whose_worker_is_lost_after_its_record_is_finished(
    configuration: Configuration, tmp_path: Path
) -> None:
    record = TrialRecord(
        id="0123456789",
        number=0,
        model="iaan",
        hyperparameters={},
        seed=0,
        code="c0de",
        status="complete",
    )
    storage = Storage.open(str(tmp_path))
    resources = Resources(workers=1, replicas=1, gpus_per_worker=0.0, concurrent=1)
    assignment = Assignment(configuration, record, {}, storage, resources, [])
    with pytest.raises(WorkerGroupError):
        _run(LostWorker(), assignment)
    Ledger(storage).write_trial(record)
    _run(LostWorker(), assignment)


def test_workers_form_a_grid_of_folds_and_replicas(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    cpu = torch.device("cpu")

    def names(size: int) -> list[list[str]]:
        return [
            [run.fold.name for run in assigned_runs(configuration, dataset, folds, rank, size, cpu)]
            for rank in range(size)
        ]

    assert names(1) == [["s0", "s1", "s2"]]
    assert names(2) == [["s0", "s2"], ["s1"]]
    assert names(3) == [["s0"], ["s1"], ["s2"]]


def test_a_path_of_a_feature_set_is_relative_to_the_folder_of_the_driver(
    spoken: Path, tmp_path: Path
) -> None:
    """A trial's process reads the file too. Tune would start it in another folder."""
    shutil.copy(CONFIG_FILE, tmp_path / "mine.conf")
    features = {"name": "opensmile", "feature_set": "mine.conf", "level": "low_level_descriptors"}
    training = {"epochs": 1}
    config = configure(tmp_path, spoken, features=features, training=training, search=None)
    done = ser("train", config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = Ledger(Storage.open(str(tmp_path / "runs" / NAME))).trials()
    assert record.status == "complete", record.reason
