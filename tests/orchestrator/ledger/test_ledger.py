import dataclasses
from pathlib import Path

import pytest

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger, LedgerError, Suggestion, TrialRecord, seal, sha256, unseal


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Storage.open(str(tmp_path)))


def commit(ledger: Ledger, trial: str = "0123456789") -> TrialRecord:
    content = {"folds.parquet": b"folds", "fold-1.safetensors": b"weights"}
    for name, data in content.items():
        ledger.trial_storage(trial).write(name, data)
    record = TrialRecord(
        id=trial,
        number=0,
        model="iaan",
        status="complete",
        hyperparameters={"model.dropout": 0.1},
        seed=0,
        score=0.5,
        curve=[0.4, 0.5],
        files={name: sha256(data) for name, data in content.items()},
    )
    ledger.write_trial(record)
    return record


def test_a_committed_trial_is_read_back(ledger: Ledger) -> None:
    record = commit(ledger)
    assert ledger.trial(record.id) == record
    assert record.epochs == 2
    assert ledger.trial("f" * 10) is None


@pytest.mark.parametrize("name", ["trial.json", "folds.parquet", "fold-1.safetensors"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "remove"])
def test_a_damaged_file_makes_the_trial_one_that_has_not_ended(
    ledger: Ledger, tmp_path: Path, name: str, damage: str
) -> None:
    record = commit(ledger)
    path = tmp_path / "trials" / record.id / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        half = len(data) // 2
        damaged = {
            "truncate": data[:-1],
            "empty": b"",
            "flip": data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :],
        }
        path.write_bytes(damaged[damage])
    assert ledger.trial(record.id) is None
    reads = name != "fold-1.safetensors"  # reports do not
    assert (ledger.trial(record.id, weights=False) is None) == reads
    left = None if damage == "remove" else path.read_bytes()
    aside = ledger.put_damage_aside(record.id)
    folder = ledger.trial_storage(record.id)
    assert not folder.exists("trial.json")  # the trial is made again
    if left is not None:
        (kept,) = [other for other in aside if other.startswith(f"{name}.damaged-")]
        assert folder.read(kept) == left
    assert ledger.put_damage_aside(record.id) == []


def test_a_whole_trial_is_left_where_it_is(ledger: Ledger) -> None:
    record = commit(ledger)
    assert ledger.put_damage_aside(record.id) == []
    assert ledger.put_damage_aside("f" * 10) == []
    assert ledger.trial(record.id) == record


def test_damaged_proposals_are_put_aside(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(4):
        ledger.write_suggestion(
            Suggestion(number=number, trial=f"{number:010x}", hyperparameters={"a": number})
        )
    path, further = (tmp_path / f"search/0000{number}.json" for number in (1, 3))
    for damaged in (path, further):
        damaged.write_bytes(damaged.read_bytes()[:-3])
    ledger.put_damaged_suggestions_aside()
    assert [s.number for s in ledger.suggestions()] == [0]
    for damaged in (path, further):
        assert not damaged.exists()
        assert len(list(path.parent.glob(f"{damaged.name}.damaged-*"))) == 1
    ledger.put_damaged_suggestions_aside()  # nothing more to do
    assert (path.parent / "00002.json").exists()


def test_storage_that_fails_is_not_a_trial_that_has_not_ended(
    ledger: Ledger, tmp_path: Path
) -> None:
    record = commit(ledger)
    path = tmp_path / "trials" / record.id / "folds.parquet"
    path.unlink()
    path.mkdir()  # reading it is an error, but not that it is missing
    impatient = Ledger(dataclasses.replace(ledger.storage, waits=()))
    with pytest.raises(OSError, match="folds"):
        impatient.trial(record.id)


def test_every_byte_of_a_sealed_record_counts() -> None:
    data = seal({"score": 0.5, "name": "x"})
    assert unseal(data) == {"score": 0.5, "name": "x"}
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(LedgerError):
            unseal(changed)
    for rubbish in (b"", b"[]", b"{}", b"null", b"\xff"):
        with pytest.raises(LedgerError):
            unseal(rubbish)


def test_proposals_end_before_the_first_that_is_not_whole(ledger: Ledger, tmp_path: Path) -> None:
    made = [Suggestion(number=n, trial=f"{n:010x}", hyperparameters={"a": n / 3}) for n in range(3)]
    for suggestion in made:
        ledger.write_suggestion(suggestion)
    assert ledger.suggestions() == made
    (tmp_path / "search/00001.json").write_bytes(b"{")
    assert ledger.suggestions() == made[:1]


def test_a_folder_that_is_no_sweep(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"holds no sweep.yaml"):
        ledger.sweep()
    (tmp_path / "sweep.yaml").write_text("- 1")
    with pytest.raises(LedgerError, match=r"sweep.yaml is damaged"):
        ledger.sweep()
