"""`ser report` with several sweeps: the page of a study, and wrong use."""

import json
from pathlib import Path

import pytest

from tests.orchestrator.cli.conftest import Command
from tests.support.made_study import made


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for name in ("iaan", "bigru_att"):
        made(tmp_path, name)
    return [tmp_path / "iaan", tmp_path / "bigru_att"]


def test_one_sweep_has_its_own_report(folders: list[Path], command: Command) -> None:
    done = command("report", folders[0])
    assert done.returncode == 0
    assert f"{folders[0]}/report/index.html" in done.stdout.splitlines()


@pytest.mark.parametrize("count", [1, 2])
def test_to_writes_the_page_of_a_study(
    folders: list[Path], tmp_path: Path, command: Command, count: int
) -> None:
    done = command("report", *folders[:count], "--to", tmp_path / "my study")
    assert done.returncode == 0
    names = done.stdout.splitlines()
    assert f"{tmp_path}/my study/index.html" in names
    assert all(Path(name).exists() for name in names)
    assert "<h1>my study</h1>" in (tmp_path / "my study/index.html").read_text()
    assert "iaan" in done.stderr


def test_json_has_the_comparison(folders: list[Path], tmp_path: Path, command: Command) -> None:
    done = command("report", *folders, "--to", tmp_path / "study", "--json")
    values = json.loads(done.stdout)
    assert values["models"][0]["sweep"] == "iaan"
    assert values["pairs"][0]["differs"] in (True, False)
    assert values["study"] == "study"


def test_wrong_use_says_what_to_do(folders: list[Path], tmp_path: Path, command: Command) -> None:
    made(tmp_path / "other", "rand_iaan", folds=4)
    other = tmp_path / "other/rand_iaan"
    to = ("--to", tmp_path / "study")
    for arguments, message in (
        (folders, "--to: 2 sweeps make one page. Say where to write it"),
        ([*folders, folders[0], *to], "iaan is given twice"),
        ([folders[0], other, *to], "number of folds: 5 in iaan, but 4 in rand_iaan"),
        ([*folders, "--to", folders[0]], "Choose another folder"),
        ([folders[0], tmp_path / "gone", *to], "sweep.json"),
    ):
        done = command("report", *arguments)
        assert done.returncode == 2, arguments
        (line,) = done.stderr.splitlines()
        assert message in line
    assert not (tmp_path / "study").exists()
