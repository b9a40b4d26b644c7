"""Content that is hostile and rightly sealed: whoever writes to a storage can compute SHA-256 too.

None of it may run code, reach outside its folder, or end in anything but a message or in the file
set aside and the work done again.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.made_sweep import make_sweep
from safetensors import SafetensorError
from safetensors.torch import load as load_weights

from features.storage import Storage
from orchestrator.ledger import lease as leases
from orchestrator.config.sections import ConfigError, load
from orchestrator.ledger.ledger import (
    Ledger,
    LedgerError,
    Suggestion,
    parquet_bytes,
    seal,
    sha256,
    unseal,
)
from orchestrator.report import build, summary
from search_spaces import SpaceError, load_space


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make_sweep(tmp_path / "sweep", ["complete", "complete"], folds=2, utterances=24)


NAMES = ["../../x", "/etc/passwd", "a/b", "a\0b", ".hidden", "", "..", "x" * 300, "a\nb", "a\\b"]


class TestTrials:
    """trial.json and the proposals."""

    def plant(self, ledger: Ledger, change: dict[str, Any], trial: str = "0" * 10) -> None:
        folder = ledger.trial_storage(trial)
        folder.write("trial.json", seal({**unseal(folder.read("trial.json")), **change}))

    @pytest.mark.parametrize(
        "change",
        [
            *({"files": {name: "0" * 64}} for name in NAMES),
            *({"id": name} for name in [*NAMES, "ffffffffff", "0123ABCDEF", None, 5]),
            {"files": {"folds.parquet": "short"}},
            {"files": ["folds.parquet"]},
            {"number": -1},
            {"number": 10**30},
            {"seed": 10**30},
            {"status": "great"},
            {"status": "failed"},
            {"score": "high"},
            {"hyperparameters": None},
            {"more": 1},
        ],
    )
    def test_a_record_counts_as_damage(self, ledger: Ledger, change: dict[str, Any]) -> None:
        outside = Path(ledger.storage.root).parent / "x"
        outside.write_bytes(b"not ours")
        self.plant(ledger, change)
        assert ledger.trial("0" * 10) is None
        assert [record.id for record in ledger.trials()] == ["0000000001"]
        (aside,) = ledger.put_damage_aside("0" * 10)
        assert aside.startswith("trial.json.damaged-")
        assert not ledger.trial_storage("0" * 10).exists("trial.json")
        assert outside.read_bytes() == b"not ours"
        build(ledger)
        assert summary(ledger)["trials"]["unfinished"] == 1

    @pytest.mark.parametrize("data", [b"[" * 100_000, b'{"sha256":' + b"9" * 5000 + b"}"])
    def test_json_without_end(self, ledger: Ledger, data: bytes) -> None:
        ledger.trial_storage("0" * 10).write("trial.json", data)
        assert ledger.trial("0" * 10) is None
        assert len(ledger.put_damage_aside("0" * 10)) == 1

    @pytest.mark.parametrize("trial", [*NAMES, "0123ABCDEF", "00000000000", "0000000001\n"])
    def test_a_proposal_of_an_odd_trial(self, ledger: Ledger, trial: str) -> None:
        with pytest.raises(ValueError, match="pattern"):
            Suggestion(number=1, trial=trial, hyperparameters={})
        with pytest.raises(LedgerError, match="not a trial's id"):
            ledger.trial(trial)
        ledger.storage.write(
            "search/00001.json", seal({"number": 1, "trial": trial, "hyperparameters": {}})
        )
        assert [s.number for s in ledger.suggestions()] == [0]
        ledger.put_damaged_suggestions_aside()
        assert ledger.storage.list("search")[1].startswith("search/00001.json.damaged-")

    def test_a_proposal_of_another_number(self, ledger: Ledger) -> None:
        ledger.storage.write("search/00001.json", ledger.storage.read("search/00000.json"))
        assert [s.number for s in ledger.suggestions()] == [0]

    @pytest.mark.parametrize("name", ["folds", "predictions"])
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda table: pa.table({"a": [1]}),
            lambda table: table.slice(0, 0),
            lambda table: table.set_column(0, "fold", pa.array([1] * len(table))),
            lambda table: table.set_column(0, "fold", pa.nulls(len(table), pa.string())),
            lambda table: table.slice(0, 1),
            lambda table: None,
        ],
    )
    def test_a_table(
        self, ledger: Ledger, name: str, spoil: Callable[[pa.Table], pa.Table | None]
    ) -> None:
        """The report says which file makes no sense, and what to do; and does not break."""
        folder = ledger.trial_storage("0" * 10)
        table = spoil(pq.read_table(pa.BufferReader(folder.read(f"{name}.parquet"))))
        data = b"PAR1" * 9 if table is None else parquet_bytes(table)
        folder.write(f"{name}.parquet", data)
        files = ledger.trial("0000000001").files | {
            n: sha256(folder.read(n)) for n in ("folds.parquet", "predictions.parquet")
        }
        self.plant(ledger, {"files": files, "score": 0.99})
        assert ledger.trial("0" * 10) is not None  # rightly sealed
        with pytest.raises(LedgerError, match=rf"{name}\.parquet is not .*; rename .*trial\.json"):
            build(ledger)

    def test_predictions_of_other_classes(self, ledger: Ledger) -> None:
        folder = ledger.trial_storage("0" * 10)
        table = ledger.predictions("0" * 10)
        odd = table.set_column(3, "truth", pa.array(["<b>"] * len(table)))
        folder.write("predictions.parquet", parquet_bytes(odd))
        files = ledger.trial("0000000001").files | {
            n: sha256(folder.read(n)) for n in ("folds.parquet", "predictions.parquet")
        }
        self.plant(ledger, {"files": files, "score": 0.99})
        with pytest.raises(LedgerError, match="'<b>' is no class of the sweep"):
            summary(ledger)

    def test_two_trials_of_one_number(self, ledger: Ledger) -> None:
        self.plant(ledger, {"number": 1})
        with pytest.raises(LedgerError, match="its number 1 is also 0000000000's"):
            summary(ledger)

    def test_missing_tables(self, ledger: Ledger) -> None:
        self.plant(ledger, {"files": {}})
        ledger.trial_storage("0" * 10).delete("folds.parquet")
        with pytest.raises(LedgerError, match=r"folds\.parquet is not what a trial leaves"):
            summary(ledger)

    def test_weights_with_a_lying_header(self) -> None:
        """Nothing of ours reads weights; what does is `safetensors`, and this is why."""
        for header in (
            {"w": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]}},
            {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**40]}},
            {"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
        ):
            text = json.dumps(header).encode()
            for size in (len(text), 2**62):
                with pytest.raises(SafetensorError):
                    load_weights(size.to_bytes(8, "little") + text + bytes(4))


def bomb(levels: int = 60) -> str:
    """Two to the power of `levels` values in a few lines."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels)]
    return "\n".join(lines)


YAMLS = {
    "code": "name: !!python/object/apply:os.system ['touch {owned}']",
    "new": "name: !!python/object/new:os.system ['touch {owned}']",
    "module": "name: !!python/module:antigravity",
    "deep": "[" * 100_000,
    "deep block": "- " * 100_000,
    "bomb": bomb(),
    "itself": "&a [*a]",
    "date": "name: 2001-99-99",
    "number": "name: !!int x",
    "key": "? [a]\n: b",
    "nul": "name: \0",
    "two": "a: 1\n---\nb: 2",
    "torn": "{a: b",
}


class TestYaml:
    """sweep.yaml, configurations and search spaces."""

    @pytest.mark.parametrize("name", YAMLS)
    @pytest.mark.parametrize("sealed", [True, False])
    def test_sweep_yaml(self, ledger: Ledger, tmp_path: Path, name: str, sealed: bool) -> None:
        text = YAMLS[name].replace("{owned}", str(tmp_path / "owned")).encode()
        if sealed:
            data = b"# The last line is the SHA-256 of those before it.\n" + text + b"\n"
            text = data + f"# sha256: {sha256(data)}\n".encode()
        ledger.storage.write("sweep.yaml", text)
        with pytest.raises(LedgerError, match=r"sweep\.yaml is damaged: .*restore it from a copy"):
            ledger.sweep()
        with pytest.raises(LedgerError):
            build(ledger)
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("name", YAMLS)
    def test_a_configuration(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(YAMLS[name].replace("{owned}", str(tmp_path / "owned")))
        with pytest.raises(ConfigError, match=r"config\.yaml: "):
            load(str(path))
        value = YAMLS["code"].removeprefix("name: ").replace("{owned}", str(tmp_path / "owned"))
        path.write_text("{}")
        with pytest.raises(ConfigError, match="is not a YAML value"):
            load(str(path), [f"name={value}"])
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("name", YAMLS)
    def test_a_search_space(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "space.yaml"
        path.write_text(YAMLS[name].replace("{owned}", str(tmp_path / "owned")))
        with pytest.raises(SpaceError, match=r"space\.yaml: "):
            load_space(str(path))
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("name", ["a\0b", "../" * 20, "/dev/null/x", "x" * 5000])
    def test_a_search_space_of_an_odd_name(self, name: str) -> None:
        with pytest.raises(SpaceError, match="no space"):
            load_space(name)

    @pytest.mark.parametrize(
        "change",
        [
            {"name": ["x"]},
            {"configuration": []},
            {"classes": "neu"},
            {"folds": 5},
            {"notes": {"a": 1}},
            {"lag": 0},
            {"lag": "1"},
            {"versions": {"torch": ["2"]}},
            {"taken": [{"trial": "../x", "point": {}}]},
            {"taken": [{"trial": "0" * 10}]},
            {"audit": {"folds": [{}]}},
        ],
    )
    def test_values_of_other_types(self, ledger: Ledger, change: dict[str, Any]) -> None:
        ledger.write_sweep({**ledger.sweep(), **change})
        with pytest.raises(LedgerError, match=r"sweep\.yaml is damaged: "):
            build(ledger)

    def test_a_key_that_is_not_there(self, ledger: Ledger) -> None:
        content = dict(ledger.sweep())
        del content["configuration"]
        ledger.write_sweep(content)
        with pytest.raises(LedgerError, match="it has no configuration; restore it"):
            ledger.sweep()["configuration"]
        build(ledger)  # needs none


@pytest.mark.parametrize(
    "change",
    [
        {"pid": "1"},
        {"pid": [1]},
        {"pid": 10**40},
        {"pid": 0},
        {"pid": -1},
        {"pid": None},
        {"host": ["x"]},
        {"host": None},
        {"token": 5},
        {"beat": "x"},
        {"more": 1},
    ],
)
def test_a_lease_of_odd_types_holds_nobody_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    def kill(pid: int, signal: int) -> None:
        raise AssertionError(f"asked after {pid}")

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(leases, "BEAT", 0.02)
    storage = Storage.open(str(tmp_path))
    holder = {"host": leases.socket.gethostname(), "pid": os.getpid(), "token": "x", "beat": 1}
    storage.write(leases.NAME, seal({**holder, **change}))
    with leases.lease(storage):
        assert b'"x"' not in storage.read(leases.NAME)


def test_a_lease_cannot_steer_a_terminal(tmp_path: Path) -> None:
    holder = leases.Holder(host="a\x1b[2J\nb" + "c" * 1000, pid=1, token="x")
    message = str(leases._refusal(Storage.open(str(tmp_path)), holder))
    assert "process 1 on a?[2J?bccc" in message
    assert message.isprintable()
    assert len(message) < 600


SCRIPT = "</script><script>alert(1)</script>"


class TestReport:
    """Names of a corpus in the page and in the tables."""

    def test_markup_is_text(self, tmp_path: Path) -> None:
        classes = ["<img src=x onerror=alert(1)>", "<b>hap</b>", SCRIPT, "sad & 'x' \"y\""]
        ledger = make_sweep(
            tmp_path, ["complete", "failed"], folds=2, utterances=24, classes=classes,
            speaker=SCRIPT + "{}{}", name=SCRIPT,
            extra={"notes": [SCRIPT], "commit": SCRIPT, "versions": {SCRIPT: SCRIPT}},
        )  # fmt: skip
        record = ledger.trial("0000000001")
        assert record is not None
        chosen = {SCRIPT: SCRIPT, "<i>": ["<u>"]}
        ledger.write_trial(
            record.model_copy(update={"reason": SCRIPT, "model": SCRIPT, "hyperparameters": chosen})
        )
        build(ledger)
        page = ledger.storage.read("report/index.html").decode()
        assert "alert(1)" in page
        for tag in ("<script>alert", "<img src=x", "<b>hap", "<u>", "<i>"):
            assert tag not in page
        # What plotly is given is its own little HTML: there too a name is text.
        parts = page.split('<script type="application/json"')[1:]
        assert len(parts) > 2
        for part in parts:
            figure = json.loads(part.partition(">")[2].partition("</script>")[0])
            labels = json.dumps(figure).replace("<br>", "").replace("<extra>", "")
            assert "<" not in labels.replace("</extra>", "")

    def test_no_cell_is_a_formula(self, tmp_path: Path) -> None:
        odd = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3"]
        ledger = make_sweep(tmp_path, ["complete", "failed"], folds=2, utterances=24, classes=odd)
        record = ledger.trial("0000000001")
        assert record is not None
        chosen = {"=a": "=HYPERLINK(1)", "b": -0.5, "c": "-1e-05", "d": "\t=1", "e": "-x"}
        ledger.write_trial(record.model_copy(update={"reason": "=1", "hyperparameters": chosen}))
        build(ledger)
        lines = ledger.storage.read("report/trials.csv").decode().splitlines()
        assert '"\'=a"' in lines[0]
        for cell in ('"\'=1"', '"\'=HYPERLINK(1)"', '"-0.5"', '"-1e-05"', '"\'\t=1"', '"\'-x"'):
            assert f",{cell}" in lines[2]
        numbers = ledger.storage.read("report/folds.csv").decode()
        assert "'0." not in numbers
