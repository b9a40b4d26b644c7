"""The trials that a fork copies from another sweep."""

from pathlib import Path

import pytest

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, TrialRecord
from orchestrator.ledger.seals import sha256
from orchestrator.sweep.fork import copy_trials, valid_trials
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
    {"model.kind": "penalty", "model.weight": 2.0},  # outside the space
    {"model.kind": "none", "model.weight": 0.5},  # a weight without its kind
    {"model.kind": "penalty"},  # without its weight
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
        trial = identify(point) if number != 5 else "0" * 10  # the same point with other data
        ledger.write_proposal(Proposal(number=number, trial=trial, hyperparameters=point))
        if number == 8:  # unfinished
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


def test_only_trials_that_would_have_the_same_result_are_copied(
    source: Ledger, tmp_path: Path
) -> None:
    valid = valid_trials(source, SPACE, identify, "now")
    assert [record.hyperparameters for record in valid] == POINTS[:2]
    ledger = Ledger(Storage.open(str(tmp_path / "new")))
    ids = [record.id for record in valid[::-1]]
    copy_trials(source, ledger, ids)
    for number, trial in enumerate(ids):
        copied = ledger.trial(trial)
        assert copied is not None
        assert copied.number == number
        folders = [sweep.trial_storage(trial) for sweep in (source, ledger)]
        assert len({folder.read("folds.parquet") for folder in folders}) == 1
    before = ledger.trial_storage(ids[0]).read("trial.json")
    copy_trials(source, ledger, ids)  # a second time: no file changes
    assert ledger.trial_storage(ids[0]).read("trial.json") == before


def test_damaged_trials_are_not_copied(source: Ledger, tmp_path: Path) -> None:
    trial = identify(POINTS[0])
    source.trial_storage(trial).write("folds.parquet", b"rows X")
    assert trial not in [record.id for record in valid_trials(source, SPACE, identify, "now")]
    ledger = Ledger(Storage.open(str(tmp_path / "new")))
    copy_trials(source, ledger, [trial])
    assert ledger.trial(trial) is None
