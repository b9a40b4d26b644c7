"""An opened sweep against the records and files that it reads."""

import json
from pathlib import Path

import pytest

from features.storage import Storage
from orchestrator.errors import ConfigError, NoSweepError
from orchestrator.ledger.ledger import Ledger
from orchestrator.results.opened import OpenedSweep
from tests.support.made_sweep import make_sweep
from tests.support.report_page import MIXED, best_of, summary


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return make_sweep(tmp_path_factory.mktemp("opened"), MIXED, folds=2, running=1)


@pytest.fixture(scope="module")
def sweep(ledger: Ledger) -> OpenedSweep:
    return OpenedSweep(ledger)


def test_the_best_trial_is_the_default(sweep: OpenedSweep, ledger: Ledger) -> None:
    best = best_of(ledger)
    assert (sweep.name, sweep.record, sweep.best) == ("iaan-loso", ledger.sweep(), best)
    for tables, read in ((sweep.folds, ledger.folds), (sweep.predictions, ledger.predictions)):
        assert tables() == read(best.id)
        assert tables("0000000002") == read("0000000002") != read(best.id)


def test_trials_has_a_row_for_each_finished_trial(sweep: OpenedSweep, ledger: Ledger) -> None:
    table = sweep.trials()
    records = ledger.trials()
    assert table.column_names[:7] == [
        "number", "trial", "status", "score", "epochs", "seconds", "reason",
    ]  # fmt: skip
    assert table["trial"].to_pylist() == [record.id for record in records]
    assert table["status"].to_pylist() == MIXED
    for name in ("number", "score", "epochs", "seconds", "reason"):
        assert table[name].to_pylist() == [getattr(record, name) for record in records]
    for key in records[0].hyperparameters:
        assert table[key].to_pylist() == [record.hyperparameters[key] for record in records]


def test_a_hyperparameter_of_several_types_becomes_text(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"] * 3, folds=2)
    for trial, chosen in enumerate(({"model.a": 0.5}, {"model.a": "none"}, {"model.b": [1]})):
        record = ledger.record(f"{trial:010x}")
        assert record is not None
        ledger.write_trial(record.model_copy(update={"hyperparameters": chosen}))
    table = OpenedSweep(ledger).trials()
    assert table["model.a"].to_pylist() == ["0.5", "none", None]
    assert table["model.b"].to_pylist() == [None, None, [1]]


def test_scores_are_those_of_the_report(sweep: OpenedSweep, ledger: Ledger) -> None:
    assert json.dumps(sweep.scores()) == json.dumps(summary(ledger))


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        pytest.param(
            "ffffffffff", r"iaan-loso has no trial 'ffffffffff'; .* 0000000000, 0000000001", id="id"
        ),
        pytest.param("../x", r"has no trial '../x'; finished trials: 0000000000", id="path"),
        pytest.param("0000000004", "0000000004 failed .* loss is not finite", id="failed"),
        pytest.param("0000000008", "has no trial '0000000008'", id="unfinished"),
    ],
)
def test_a_trial_without_results_is_named(sweep: OpenedSweep, trial: str, message: str) -> None:
    for read in (sweep.folds, sweep.predictions):
        with pytest.raises(ConfigError, match=message):
            read(trial)


def test_a_sweep_without_a_score_has_no_best(tmp_path: Path) -> None:
    sweep = OpenedSweep(make_sweep(tmp_path / "failed", ["failed"]))
    assert sweep.best is None
    assert sweep.trials().num_rows == 1
    with pytest.raises(ConfigError, match=r"has no trial with a score; .* 0000000000"):
        sweep.folds()
    with pytest.raises(NoSweepError):
        OpenedSweep(Ledger(Storage.open(str(tmp_path))))


def test_an_empty_sweep_has_an_empty_table(tmp_path: Path) -> None:
    sweep = OpenedSweep(make_sweep(tmp_path, [], running=1))
    assert sweep.trials().num_rows == 0
    assert "score" in sweep.trials().column_names
    with pytest.raises(ConfigError, match="no trial with a score; finished trials: none yet"):
        sweep.predictions()
