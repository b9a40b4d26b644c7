"""A sweep's folder: complete records are read back, and damaged files are found and renamed."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.storage import Storage
from orchestrator.errors import LedgerError, NoSweepError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, TrialRecord
from orchestrator.ledger.seals import seal, sha256, unseal
from tests.support.made_sweep import make_sweep

TRIAL = "0123456789"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Storage.open(str(tmp_path)))


def commit(ledger: Ledger, trial: str = TRIAL, **changes: Any) -> TrialRecord:
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
    ).model_copy(update=changes)
    ledger.write_trial(record)
    return record


def test_a_committed_trial_is_read_back(ledger: Ledger) -> None:
    record = commit(ledger)
    assert ledger.trial(record.id) == record
    assert record.epochs == 2
    assert ledger.trial("f" * 10) is None


@pytest.mark.parametrize("name", ["trial.json", "folds.parquet", "fold-1.safetensors"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "remove"])
def test_a_trial_with_a_damaged_file_is_not_finished(
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
    reports_read_it = name != "fold-1.safetensors"
    assert (ledger.trial(record.id, weights=False) is None) == reports_read_it
    # The record alone does not show damage of other files: `ser status` does not look for it.
    assert (ledger.record(record.id) is None) == (name == "trial.json")
    left = None if damage == "remove" else path.read_bytes()
    renamed = ledger.rename_damage(record.id)
    folder = ledger.trial_storage(record.id)
    assert not folder.exists("trial.json")  # so the sweep trains the trial again
    if left is not None:
        (kept,) = [other for other in renamed if other.startswith(f"{name}.damaged-")]
        assert folder.read(kept) == left
    assert ledger.rename_damage(record.id) == []


def test_a_whole_trial_is_not_renamed(ledger: Ledger) -> None:
    record = commit(ledger)
    assert ledger.rename_damage(record.id) == []
    assert ledger.rename_damage("f" * 10) == []
    assert ledger.trial(record.id) == record


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"files": {"../../x": "0" * 64}}, id="path out of the folder"),
        pytest.param({"files": {"/etc/passwd": "0" * 64}}, id="absolute path"),
        pytest.param({"files": {"a\0b": "0" * 64}}, id="NUL in a name"),
        pytest.param({"files": {".hidden": "0" * 64}}, id="hidden file"),
        pytest.param({"id": "ffffffffff"}, id="another trial"),
        pytest.param({"status": "great"}, id="unknown status"),
        pytest.param({"status": "failed"}, id="failed with a score"),
        pytest.param({"more": 1}, id="unknown field"),
    ],
)
def test_a_record_of_another_form_counts_as_damaged(
    ledger: Ledger, tmp_path: Path, change: dict[str, Any]
) -> None:
    outside = tmp_path.parent / "x"
    outside.write_bytes(b"not ours")
    commit(ledger)
    folder = ledger.trial_storage(TRIAL)
    folder.write("trial.json", seal({**unseal(folder.read("trial.json")), **change}))
    assert ledger.record(TRIAL) is None
    (renamed,) = ledger.rename_damage(TRIAL)
    assert renamed.startswith("trial.json.damaged-")
    assert outside.read_bytes() == b"not ours"


@pytest.mark.parametrize(
    "trial", ["../../x", "a/b", "", "0123ABCDEF", "00000000000", "0" * 10 + "\n"]
)
def test_a_trial_has_an_id_of_ten_hex_digits(ledger: Ledger, trial: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Proposal(number=1, trial=trial, hyperparameters={})
    with pytest.raises(LedgerError, match="is not a trial's id"):
        ledger.trial(trial)
    proposal = {"number": 0, "trial": trial, "hyperparameters": {}}
    ledger.storage.write("search/00000.json", seal(proposal))
    assert ledger.proposals() == []


def propose(ledger: Ledger, count: int) -> list[Proposal]:
    proposals = [
        Proposal(number=n, trial=f"{n:010x}", hyperparameters={"a": n / 3}) for n in range(count)
    ]
    for proposal in proposals:
        ledger.write_proposal(proposal)
    return proposals


def test_proposals_end_before_the_first_damaged_one(ledger: Ledger, tmp_path: Path) -> None:
    proposals = propose(ledger, 4)
    assert ledger.proposals() == proposals
    path, later = (tmp_path / f"search/0000{number}.json" for number in (1, 3))
    for damaged in (path, later):
        damaged.write_bytes(damaged.read_bytes()[:-3])
    assert ledger.proposals() == proposals[:1]
    ledger.rename_damaged_proposals()
    assert ledger.proposals() == proposals[:1]
    for damaged in (path, later):
        assert not damaged.exists()
        assert len(list(path.parent.glob(f"{damaged.name}.damaged-*"))) == 1
    ledger.rename_damaged_proposals()  # a second call finds nothing
    assert (path.parent / "00002.json").exists()


def test_a_proposal_of_another_number_is_damaged(ledger: Ledger) -> None:
    propose(ledger, 1)
    ledger.storage.write("search/00001.json", ledger.storage.read("search/00000.json"))
    assert [proposal.number for proposal in ledger.proposals()] == [0]


def test_a_failing_storage_is_not_an_unfinished_trial(ledger: Ledger, tmp_path: Path) -> None:
    record = commit(ledger)
    path = tmp_path / "trials" / record.id / "folds.parquet"
    path.unlink()
    path.mkdir()  # reading a folder is an error, but the file is not missing
    impatient = Ledger(dataclasses.replace(ledger.storage, waits=()))
    with pytest.raises(OSError, match="folds"):
        impatient.trial(record.id)


class TestSweep:
    """sweep.json, and its copy sweep.yaml."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Ledger:
        return make_sweep(tmp_path / "sweep", ["complete"], folds=2, utterances=24)

    def test_it_is_read_back_and_copied_for_people(self, made: Ledger) -> None:
        record = made.sweep()
        assert made.has_sweep()
        assert record.model == "iaan"
        assert record.selection == "validation"
        text = made.storage.read("sweep.yaml").decode()
        assert yaml.safe_load(text) == record.model_dump(mode="json")
        made.storage.write("sweep.yaml", b"!!python/object/apply:os.system ['false']")
        assert made.sweep() == record

    def test_a_folder_without_a_sweep(self, ledger: Ledger) -> None:
        assert not ledger.has_sweep()
        with pytest.raises(NoSweepError, match=r"has no sweep\.json"):
            ledger.sweep()

    def test_damage_is_named_with_the_remedy(self, made: Ledger) -> None:
        data = made.storage.read("sweep.json")
        made.storage.write("sweep.json", data.replace(b'"iaan-loso"', b'"iaan-lose"'))
        with pytest.raises(LedgerError, match=r"sweep\.json is damaged: .*SHA-256.*Restore it"):
            made.sweep()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"format": 1}, "has format 1, and this program reads", id="older format"),
            pytest.param({"format": 99}, "has format 99", id="newer format"),
            pytest.param({"classes": "neu"}, "damaged: classes: ", id="classes are not a list"),
            pytest.param({"lag": 0}, "damaged: lag: ", id="lag of zero"),
            pytest.param({"audit": None}, "damaged: audit: ", id="no audit"),
            pytest.param({"taken": [{"trial": "../x", "point": {}}]}, "damaged: taken", id="path"),
            pytest.param({"configuration": {}}, "no section corpus", id="no configuration"),
            pytest.param({"more": 1}, "damaged: more: ", id="unknown field"),
        ],
    )
    def test_a_record_of_another_form(
        self, made: Ledger, change: dict[str, Any], message: str
    ) -> None:
        content = unseal(made.storage.read("sweep.json"))
        made.storage.write("sweep.json", seal({**content, **change}))
        with pytest.raises(LedgerError, match=message):
            made.sweep()

    def test_every_field_of_the_record_is_required_but_newer_ones(self, made: Ledger) -> None:
        content = unseal(made.storage.read("sweep.json"))
        for name in content.keys() - {"feature_files", "taken", "forked_from", "format"}:
            rest = {key: value for key, value in content.items() if key != name}
            made.storage.write("sweep.json", seal(rest))
            with pytest.raises(LedgerError, match=f"damaged: {name}: Field required"):
                made.sweep()
