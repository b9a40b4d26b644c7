"""Who computes features: processes of this machine, or the cluster's workers."""

import os
import subprocess
import sys

import pytest

from features import pool
from orchestrator.sweep.extraction import extraction


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
