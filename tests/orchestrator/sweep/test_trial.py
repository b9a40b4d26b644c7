"""Trials on a real Ray: the number of workers changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from features.storage import Storage
from orchestrator.sweep import run as sweep
from orchestrator.training.batches import Dataset
from orchestrator.config.sections import ConfigError, Configuration, parse
from orchestrator.data.prepare import prepare
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import Ledger
from orchestrator.progress import Narrator
from orchestrator.sweep.search import HopelessError
from orchestrator.training.gradient import fold_run
from orchestrator.sweep.trial import Resources, assigned_runs, room, trial_id, workers_now


def configure(manifest: Path, storage: Path, **sections: dict[str, object]) -> Configuration:
    raw = {
        "name": "run",
        "storage": str(storage),
        "corpus": {"root": str(manifest), "classes": ["ang", "hap", "neu", "sad"]},
        "model": {"name": "iaan", "hidden_size": 8, "attention_size": 8, "dropout": 0.2},
        "training": {"epochs": 3, "learning_rate": 0.003, "checkpoint_every": 0},
    }
    for section, values in sections.items():
        raw[section] = {**raw.get(section, {}), **values}
    return parse(raw)


def results(ledger: Ledger) -> dict[str, bytes]:
    (record,) = ledger.trials()
    assert record.status == "complete"
    folder = ledger.trial_storage(record.id)
    return {name: folder.read(name) for name in record.files}


@pytest.mark.usefixtures("ray_cluster")
def test_workers_change_no_bit(spoken: Path, tmp_path: Path) -> None:
    found = []
    for workers in (1, 2, 3):
        cluster = {"workers_per_trial": workers}
        configuration = configure(spoken, tmp_path / str(workers), cluster=cluster)
        found.append(results(sweep.run(configuration, Narrator())))
    assert set(found[0]) == {
        "folds.parquet",
        "inspection.parquet",
        "predictions.parquet",
        *(f"fold-Ses0{n}.safetensors" for n in (1, 2, 3)),
    }
    assert found[0] == found[1] == found[2]


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_a_fold_agree_with_one(spoken: Path, tmp_path: Path) -> None:
    """Sums over replicas are in another order: equal to rounding, not to the bit."""
    pairs = []
    for workers in (1, 6):
        configuration = configure(
            spoken,
            tmp_path / str(workers),
            model={"dropout": 0.0},
            training={"epochs": 2, "batch_size": 15},
            cluster={"workers_per_trial": workers},
        )
        ledger = sweep.run(configuration, Narrator())
        (record,) = ledger.trials()
        pairs.append((ledger.folds(record.id).to_pylist(), ledger.predictions(record.id)))
    (folds, one), (replicated, two) = pairs
    for mine, other in zip(folds, replicated, strict=True):
        assert other == pytest.approx(mine, abs=1e-5)
    for name in [name for name in one.column_names if name.startswith("posterior_")]:
        np.testing.assert_allclose(two[name].to_numpy(), one[name].to_numpy(), atol=1e-5)


@pytest.mark.usefixtures("ray_cluster")
def test_replicas_of_a_network_with_batch_statistics_leave_weights_that_fit_its_scores(
    spoken: Path, tmp_path: Path
) -> None:
    """Each replica normalises its own share: not one worker's numbers, but a whole result."""
    small = {"first_maps": 2, "maps": 2, "conv_layers": 1, "linear_size": 8, "hidden_size": 4}
    raw = configure(
        spoken, tmp_path, training={"epochs": 2}, cluster={"workers_per_trial": 6}
    ).resolved()
    raw |= {"model": {"name": "ssa_crnn_r", **small}, "features": {}}
    raw["training"] = {"epochs": 2, "learning_rate": 0.003}
    configuration = parse(raw)
    ledger = sweep.run(configuration, Narrator())
    (record,) = ledger.trials()
    assert record.status == "complete", record.reason
    prepared = prepare(configuration, Storage.open(str(tmp_path)), lambda *_: None)
    fold = prepared.folds[1]
    run = fold_run(fold, prepared.dataset, configuration)
    name = f"trials/{record.id}/fold-{fold.name}.safetensors"
    run.model.load_state_dict(load(ledger.storage.read(name)))
    rows = [r for r in ledger.predictions(record.id).to_pylist() if r["fold"] == fold.name]
    np.testing.assert_allclose(
        run.predict(np.sort(fold.test)).exp().numpy(),
        [[row[f"posterior_{c}"] for c in prepared.dataset.classes] for row in rows],
        atol=1e-6,
    )


@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_does_not_end_is_ended_and_the_search_goes_on(
    spoken: Path, tmp_path: Path
) -> None:
    configuration = configure(
        spoken,
        tmp_path,
        training={"epochs": 10**6, "patience": 10**6},
        cluster={"trial_minutes": 0.2, "concurrent_trials": 1},
        search={"space": "iaan_small", "trials": 2, "scheduler": "none"},
    )
    ledger = sweep.run(configuration, Narrator())
    records = ledger.trials()
    assert [record.status for record in records] == ["failed", "failed"]
    for record in records:
        assert record.reason == "not done after 0.2 minutes (cluster.trial_minutes)"
        assert record.score is None
    with pytest.raises(HopelessError, match=r"trials 0 to 1 failed .* Reasons: not done after 0.2"):
        sweep.run(configuration.with_values({"cluster.max_failures": 2}), Narrator())


@pytest.mark.usefixtures("ray_cluster")
def test_held_out_has_no_validation_part(spoken: Path, tmp_path: Path) -> None:
    configuration = configure(spoken, tmp_path, folds={"selection": "held_out"})
    ledger = sweep.run(configuration, Narrator())
    (record,) = ledger.trials()
    rows = ledger.folds(record.id).to_pylist()
    assert {row["split"] for row in rows} == {"train", "test"}
    assert sum(row["selected"] and row["split"] == "test" for row in rows) == 3
    tested = [row for row in rows if row["split"] == "test"]
    best = [max(r["ua"] for r in tested if r["fold"] == f"Ses0{n}") for n in (1, 2, 3)]
    assert record.score == pytest.approx(np.mean(best))


@pytest.mark.usefixtures("ray_cluster")
def test_what_the_cluster_never_has_is_refused(spoken: Path, tmp_path: Path) -> None:
    many = configure(spoken, tmp_path, cluster={"workers_per_trial": 300})
    with pytest.raises(ConfigError, match=r"wants 300 CPUs and 0 GPUs, and the cluster has \d+"):
        sweep.run(many, Narrator())
    gpus = configure(spoken, tmp_path, cluster={"gpus_per_worker": 0.5})
    with pytest.raises(ConfigError, match=r"0\.5 GPUs, and the cluster has \d+ and 0"):
        sweep.run(gpus, Narrator())


@pytest.mark.usefixtures("ray_cluster")
def test_nodes_that_are_yet_to_come_count_where_they_are_announced(
    spoken: Path, tmp_path: Path
) -> None:
    small = {"workers_per_trial": 12, "gpus_per_worker": 0.2}
    search = {"space": "iaan_small"}
    refused = configure(spoken, tmp_path, search=search, cluster={**small, "cpus": 30})
    with pytest.raises(ConfigError, match=r"12 CPUs and 2\.4 GPUs, and the cluster has 30 and 0"):
        sweep.choose_resources(refused, 3)
    grown = configure(spoken, tmp_path, search=search, cluster={**small, "cpus": 30, "gpus": 5})
    assert sweep.choose_resources(grown, 3) == Resources(12, 4, 0.2, 2)


def test_a_trial_goes_on_with_the_workers_that_nodes_are_left_for() -> None:
    folds = Resources(workers=5, replicas=1, gpus_per_worker=0.2, concurrent=1)
    assert workers_now(folds, [{"CPU": 16, "GPU": 1}]) == 5
    assert workers_now(folds, [{"CPU": 2, "GPU": 1}, {"CPU": 1, "GPU": 4}]) == 3
    assert workers_now(folds, [{"CPU": 2, "GPU": 4}]) == 2
    assert workers_now(folds, [{"CPU": 4}]) == 5  # none could: it waits for a node
    replicas = Resources(workers=6, replicas=2, gpus_per_worker=0, concurrent=1)
    assert workers_now(replicas, [{"CPU": 3}]) == 6  # their number is part of the result


def test_a_worker_is_on_one_node_and_its_share_on_one_gpu() -> None:
    two = [{"CPU": 8, "GPU": 2}]
    assert [room(two, share) for share in (0, 0.2, 0.5, 0.6, 1, 2, 3)] == [8, 8, 4, 2, 2, 1, 0]
    assert room([{"CPU": 8, "GPU": 1}] * 2, 2) == 0
    assert room([{"CPU": 1}, {"CPU": 0.5, "GPU": 1}], 0) == 1


@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep_that_has_begun_goes_on_where_there_is_less_room(
    spoken: Path, tmp_path: Path
) -> None:
    asked = {"search": {"space": "iaan_small"}, "cluster": {"workers_per_trial": 8}}
    wide = configure(spoken, tmp_path, **asked)
    with pytest.raises(ConfigError, match=r"wants 8 CPUs and 0 GPUs, .* room for 6 such workers"):
        sweep.choose_resources(wide, 9)
    assert sweep.choose_resources(wide, 9, begun=True) == Resources(6, 1, 0.0, 1)
    with pytest.raises(ConfigError, match="wants 8 CPUs"):  # two a fold: part of the result
        sweep.choose_resources(wide, 4, begun=True)


def test_workers_are_a_grid_of_folds_and_replicas(
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


def test_an_id_is_of_what_decides_the_results(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    def identity(values: dict[str, object], data: str = "data") -> str:
        return trial_id(configuration.with_values(values), folds, dataset.ids, data)

    reference = identity({})
    assert len(reference) == 10
    assert int(reference, 16) >= 0
    for nothing in (
        {"storage": "/elsewhere"},
        {"name": "other"},
        {"corpus.root": "moved.csv"},
        {"cluster.workers_per_trial": 3},
        {"training.checkpoint_every": 1.0},
        {"search.space": "iaan"},
    ):
        assert identity(nothing) == reference, nothing
    decisive = [
        {"training.seed": 1},
        {"training.epochs": 5},
        {"model.dropout": 0.3},
        {"model.name": "bigru_att"},
        {"features.pool": 1},
        {"folds.selection": "held_out"},
        {"corpus.merge": {"exc": "hap"}},
    ]
    found = {identity(values) for values in decisive}
    assert len(found | {reference, identity({}, "other data")}) == len(decisive) + 2
    assert trial_id(configuration, folds, dataset.ids, "data", replicas=2) != reference
    assert identity({"features.max_errors": 3}) == reference
    fewer = [Fold(f.name, f.train[1:], f.validation, f.test) for f in folds]
    assert trial_id(configuration, fewer, dataset.ids, "data") != reference
