"""The status of made sweeps, against their proposals and records."""

from pathlib import Path

import pytest

from features.storage import Storage
from orchestrator.errors import NoSweepError
from orchestrator.ledger.ledger import Ledger
from orchestrator.results.status import sweep_status
from tests.support.made_sweep import make_sweep
from tests.support.report_page import MIXED, best_of


def test_finished_and_unfinished_trials_are_counted(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, MIXED, folds=2, running=2)
    best = best_of(ledger)
    assert sweep_status(ledger) == {
        "name": "iaan-loso",
        "trials": 8,
        "proposed": 10,
        "complete": 5,
        "pruned": 2,
        "failed": 1,
        "unfinished": [8, 9],
        "best": {"id": best.id, "score": best.score},
    }


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
