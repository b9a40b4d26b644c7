"""Who computes features: processes of this machine, or the cluster's workers."""

import multiprocessing
import os
import subprocess
import sys

import psutil
import pytest

from features import pool
from orchestrator.sweep.extraction import early_extraction, extraction


def test_without_a_cluster_the_extraction_imports_no_ray() -> None:
    code = """
import sys
import orchestrator.cli.commands, orchestrator.data.corpus
from features import pool
from orchestrator.sweep.extraction import extraction
print(extraction() is pool.compute, "ray" in sys.modules)
"""
    environment = {name: v for name, v in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\n"


def test_the_cluster_at_ray_address_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert extraction() is not pool.compute


@pytest.mark.usefixtures("ray_cluster")
def test_a_ray_that_is_initialised_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert extraction() is not pool.compute


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another test has initialised Ray in this process."""
    monkeypatch.setattr("orchestrator.sweep.extraction.extraction", lambda: pool.compute)


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("failing", ["Pipe", "get_context"])
def test_without_room_for_processes_the_work_decides(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command without missing features needs no process."""

    def refuse(*args: object, **options: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing, failing, refuse)
    with early_extraction() as compute:
        assert compute is pool.compute


@pytest.mark.usefixtures("no_cluster")
def test_processes_that_start_early_end_with_the_context() -> None:
    with early_extraction():
        workers = psutil.Process().children()
        assert sum("spawn_main" in " ".join(worker.cmdline()) for worker in workers) >= 1
    assert not [w for w in psutil.Process().children() if "spawn_main" in " ".join(w.cmdline())]
