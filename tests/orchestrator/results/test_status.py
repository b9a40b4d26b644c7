"""The status of made sweeps, against their proposals and records."""

from pathlib import Path

import numpy as np
import pytest

from features.storage import Storage
from orchestrator.errors import NoSweepError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, RunningTrial, SweepProgress, SweepRecord
from orchestrator.results.status import StatusReader, sweep_status
from tests.support.made_sweep import make_sweep
from tests.support.report_page import MIXED, best_of


def test_finished_and_unfinished_trials_are_counted(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, MIXED, folds=2, running=2)
    best = best_of(ledger)
    status = sweep_status(ledger)
    assert {key: status[key] for key in list(status)[:8]} == {
        "name": "iaan-loso",
        "model": "iaan",
        "trials": 8,
        "proposed": 10,
        "complete": 5,
        "pruned": 2,
        "failed": 1,
        "unfinished": [8, 9],
    }
    assert status["best"] == {"id": best.id, "score": best.score}
    assert status["failures"] == [
        {"number": 4, "reason": "loss is not finite in fold Ses03, epoch 2"}
    ]


def test_fold_epochs_and_the_time_left_count_the_running_trials(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete", "pruned", "failed"], folds=2, running=2)
    raw = ledger.sweep().model_dump()
    raw["configuration"]["search"]["trials"] = 7
    ledger.write_sweep(SweepRecord.model_validate(raw))
    ledger.write_progress(
        SweepProgress(
            beat=1,
            concurrent=2,
            gpus=0.5,
            running=[RunningTrial(trial="0000000003", epoch=3, score=0.4)],
        )
    )
    (tmp_path / "trials/0000000004/checkpoint-00002").mkdir(parents=True)
    (tmp_path / "trials/0000000004/checkpoint-00005").mkdir()
    status = sweep_status(ledger)
    assert status["running"] == [
        {"number": 3, "id": "0000000003", "epoch": 3, "score": 0.4},
        {"number": 4, "id": "0000000004", "epoch": 5, "score": None},
    ]
    records = ledger.records()
    finished = sum(len(record.curve) for record in records)
    # Two folds, and at most 40 epochs in each of the four trials that are not finished.
    left = 2 * (4 * 40 - 3 - 5)
    assert status["fold_epochs"] == {"done": 2 * (finished + 3 + 5), "left": left}
    scored = [record for record in records if record.curve]
    mean = np.mean([len(record.curve) for record in scored])
    epoch = sum(record.seconds for record in scored) / sum(len(record.curve) for record in scored)
    epochs = 2 * mean + (mean - 3) + (mean - 5)
    assert status["seconds_left"] == pytest.approx(epochs * epoch / 2)
    assert status["gpus"] == 0.5


def test_a_reader_sees_new_proposals_and_records(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete", "complete"], folds=2, running=1)
    reader = StatusReader(ledger)
    assert reader.read()["unfinished"] == [2]
    done = ledger.records()[0].model_copy(update={"id": "0000000002", "number": 2, "score": 0.99})
    ledger.write_trial(done)
    ledger.write_proposal(Proposal(number=3, trial="0000000003", hyperparameters={}))
    status = reader.read()
    assert (status["complete"], status["unfinished"]) == (3, [3])
    assert status["best"] == {"id": "0000000002", "score": 0.99}


def test_a_damaged_record_of_progress_is_ignored(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"], folds=2, running=1)
    (tmp_path / "progress.json").write_bytes(b'{"beat": 1}')
    assert sweep_status(ledger)["gpus"] is None


def test_a_damaged_record_counts_as_unfinished(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete", "failed", "complete"], folds=2)
    (tmp_path / "trials" / "0000000001" / "trial.json").write_bytes(b"{}")
    status = sweep_status(ledger)
    assert (status["complete"], status["failed"], status["unfinished"]) == (2, 0, [1])


def test_tables_are_not_read(tmp_path: Path) -> None:
    """A trial with lost tables counts as finished, because the status reads records alone."""
    ledger = make_sweep(tmp_path, ["pruned"], folds=2)
    for table in (tmp_path / "trials" / "0000000000").glob("*.parquet"):
        table.unlink()
    assert ledger.trials() == []
    status = sweep_status(ledger)
    assert status["pruned"] == 1
    assert status["best"]["id"] == "0000000000"


def test_a_sweep_without_a_score_has_no_best(tmp_path: Path) -> None:
    status = sweep_status(make_sweep(tmp_path / "failed", ["failed"], running=1))
    assert status["best"] is None
    assert status["unfinished"] == [1]
    with pytest.raises(NoSweepError):
        sweep_status(Ledger(Storage.open(str(tmp_path))))
