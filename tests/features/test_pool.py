"""The pool of processes: crashes, ends of this process, and the same files as any division."""

import functools
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from features import pool
from features.errors import FeatureError
from features.manifest import Manifest, normalise
from features.sets.logmel3d import LogMelConfig
from tests.support.extraction import Crashing, Failing, here, run
from tests.support.signals import noise

CONFIG = LogMelConfig()


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Three speakers with one batch each, and one speaker with two. Noise of several lengths."""
    files, speakers = [], []
    (tmp_path / "audio").mkdir()
    for speaker, utterances in (("a", 3), ("b", 3), ("c", 2), ("d", 20)):
        for u in range(utterances):
            files.append(f"{speaker}{u}.wav")
            speakers.append(speaker)
            samples = noise(2000 + 150 * len(files), seed=len(files))
            soundfile.write(tmp_path / "audio" / files[-1], samples, 16_000)
    columns = {"file": files, "speaker": speakers, "emotion": ["neu"] * len(files)}
    return Manifest(normalise(pa.table(columns)), str(tmp_path / "audio"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.parquet")}


def state() -> tuple[object, ...]:
    """The parts of this process that the pool changes while it starts a worker."""
    names = ("OMP_NUM_THREADS", "PYTHONSAFEPATH")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return [os.environ.get(name) for name in names], sys.modules["__main__"], mask


def test_any_number_of_workers_writes_the_same_files(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # the pool sets it for its workers
    for workers in (1, 3):
        before = state()
        _, calls = run(manifest, tmp_path / str(workers), workers, CONFIG)
        assert [call[0] for call in calls] == list(range(1, 29))
        assert state() == before
        assert len(content(tmp_path / str(workers))) == 5
    assert content(tmp_path / "1") == content(tmp_path / "3")


@pytest.mark.parametrize("times", [1, 3])
def test_a_batch_whose_worker_crashed_is_computed_again(
    manifest: Manifest, tmp_path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(manifest, tmp_path / "whole", config=CONFIG, compute=here)
    monkeypatch.setattr("features.extract.Extractor", Crashing)
    (tmp_path / "audio" / "crash").write_text(f"b1.wav {times}")
    _, calls = run(manifest, tmp_path / "store", 3, CONFIG)
    assert (tmp_path / "audio" / "crashes").read_text() == "x" * times
    assert [call[0] for call in calls] == list(range(1, 29))  # each utterance is told once
    assert content(tmp_path / "store") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("file", "named", "kept", "workers"),
    [
        ("a0.wav", r"a0.wav or one of 2 more recordings", 0, 1),
        ("c1.wav", r"c0.wav or one of 1 more recordings", 6, 2),
        ("d7.wav", r"d6.wav or one of 3 more recordings", 24, 2),
    ],
)
def test_recordings_that_always_crash_a_worker_are_named(
    manifest: Manifest,
    tmp_path: Path,
    file: str,
    named: str,
    kept: int,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("features.extract.Extractor", Crashing)
    (tmp_path / "audio" / "crash").write_text(f"{file} 99")
    with pytest.raises(FeatureError, match=f"crashed 4 times, at last while it read {named}"):
        run(manifest, tmp_path / "store", workers, CONFIG)
    assert (tmp_path / "audio" / "crashes").read_text() == "xxxx"
    monkeypatch.undo()
    # Finished batches are kept.
    _, calls = run(manifest, tmp_path / "store", config=CONFIG, compute=here)
    assert 0 < len(calls) <= 28 - kept
    assert len(content(tmp_path / "store")) == 5


@pytest.mark.parametrize("times", [0, 1])
def test_workers_that_started_early_write_the_same_files(
    manifest: Manifest, tmp_path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if one of them crashes. The pool is used once."""
    run(manifest, tmp_path / "whole", config=CONFIG, compute=here)
    monkeypatch.setattr("features.extract.Extractor", Crashing)
    (tmp_path / "audio" / "crash").write_text(f"b1.wav {times}")
    before = state()
    with pool.Pool(pool.cpus()) as early:
        early.start()
        assert state() == before
        compute = functools.partial(pool.compute, early=early)
        for store in ("first", "second"):
            _, calls = run(manifest, tmp_path / store, None, CONFIG, compute)
            assert [call[0] for call in calls] == list(range(1, 29))
            assert content(tmp_path / store) == content(tmp_path / "whole")
            assert early.closed
    assert not psutil.Process().children(recursive=True)[1:]  # one counts semaphores


def test_an_early_worker_finds_a_module_that_was_named_later(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feature set of the user's own is in a folder that the configuration's check adds."""
    with pool.Pool(pool.cpus()) as early:
        early.start()
        examples = Path(__file__).parents[2] / "examples" / "own_model"
        monkeypatch.setattr(sys, "path", [*sys.path, str(examples)])
        config = importlib.import_module("loudness").LoudnessConfig()
        compute = functools.partial(pool.compute, early=early)
        store, _ = run(manifest, tmp_path / "store", None, config, compute)
    assert store.errors() == []


def test_a_command_can_start_workers_before_its_own_imports() -> None:
    code = "import sys, features.pool; print({'numpy', 'pyarrow', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_an_error_in_our_code_ends_the_run(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.extract.Extractor", Failing)
    with pytest.raises(ZeroDivisionError, match=r"d3\.wav"):
        run(manifest, tmp_path / "store", 2, CONFIG)


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores Ctrl-C
from features.extract import extract
from features.manifest import read_manifest
from features.sets.logmel3d import LogMelConfig
from features.storage import Storage
print("started", flush=True)
{patch}
manifest = read_manifest(sys.argv[1])
extract(manifest, LogMelConfig(), Storage.open(sys.argv[2]), workers=2)
print("done", flush=True)
"""
EARLY = """
import time
from features.pool import Pool
early = Pool(2)
early.start()
time.sleep(600)
"""
SLOW = """
import features.extract
from tests.support.extraction import Slow
features.extract.Extractor = Slow
"""


def script(tmp_path: Path, manifest: Manifest, patch: str = "") -> subprocess.Popen[str]:
    """Start a script without `if __name__ == "__main__"`, in a folder with misleading files."""
    pq.write_table(manifest.table, f"{manifest.root}/manifest.parquet")
    for name in ("numpy", "features", "tempfile", "signal"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of another project')")
    (tmp_path / "scripts").mkdir()
    path = tmp_path / "scripts" / "script.py"
    path.write_text(SCRIPT.format(patch=patch))
    command = [sys.executable, str(path), f"{manifest.root}/manifest.parquet", "store"]
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_script_needs_no_guard_and_its_folder_no_care(manifest: Manifest, tmp_path: Path) -> None:
    run(manifest, tmp_path / "whole", config=CONFIG, compute=here)
    process = script(tmp_path, manifest)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (0, "started\ndone\n", "")
    assert len(content(tmp_path / "store")) == 5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("patch", [SLOW, EARLY], ids=["inside a batch", "without work"])
def test_workers_end_with_the_driver(
    manifest: Manifest, tmp_path: Path, number: signal.Signals, patch: str
) -> None:
    process = script(tmp_path, manifest, patch)
    driver = psutil.Process(process.pid)

    def at_work() -> bool:
        """Whether both workers are inside a batch, or have started.

        A worker that is still starting prints a traceback if the driver dies. A started worker has
        a second thread, which waits for the end of the driver.
        """
        if patch == SLOW:
            return len(list((tmp_path / "store").glob("busy-*"))) == 2
        return sum(child.num_threads() > 1 for child in driver.children(recursive=True)) == 2

    deadline = time.monotonic() + 300
    while not at_work():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = driver.children(recursive=True)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C does
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert out == "started\n"
    _, alive = psutil.wait_procs(workers, timeout=100)
    assert not alive
    assert process.returncode == -number
    assert err.count("Traceback") == (number == signal.SIGINT)  # that of this process
    assert np.all([path.stat().st_size for path in (tmp_path / "store").rglob("*.parquet")])
