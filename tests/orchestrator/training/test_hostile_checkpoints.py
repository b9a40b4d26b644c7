"""Hostile checkpoints, rightly sealed: see `test_hostile`."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from features.storage import Storage
from orchestrator.training import checkpoints
from orchestrator.training.batches import Dataset
from orchestrator.config.sections import Configuration
from orchestrator.training.cross_validation import Task, cross_validate
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import (
    Ledger,
    TrialRecord,
    parquet_bytes,
    seal,
    sha256,
    unseal,
)
from orchestrator.training.gradient import fold_run

TRIAL = "0123456789"


class Touch:
    """Unpickled by an ordinary unpickler, makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


class KilledError(Exception):
    """Stands for SIGKILL."""


def test_the_pickle_works_where_it_is_let(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Touch(tmp_path / "owned")))  # noqa: S301
    assert (tmp_path / "owned").exists()


class TestCheckpoints:
    """A state, a history or a manifest that is sealed and no checkpoint's."""

    @pytest.fixture
    def straight(
        self, tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
    ) -> dict[str, bytes]:
        """What the trial leaves where nothing happens to it."""
        self.run(tmp_path / "straight", dataset, folds, configuration)
        return self.results(tmp_path / "straight")

    @pytest.fixture
    def killed(
        self, tmp_path: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
    ) -> Path:
        """The trial's folder after a kill: checkpoints of epochs 2 and 3."""

        def report(metrics: dict[str, Any]) -> None:
            if metrics["epoch"] == 4:
                raise KilledError

        with pytest.raises(KilledError):
            self.run(tmp_path / "killed", dataset, folds, configuration, report)
        return tmp_path / "killed/trials" / TRIAL

    def run(
        self,
        folder: Path,
        dataset: Dataset,
        folds: list[Fold],
        configuration: Configuration,
        report: Callable[[dict[str, Any]], None] = lambda metrics: None,
    ) -> None:
        record = TrialRecord(
            id=TRIAL, number=0, model="iaan", status="complete", hyperparameters={}, seed=0
        )
        task = Task(record, [fold.name for fold in folds], {}, checkpoint_every=0.0)
        runs = [fold_run(fold, dataset, configuration) for fold in folds]
        cross_validate(task, runs, Ledger(Storage.open(str(folder))), report)

    def results(self, folder: Path) -> dict[str, bytes]:
        trial = folder / "trials" / TRIAL
        return {name: (trial / name).read_bytes() for name in self.record(trial)["files"]}

    def record(self, trial: Path) -> dict[str, Any]:
        return unseal((trial / "trial.json").read_bytes())

    def plant(self, checkpoint: Path, name: str, data: bytes) -> None:
        """Write a file of a checkpoint, and its digest into the manifest."""
        (checkpoint / name).write_bytes(data)
        manifest = unseal((checkpoint / "manifest.json").read_bytes())
        manifest["files"][name] = sha256(data)
        (checkpoint / "manifest.json").write_bytes(seal(manifest))

    def resumed_from(
        self,
        killed: Path,
        straight: dict[str, bytes],
        dataset: Dataset,
        folds: list[Fold],
        configuration: Configuration,
    ) -> int:
        """Resume; the first epoch that is trained. The results must be those of no fault."""
        epochs: list[int] = []
        folder = killed.parents[1]
        self.run(folder, dataset, folds, configuration, lambda m: epochs.append(m["epoch"]))
        assert self.results(folder) == straight
        return epochs[0]

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda state, path: {**state, "epoch": Touch(path)},
            lambda state, path: Touch(path),
            lambda state, path: [],
            lambda state, path: {k: v for k, v in state.items() if k != "optimizer"},
            lambda state, path: {**state, "epoch": "3"},
            lambda state, path: {**state, "epoch": 10**9},
            lambda state, path: {**state, "best_epoch": -1},
            lambda state, path: {**state, "best_score": "high"},
            lambda state, path: {**state, "best_score": float("nan")},
            lambda state, path: {**state, "model": {}},
            lambda state, path: {**state, "best_weights": {"x": torch.zeros(1)}},
            lambda state, path: {**state, "best_weights": dict.fromkeys(state["model"], 0.0)},
            # A million by a million of one number: no memory holds a copy.
            lambda state, path: {
                **state,
                "model": dict.fromkeys(state["model"], torch.zeros(1).expand(10**6, 10**6)),
            },
            lambda state, path: {**state, "optimizer": {"state": {}, "param_groups": []}},
            lambda state, path: {**state, "optimizer": {**state["optimizer"], "state": {}}},
            lambda state, path: {
                **state,
                "optimizer": {
                    **state["optimizer"],
                    "state": {key: {"step": "1"} for key in state["optimizer"]["state"]},
                },
            },
            lambda state, path: {
                **state,
                "optimizer": {
                    **state["optimizer"],
                    "param_groups": [
                        {**group, "lr": "fast"} for group in state["optimizer"]["param_groups"]
                    ],
                },
            },
        ],
    )
    def test_a_state(
        self,
        spoil: Callable[[dict[str, Any], Path], Any],
        tmp_path: Path,
        killed: Path,
        straight: dict[str, bytes],
        dataset: Dataset,
        folds: list[Fold],
        configuration: Configuration,
    ) -> None:
        """The second fold's, after the first was read: all go back to the checkpoint before."""
        name = f"fold-{folds[1].name}.pt"
        newest = killed / "checkpoint-00003"
        state = torch.load(newest / name, weights_only=True)
        torch.save(spoil(state, tmp_path / "owned"), tmp_path / "spoilt.pt")
        self.plant(newest, name, (tmp_path / "spoilt.pt").read_bytes())
        kept = checkpoints.put_aside
        seen: list[dict[str, str]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                checkpoints, "put_aside", lambda *args: (seen.append(args[2]), kept(*args))
            )
            epoch = self.resumed_from(killed, straight, dataset, folds, configuration)
        assert epoch == 3
        (reasons,) = seen
        assert list(reasons) == [name]
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02}.", b"text", bytes(5000)])
    def test_bytes_that_are_no_state_in_every_checkpoint(
        self,
        data: bytes,
        killed: Path,
        straight: dict[str, bytes],
        dataset: Dataset,
        folds: list[Fold],
        configuration: Configuration,
    ) -> None:
        for epoch in (2, 3):
            self.plant(killed / f"checkpoint-{epoch:05d}", f"fold-{folds[2].name}.pt", data)
        assert self.resumed_from(killed, straight, dataset, folds, configuration) == 1

    def test_it_is_set_aside_under_a_name_that_says_so(
        self, killed: Path, dataset: Dataset, folds: list[Fold], configuration: Configuration
    ) -> None:
        name = f"fold-{folds[0].name}.pt"
        self.plant(killed / "checkpoint-00003", name, b"nothing")

        def stop(metrics: dict[str, Any]) -> None:
            raise KilledError

        with pytest.raises(KilledError):
            self.run(killed.parents[1], dataset, folds, configuration, stop)
        (aside,) = (killed / "checkpoint-00003").glob("*.damaged-*")
        assert aside.name.startswith(f"{name}.damaged-")
        assert aside.read_bytes() == b"nothing"

    @pytest.mark.parametrize(
        "rows",
        [
            pa.table({"a": [1]}),
            pa.table({"fold": ["s0"], "epoch": ["1"], "split": ["x"], "ua": [0.1], "wa": [0.1]}),
            pa.table({"fold": ["s9"], "epoch": [1], "split": ["x"], "ua": [0.1], "wa": [0.1]}),
            pa.table({"fold": ["s0"], "epoch": [99], "split": ["x"], "ua": [0.1], "wa": [0.1]}),
            None,
        ],
    )
    def test_a_history(
        self,
        rows: pa.Table | None,
        killed: Path,
        straight: dict[str, bytes],
        dataset: Dataset,
        folds: list[Fold],
        configuration: Configuration,
    ) -> None:
        data = b"PAR1nothingPAR1" if rows is None else parquet_bytes(rows)
        self.plant(killed / "checkpoint-00003", "history.parquet", data)
        trial = Storage.open(str(killed))
        found = checkpoints.newest(trial, [fold.name for fold in folds])
        assert found is not None
        assert found.epoch == 2
        assert len(list(killed.rglob("history.parquet.damaged-*"))) == 1
        assert self.resumed_from(killed, straight, dataset, folds, configuration) == 3

    @pytest.mark.parametrize(
        "change",
        [
            {"curve": None},
            {"curve": []},
            {"curve": ["x", "y", "z"]},
            {"epoch": 2},
            {"epoch": "three"},
            {"seconds": -1},
            {"files": {}},
            {"files": {"../../trial.json": "0" * 64}},
            {"files": {"/etc/passwd": "0" * 64}},
            {"files": {"a\0b": "0" * 64}},
            {"files": []},
            {"more": 1},
        ],
    )
    def test_a_manifest(
        self,
        change: dict[str, Any],
        killed: Path,
        straight: dict[str, bytes],
        dataset: Dataset,
        folds: list[Fold],
        configuration: Configuration,
    ) -> None:
        path = killed / "checkpoint-00003/manifest.json"
        path.write_bytes(seal({**unseal(path.read_bytes()), **change}))
        trial = Storage.open(str(killed))
        assert checkpoints.newest(trial, [fold.name for fold in folds]).epoch == 2
        assert not path.exists()
        assert len(list(killed.rglob("manifest.json.damaged-*"))) == 1
        assert self.resumed_from(killed, straight, dataset, folds, configuration) == 3
