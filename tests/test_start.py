"""The start of `ser` in folders with files that have the names of its packages."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SER = Path(sys.executable).parent / "ser"
MODULE = [sys.executable, "-m", "orchestrator.cli"]
PACKAGES = ("features", "orchestrator", "search_spaces", "ser_models")


def start(
    command: list[str | Path], cwd: Path, search: Path | str = ""
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = kept | ({"PYTHONPATH": str(search)} if search else {})
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=100
    )


def package(folder: Path, name: str) -> Path:
    (folder / name).mkdir(parents=True)
    file = folder / name / "__init__.py"
    file.write_text("raise RuntimeError('a file of another project')")
    return file


def script(folder: Path, name: str) -> Path:
    file = folder / f"{name}.py"
    file.write_text("raise RuntimeError('a file of another project')")
    return file


@pytest.mark.parametrize("make", [script, package])
def test_files_in_the_working_directory_are_not_in_the_way(
    tmp_path: Path, spoken: Path, make: Callable[[Path, str], Path]
) -> None:
    for name in (*PACKAGES, "torch", "numpy", "ray", "yaml"):
        make(tmp_path, name)
    done = start([SER, "corpus", "manifest", spoken], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no problems" in done.stdout


def test_python_m_does_not_import_from_the_working_directory(tmp_path: Path, spoken: Path) -> None:
    for name in ("features", "search_spaces", "ser_models", "numpy", "yaml"):
        script(tmp_path, name)
    done = start([*MODULE, "corpus", "manifest", spoken], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no problems" in done.stdout


CASES = [
    *((package, name) for name in PACKAGES),
    *((script, name) for name in (*PACKAGES, "torch", "numpy", "ray")),
]


@pytest.mark.parametrize(("make", "name"), CASES, ids=[f"{m.__name__}-{n}" for m, n in CASES])
def test_a_file_on_pythonpath_that_hides_a_package_is_named(
    tmp_path: Path, make: Callable[[Path, str], Path], name: str
) -> None:
    file = make(tmp_path, name)
    done = start([SER, "--version"], tmp_path, search=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ser: {file} hides the package {name}")
    assert "PYTHONPATH" in line


def test_an_empty_entry_of_pythonpath_is_the_working_directory(tmp_path: Path) -> None:
    file = script(tmp_path, "features")
    for command in ([SER, "--version"], [*MODULE, "--version"]):
        done = start(command, tmp_path, search=f":{tmp_path / 'nothing'}")
        assert done.returncode == 1
        assert done.stderr.startswith(f"ser: {file} hides the package features")


def test_other_folders_on_pythonpath_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "features" / "wav").mkdir(parents=True)  # Python prefers packages to such folders
    script(tmp_path, "my_features")
    done = start([SER, "--version"], tmp_path, search=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ser ")
