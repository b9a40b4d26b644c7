"""The Optuna study of a sweep, opened by Optuna."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from orchestrator.ledger.ledger import Ledger
from orchestrator.results.optuna_file import write_study
from tests.support.made_sweep import SPACE, make_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Ledger:
    statuses = ["complete", "failed", "pruned", "complete"]
    return make_sweep(tmp_path / "sweep", statuses, folds=2, running=1, extra={"space": SPACE})


def test_optuna_opens_the_trials_of_a_sweep(sweep: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    assert write_study(sweep, str(path)) == 4
    study = optuna.load_study(study_name="iaan-loso", storage=f"sqlite:///{path}")
    records = sweep.records()
    assert [trial.number for trial in study.trials] == [record.number for record in records]
    for trial, record in zip(study.trials, records, strict=True):
        wanted = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}[record.status]
        assert trial.state.name == wanted
        assert trial.value == record.score
        assert trial.params == record.hyperparameters
        assert trial.intermediate_values == dict(enumerate(record.curve, 1))
        assert trial.user_attrs["trial"] == record.id
        assert trial.user_attrs.get("reason") == record.reason
        assert trial.duration is not None
        assert trial.duration.total_seconds() == record.seconds
        assert trial.distributions["training.learning_rate"] == FloatDistribution(
            1e-5, 1e-2, log=True
        )
        assert trial.distributions["model.hidden_size"] == CategoricalDistribution(
            (64, 128, 256, 512)
        )
    complete = [record for record in records if record.status == "complete"]
    assert study.metric_names == ["validation_ua"]
    assert study.best_value == max(record.score or 0.0 for record in complete)
