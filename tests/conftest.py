import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray of two CPUs, for the whole session."""
    import ray

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def nemo() -> Path:
    """The nEMO corpus: real speech, under a licence that keeps it out of this repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "nemo"
    root = Path(os.environ.get("SER_NEMO", default))
    if not (root / "manifest.csv").is_file():
        pytest.skip("nEMO is not here: set SER_NEMO to its folder")
    return root
