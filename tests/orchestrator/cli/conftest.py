import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from features import pool
from orchestrator.cli import main
from orchestrator.sweep import extraction

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a `ser` command inside this process. With the fixture `ray_cluster`, it uses that Ray."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        line = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["ser", *line])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        output = capfd.readouterr()
        code = int(ended.value.code or 0)
        return subprocess.CompletedProcess(line, code, output.out, output.err)

    return run


@pytest.fixture
def extracted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extract in processes of this machine, even if a test has started a Ray in this process."""
    monkeypatch.setattr(extraction, "_compute_on_cluster", pool.compute)
