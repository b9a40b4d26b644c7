import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from features.storage import Storage
from orchestrator.training import checkpoints
from orchestrator.training.batches import Dataset
from orchestrator.config.sections import Configuration
from orchestrator.training.cross_validation import Task, cross_validate
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import Ledger, TrialRecord
from orchestrator.training.gradient import fold_run


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it runs in the trial."""


def run(
    folder: Path,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
    kill_after: int | None = None,
    cutoffs: dict[int, float] | None = None,
) -> tuple[TrialRecord, list[dict[str, object]]]:
    """Cross-validate in this process; the record and the reports."""
    record = TrialRecord(
        id="0123456789", number=0, model="iaan", status="complete", hyperparameters={}, seed=0
    )
    task = Task(record, [fold.name for fold in folds], cutoffs or {}, checkpoint_every=0.0)
    reports: list[dict[str, object]] = []

    def report(metrics: dict[str, object]) -> None:
        reports.append(metrics)
        if metrics["epoch"] == kill_after:
            raise KilledError

    runs = [fold_run(fold, dataset, configuration) for fold in folds]
    return cross_validate(task, runs, Ledger(Storage.open(str(folder))), report), reports


def files(folder: Path) -> dict[str, bytes]:
    """The result files of a trial, but for the record's timings."""
    trial = folder / "trials/0123456789"
    found = {p.name: p.read_bytes() for p in trial.iterdir() if p.name != "trial.json"}
    record = json.loads((trial / "trial.json").read_text())
    del record["seconds"], record["sha256"]
    return {**found, "trial.json": json.dumps(record).encode()}


def test_results_hold_together(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    record, reports = run(tmp_path, dataset, folds, configuration)
    ledger = Ledger(Storage.open(str(tmp_path)))
    assert ledger.trial(record.id) == record
    table = ledger.folds(record.id).to_pylist()
    assert [r["epoch"] for r in reports] == [1, 2, 3, 4]
    for fold in folds:
        own = [row for row in table if row["fold"] == fold.name]
        assert [row["epoch"] for row in own if row["split"] == "train"] == [1, 2, 3, 4]
        (test,) = [row for row in own if row["split"] == "test"]
        validation = [row for row in own if row["split"] == "validation"]
        (selected,) = [row for row in validation if row["selected"]]
        assert selected["ua"] == max(row["ua"] for row in validation)
        assert test["selected"]
        assert test["epoch"] == selected["epoch"]
    best = [
        max(row["ua"] for row in table if row["fold"] == f.name and row["split"] == "validation")
        for f in folds
    ]
    assert record.score == pytest.approx(np.mean(best))
    assert record.curve == reports[-1]["curve"]
    assert np.all(np.diff(record.curve) >= 0)
    predictions = ledger.predictions(record.id)
    assert len(predictions) == (dataset.labels >= 0).sum()
    assert len(set(predictions["utterance"].to_pylist())) == len(predictions)


def test_saved_weights_give_the_saved_predictions(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    record, _ = run(tmp_path, dataset, folds, configuration)
    fold = folds[1]
    again = fold_run(fold, dataset, configuration)
    weights = load_file(tmp_path / f"trials/{record.id}/fold-{fold.name}.safetensors")
    again.model.load_state_dict(weights)
    posteriors = again.predict(np.sort(fold.test)).exp().numpy()
    table = pq.read_table(tmp_path / f"trials/{record.id}/predictions.parquet").to_pylist()
    saved = [row for row in table if row["fold"] == fold.name]
    np.testing.assert_array_equal(
        posteriors, [[row[f"posterior_{c}"] for c in dataset.classes] for row in saved]
    )


@pytest.mark.parametrize("kill_after", [1, 2, 4])
def test_a_killed_trial_goes_on_to_the_same_bytes(
    tmp_path: Path,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
    kill_after: int,
) -> None:
    run(tmp_path / "straight", dataset, folds, configuration)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", dataset, folds, configuration, kill_after)
    _, reports = run(tmp_path / "killed", dataset, folds, configuration)
    # The report of an epoch comes before its checkpoint: that epoch alone is trained again.
    assert [r["epoch"] for r in reports] == list(range(kill_after, 5))
    assert files(tmp_path / "killed") == files(tmp_path / "straight")


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped", "no manifest", "lost"])
def test_a_damaged_checkpoint_is_not_believed(
    tmp_path: Path,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
    damage: str,
) -> None:
    run(tmp_path / "straight", dataset, folds, configuration)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", dataset, folds, configuration, 4)
    newest = tmp_path / "killed/trials/0123456789/checkpoint-00003"
    state = newest / f"fold-{folds[0].name}.pt"
    data = state.read_bytes()
    if damage == "truncated":
        state.write_bytes(data[:-7])
    elif damage == "emptied":
        state.write_bytes(b"")
    elif damage == "flipped":
        state.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    elif damage == "lost":
        state.unlink()
    else:
        (newest / "manifest.json").unlink()
    trial = Storage.open(str(tmp_path / "killed/trials/0123456789"))
    found = checkpoints.newest(trial, [fold.name for fold in folds])
    assert found is not None
    assert found.epoch == 2
    aside = list(newest.glob("*.damaged-*"))
    assert len(aside) == (damage in ("truncated", "emptied", "flipped"))
    _, reports = run(tmp_path / "killed", dataset, folds, configuration)
    assert reports[0]["epoch"] == 3  # from the checkpoint before
    assert files(tmp_path / "killed") == files(tmp_path / "straight")


def test_few_checkpoints_are_kept_and_none_after_the_end(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    longer = configuration.with_values({"training.epochs": 6})
    with pytest.raises(KilledError):
        run(tmp_path, dataset, folds, longer, 6)
    trial = tmp_path / "trials/0123456789"
    names = sorted(p.name for p in trial.iterdir())
    assert names == ["checkpoint-00004", "checkpoint-00005"]
    run(tmp_path, dataset, folds, longer)
    assert not list(trial.glob("checkpoint-*"))


def test_a_commit_never_deletes_the_checkpoint_it_made(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """Kills leave folders of later epochs without a manifest; they must not count as kept."""
    storage = Storage.open(str(tmp_path))
    run = fold_run(folds[0], dataset, configuration)
    for epoch in (12, 13):
        checkpoints.write_state(storage, epoch, run)
    for epoch in (10, 11):
        files = checkpoints.write_state(storage, epoch, run)
        rows = run.train_epoch()
        checkpoints.commit(storage, checkpoints.Checkpoint(epoch, rows, [0.1] * epoch, 1.0), files)
    assert checkpoints.newest(storage, [folds[0].name]).epoch == 11
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00010", "checkpoint-00011"]


def test_a_trial_below_a_cutoff_is_pruned_with_its_scores(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    record, reports = run(tmp_path, dataset, folds, configuration, cutoffs={1: 0.0, 2: 1.1})
    assert record.status == "pruned"
    assert record.reason.startswith("epoch 2: ")
    assert len(reports) == record.epochs == 2
    table = Ledger(Storage.open(str(tmp_path))).folds(record.id)
    assert set(table["split"].to_pylist()) == {"train", "validation", "test"}


def test_a_fold_that_breaks_fails_the_trial(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    wild = configuration.with_values({"training.learning_rate": 1e30})
    record, _ = run(tmp_path, dataset, folds, wild)
    assert record.status == "failed"
    assert record.score is None
    assert "fold s0, epoch" in record.reason
    assert Ledger(Storage.open(str(tmp_path))).trial(record.id) == record
