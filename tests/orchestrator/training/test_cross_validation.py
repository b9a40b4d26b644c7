"""Cross-validation in one process: results, kills, pruning and failures."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from features.storage import Storage
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import Ledger
from orchestrator.training.runs import fold_run
from tests.support.training import KilledError, cross_validated, in_form, trial_files, with_model


def test_scores_record_and_predictions_agree(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    record, reports = cross_validated(tmp_path, dataset, folds, configuration)
    ledger = Ledger(Storage.open(str(tmp_path)))
    assert ledger.trial(record.id) == record
    table = ledger.folds(record.id).to_pylist()
    assert [r["epoch"] for r in reports] == [1, 2, 3, 4]
    best = []
    for fold in folds:
        own = [row for row in table if row["fold"] == fold.name]
        assert [row["epoch"] for row in own if row["split"] == "train"] == [1, 2, 3, 4]
        (test,) = [row for row in own if row["split"] == "test"]
        validation = [row for row in own if row["split"] == "validation"]
        (selected,) = [row for row in validation if row["selected"]]
        assert selected["ua"] == max(row["ua"] for row in validation)
        assert test["selected"]
        assert test["epoch"] == selected["epoch"]
        best.append(selected["ua"])
    assert record.score == pytest.approx(np.mean(best))
    assert record.curve == reports[-1]["curve"]
    assert np.all(np.diff(record.curve) >= 0)
    predictions = ledger.predictions(record.id)
    assert len(predictions) == (dataset.labels >= 0).sum()
    assert len(set(predictions["utterance"].to_pylist())) == len(predictions)


@pytest.mark.parametrize("name", ["iaan", "ssa_crnn_r", "adrnn", "linear_svm"])
def test_saved_weights_give_the_saved_predictions(
    name: str, tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data, config = in_form(name, dataset), with_model(configuration, name)
    record, reports = cross_validated(tmp_path, data, folds, config)
    assert record.status == "complete"
    assert len(reports) == config.training.last_epoch
    fold = folds[1]
    run = fold_run(fold, data, config)
    weights = load_file(tmp_path / f"trials/{record.id}/fold-{fold.name}.safetensors")
    run.model.load_state_dict(weights)
    posteriors = run.predict(np.sort(fold.test)).exp().numpy()
    table = Ledger(Storage.open(str(tmp_path))).predictions(record.id).to_pylist()
    saved = [row for row in table if row["fold"] == fold.name]
    np.testing.assert_array_equal(
        posteriors, [[row[f"posterior_{c}"] for c in data.classes] for row in saved]
    )


@pytest.mark.parametrize("kill_after", [1, 2, 4])
def test_a_killed_trial_resumes_to_the_same_bytes(
    tmp_path: Path,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
    kill_after: int,
) -> None:
    straight, _ = cross_validated(tmp_path / "straight", dataset, folds, configuration)
    with pytest.raises(KilledError):
        cross_validated(tmp_path / "killed", dataset, folds, configuration, kill_after)
    record, reports = cross_validated(tmp_path / "killed", dataset, folds, configuration)
    # The report of an epoch precedes its checkpoint, so this epoch alone is trained again.
    assert [r["epoch"] for r in reports] == list(range(kill_after, 5))
    assert trial_files(tmp_path / "killed") == trial_files(tmp_path / "straight")
    assert record.model_copy(update={"seconds": straight.seconds}) == straight


def test_a_pruned_trial_stops_with_its_scores(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    def why_pruned(curve: list[float]) -> str | None:
        return f"below {curve[-1] + 0.1}" if len(curve) == 2 else None

    record, reports = cross_validated(
        tmp_path, dataset, folds, configuration, why_pruned=why_pruned
    )
    assert record.status == "pruned"
    assert record.reason == f"below {record.score + 0.1}"
    assert len(reports) == record.epochs == 2
    table = Ledger(Storage.open(str(tmp_path))).folds(record.id)
    assert set(table["split"].to_pylist()) == {"train", "validation", "test"}


def test_a_fold_that_fails_makes_the_trial_fail(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    wild = configuration.with_values({"training.learning_rate": 1e30})
    record, _ = cross_validated(tmp_path, dataset, folds, wild)
    assert record.status == "failed"
    assert record.score is None
    assert "fold s0, epoch" in record.reason
    assert Ledger(Storage.open(str(tmp_path))).trial(record.id) == record
