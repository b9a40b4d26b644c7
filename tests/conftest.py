"""Fixtures of several packages: a local Ray, a spoken corpus, real speech."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

# Parallel test processes share the CPUs. If they also use threads, OpenMP's threads wait in loops
# for threads that do not run. Processes that a test starts inherit this variable.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray 2.60 adds 15 to the niceness of its workers (ray-project/ray#24928). Beside other busy test
# processes, they get a thirtieth of a core, and the import of transformers takes minutes.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.fixture(scope="session", autouse=True)
def no_frames_left() -> Iterator[None]:
    """Remove the files of frames that the tests have left in the folder for temporary files."""
    began = int(time.time())
    yield
    from features.cache import folder_of, remove_unused

    for path in folder_of(None).glob("frames-*"):
        with suppress(FileNotFoundError):  # removed by another test process
            if path.stat().st_mtime >= began:
                remove_unused(path)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with four CPUs, whatever the machine has, for the whole test session."""
    import ray

    from orchestrator.sweep.ray_compat import TRAIN_ENVIRONMENT, shutdown, without_helpers

    os.environ.update(TRAIN_ENVIRONMENT | {"RAY_BACKEND_LOG_LEVEL": "fatal"})
    with without_helpers():
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            logging_level="error",
            log_to_driver=False,
            # Trials and actors of Ray Data start processes of their own, so Ray's first ones would
            # only import libraries and stay unused.
            _system_config={"prestart_worker_first_driver": False},
        )
    yield
    shutdown()


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a small corpus of three sessions that espeak-ng has spoken."""
    from features.corpora.demo import DemoSettings, make_demo_corpus

    settings = DemoSettings(sessions=3, dialogues=3, turns=12, own=0.2, other=0.2)
    return Path(make_demo_corpus(str(tmp_path_factory.mktemp("spoken") / "corpus"), settings))


@pytest.fixture(scope="session")
def spoken_features(spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with the features of `spoken`, for tests that are not about extraction."""
    from features.storage import Storage
    from orchestrator.config.parsing import parse
    from orchestrator.data.prepare import plan_folds, prepare
    from tests.support.small_sweep import here
    from tests.support.sweeps import sections

    folder = tmp_path_factory.mktemp("extracted")
    for model in ("iaan", "linear_svm", "ssa_crnn_r"):  # one for each set that the tests use
        raw = sections(folder, spoken, model={"name": model}, search=None)
        del raw["training"]
        plan = plan_folds(parse(raw))
        prepare(plan, Storage.open(raw["storage"]), lambda *_: None, here)
    return folder / "runs"


@pytest.fixture(scope="session")
def nemo() -> Path:
    """The folder of nEMO: real speech, whose licence keeps it out of this repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "nemo"
    root = Path(os.environ.get("SER_NEMO", default))
    if not (root / "manifest.csv").is_file():
        pytest.skip("nEMO is not on this machine: set SER_NEMO to its folder")
    return root
