"""`ser export --optuna`: the new file, and the refusal of a file that exists."""

from pathlib import Path

import optuna

from tests.orchestrator.cli.conftest import Command
from tests.orchestrator.results.test_optuna_file import SPACE
from tests.support.made_sweep import make_sweep


def test_a_study_is_written_and_no_file_is_overwritten(tmp_path: Path, command: Command) -> None:
    make_sweep(tmp_path / "sweep", ["complete", "failed"], folds=2, extra={"space": SPACE})
    path = tmp_path / "study.db"
    done = command("export", tmp_path / "sweep", "--optuna", path)
    assert (done.returncode, done.stdout) == (0, f"2 trials in {path}\n"), done.stderr
    data = path.read_bytes()
    assert len(optuna.load_study(study_name=None, storage=f"sqlite:///{path}").trials) == 2
    refused = command("export", tmp_path / "sweep", "--optuna", path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"--optuna: {path} exists already" in refused.stderr
    assert path.read_bytes() == data
