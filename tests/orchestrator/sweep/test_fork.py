"""What a fork takes over, and what it leaves."""

from pathlib import Path

import pytest

from features.storage import Storage
from orchestrator.sweep import fork
from orchestrator.ledger.ledger import Ledger, Suggestion, TrialRecord, sha256
from search_spaces import Space

SPACE = Space.model_validate(
    {
        "parameters": {
            "model.kind": {"choices": ["none", "penalty"]},
            "model.weight": {"low": 0.1, "high": 1.0, "when": {"model.kind": ["penalty"]}},
        }
    }
)
POINTS = [
    {"model.kind": "none"},
    {"model.kind": "penalty", "model.weight": 0.5},
    {"model.kind": "penalty", "model.weight": 2.0},  # beyond the space
    {"model.kind": "none", "model.weight": 0.5},  # what the kind leaves closed
    {"model.kind": "penalty"},  # a value is missing
    {"model.kind": "penalty", "model.weight": 0.2},
    {"model.kind": "penalty", "model.weight": 0.3},
    {"model.kind": "penalty", "model.weight": 0.4},
    {"model.kind": "penalty", "model.weight": 0.6},
]


def identify(point: dict[str, object]) -> str:
    return sha256(repr(sorted(point.items())).encode())[:10]


@pytest.fixture
def source(tmp_path: Path) -> Ledger:
    ledger = Ledger(Storage.open(str(tmp_path / "old")))
    for number, point in enumerate(POINTS):
        trial = identify(point) if number != 5 else "0" * 10  # the same point, of other data
        ledger.write_suggestion(Suggestion(number=number, trial=trial, hyperparameters=point))
        if number == 8:  # it has not ended
            continue
        folder = ledger.trial_storage(trial)
        folder.write("folds.parquet", b"rows %d" % number)
        ledger.write_trial(
            TrialRecord(
                id=trial,
                number=number,
                model="iaan",
                status="pruned" if number == 6 else "complete",
                hyperparameters=point,
                seed=0,
                score=0.5,
                code="ffff" if number == 7 else "now",
                files={"folds.parquet": sha256(b"rows %d" % number)},
            )
        )
    return ledger


def test_only_what_would_come_out_the_same_is_taken(source: Ledger, tmp_path: Path) -> None:
    valid = fork.valid_trials(source, SPACE, identify, "now")
    assert [record.hyperparameters for record in valid] == POINTS[:2]
    ledger = Ledger(Storage.open(str(tmp_path / "new")))
    ids = [record.id for record in valid[::-1]]
    fork.take_over(source, ledger, ids)
    for number, trial in enumerate(ids):
        taken = ledger.trial(trial)
        assert taken is not None
        assert taken.number == number
        assert ledger.trial_storage(trial).read("folds.parquet") == source.trial_storage(
            trial
        ).read("folds.parquet")
    before = ledger.trial_storage(ids[0]).read("trial.json")
    fork.take_over(source, ledger, ids)  # again: nothing changes
    assert ledger.trial_storage(ids[0]).read("trial.json") == before


def test_what_is_damaged_is_not_taken(source: Ledger, tmp_path: Path) -> None:
    trial = identify(POINTS[0])
    source.trial_storage(trial).write("folds.parquet", b"rows X")
    assert trial not in [r.id for r in fork.valid_trials(source, SPACE, identify, "now")]
    ledger = Ledger(Storage.open(str(tmp_path / "new")))
    fork.take_over(source, ledger, [trial])
    assert ledger.trial(trial) is None


def test_the_code_is_told_apart_by_each_decisive_file() -> None:
    found = fork.code()
    assert {"ser_models/iaan.py", "orchestrator/training.py"} < found.keys()
    assert not any(name.startswith(("orchestrator/report", "orchestrator/cli")) for name in found)
    for name in found:
        assert fork.digest(found | {name: "0" * 10}) != fork.digest(found)
