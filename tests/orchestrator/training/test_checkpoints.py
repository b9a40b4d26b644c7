"""Checkpoints that are damaged, of another model, or planted: the trial resumes without them."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from features.storage import Storage
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.ledger.seals import parquet_bytes, seal, sha256, unseal
from orchestrator.training import checkpoints
from orchestrator.training.runs import fold_run
from orchestrator.training.state import pack_state
from tests.support.training import (
    TRIAL,
    KilledError,
    Touch,
    cross_validated,
    trained,
    trial_files,
    with_model,
)

STATE = "fold-s1.safetensors"  # of the second fold, read after the state of the first


class Trial:
    """A trial that was killed after the checkpoints of epochs 2 and 3.

    arguments : dataset, folds and configuration
    expected : the result files of the same trial without a kill
    """

    def __init__(self, folder: Path, arguments: tuple[Any, ...], expected: dict[str, bytes]):
        self._folder, self._arguments, self._expected = folder, arguments, expected
        self.path = folder / "trials" / TRIAL
        self.newest = self.path / "checkpoint-00003"

    def copy(self, folder: Path) -> "Trial":
        shutil.copytree(self._folder, folder)
        return Trial(folder, self._arguments, self._expected)

    def plant(self, name: str, data: bytes, epoch: int = 3) -> None:
        """Replace a file of a checkpoint, and its SHA-256 in the manifest."""
        folder = self.path / f"checkpoint-{epoch:05d}"
        (folder / name).write_bytes(data)
        manifest = unseal((folder / "manifest.json").read_bytes())
        manifest["files"][name] = sha256(data)
        (folder / "manifest.json").write_bytes(seal(manifest))

    def resume(self, first: int) -> list[str]:
        """Resume. Training must start with epoch `first` and end with the usual result files.

        Returns the renamed files of the newest checkpoint, without the time in their names.
        """
        with pytest.raises(KilledError):
            cross_validated(self._folder, *self._arguments, kill_after=first)
        renamed = [path.name.split(".damaged-")[0] for path in self.newest.glob("*.damaged-*")]
        _, reports = cross_validated(self._folder, *self._arguments)
        assert reports[0]["epoch"] == first
        assert trial_files(self._folder) == self._expected
        return renamed


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
) -> Trial:
    """The trial that each test copies."""
    folder = tmp_path_factory.mktemp("trial")
    arguments = (dataset, folds, configuration)
    cross_validated(folder / "straight", *arguments)
    with pytest.raises(KilledError):
        cross_validated(folder / "killed", *arguments, kill_after=4)
    return Trial(folder / "killed", arguments, trial_files(folder / "straight"))


@pytest.fixture
def trial(killed: Trial, tmp_path: Path) -> Trial:
    return killed.copy(tmp_path / "copy")


def test_an_intact_checkpoint_is_used(trial: Trial) -> None:
    assert trial.resume(first=4) == []


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped"])
@pytest.mark.parametrize("name", [STATE, "history.parquet", "manifest.json"])
def test_a_damaged_file_is_renamed(trial: Trial, name: str, damage: str) -> None:
    path = trial.newest / name
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    path.write_bytes({"truncated": data[:-7], "emptied": b"", "flipped": flipped}[damage])
    assert trial.resume(first=3) == [name]


@pytest.mark.parametrize("name", [STATE, "history.parquet", "manifest.json"])
def test_a_checkpoint_without_one_of_its_files_is_not_used(trial: Trial, name: str) -> None:
    (trial.newest / name).unlink()
    assert trial.resume(first=3) == []


def test_a_planted_pickle_is_renamed_and_never_executed(trial: Trial, tmp_path: Path) -> None:
    trial.plant(STATE, pickle.dumps(Touch(tmp_path / "touched")))
    assert trial.resume(first=3) == [STATE]
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        pytest.param("iaan", {"model.hidden_size": 10}, id="sizes"),
        pytest.param("bilstm_att", {}, id="model"),
    ],
)
def test_a_state_of_another_model_is_renamed(
    trial: Trial,
    model: str,
    sizes: dict[str, Any],
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
) -> None:
    run = fold_run(folds[1], dataset, with_model(configuration, model).with_values(sizes))
    trained(run, 3)
    trial.plant(STATE, pack_state(run.state()))
    assert trial.resume(first=3) == [STATE]


def test_without_a_checkpoint_that_can_be_loaded_training_starts_again(trial: Trial) -> None:
    for epoch in (2, 3):
        trial.plant(STATE, b"text", epoch)
    assert trial.resume(first=1) == [STATE]


def test_a_history_of_another_form_is_renamed(trial: Trial) -> None:
    trial.plant("history.parquet", parquet_bytes(pa.table({"fold": [1]})))
    assert trial.resume(first=3) == ["history.parquet"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"curve": [0.5]}, id="another epoch"),
        pytest.param({"files": {}}, id="no files"),
        pytest.param({"files": {"../../trial.json": "0" * 64}}, id="path outside the folder"),
        pytest.param({"format": 9}, id="unknown key"),
    ],
)
def test_a_manifest_of_another_form_is_renamed(trial: Trial, change: dict[str, Any]) -> None:
    path = trial.newest / "manifest.json"
    path.write_bytes(seal({**unseal(path.read_bytes()), **change}))
    assert trial.resume(first=3) == ["manifest.json"]


def test_two_checkpoints_are_kept_and_all_are_deleted_at_the_end(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    longer = configuration.with_values({"training.epochs": 6})
    with pytest.raises(KilledError):
        cross_validated(tmp_path, dataset, folds, longer, kill_after=6)
    assert sorted(trial_names(tmp_path)) == ["checkpoint-00004", "checkpoint-00005"]
    cross_validated(tmp_path, dataset, folds, longer)
    assert not [name for name in trial_names(tmp_path) if name.startswith("checkpoint")]


def trial_names(folder: Path) -> list[str]:
    return [path.name for path in (folder / "trials" / TRIAL).iterdir()]


def test_a_commit_never_deletes_its_own_checkpoint(
    tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """Kills leave folders of later epochs without a manifest. They must not count as kept."""
    storage = Storage.open(str(tmp_path))
    run = fold_run(folds[0], dataset, configuration)
    rows = run.train_epoch()
    for epoch in (12, 13):
        checkpoints.write_state(storage, epoch, run)
    for epoch in (10, 11):
        files = checkpoints.write_state(storage, epoch, run)
        checkpoints.commit(storage, checkpoints.Checkpoint(rows, [0.1] * epoch, 1.0), files)
    newest = checkpoints.newest(storage, [folds[0].name])
    assert newest is not None
    assert newest.epoch == 11
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00010", "checkpoint-00011"]
