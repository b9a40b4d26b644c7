"""What the fault tests share: a small sweep on disk or on S3, its processes, and what was lost.

Nothing here is mocked: `ser` runs as a user runs it, and is compared with a run that nothing
disturbed. A result is lost where a trial's record or files differ from that run's, or where a
trial that had ended was trained again.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pyarrow.fs as pafs
import pytest
import yaml

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger

SER = [sys.executable, "-m", "orchestrator.cli"]
NAME = "faulty"
PATIENCE = 400.0
"""Seconds for anything to happen; a test that waits longer fails."""
QUICK = {
    # Of Ray, which else gives a lost head a minute and lost workers' places another.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "8",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
}

S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "S3RVER",
    "AWS_SECRET_ACCESS_KEY": "S3RVER",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Else s3rver stores the checksum's framing bytes as part of the object.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


@dataclass
class Place:
    """Where a sweep lies, and the environment of what runs it.

    root : a local folder or an URI, which holds the sweep's folder
    scratch : a local folder for configurations and logs
    prepared : where the corpus's features lie already, if that is not beside the reference
    """

    kind: str
    root: str
    corpus: str
    scratch: Path
    environment: dict[str, str] = field(default_factory=dict)
    prepared: str | None = None

    @property
    def ledger(self) -> Ledger:
        return Ledger(Storage.open(self.root).child(NAME))

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **QUICK, **self.environment}

    def configure(self, **sections: Any) -> Path:
        """A configuration file: the common sweep, with some of its sections changed."""
        raw: dict[str, Any] = {
            "name": NAME,
            "storage": self.root,
            "corpus": {"root": self.corpus, "classes": ["ang", "hap", "neu", "sad"]},
            "model": {"name": "iaan", "hidden_size": 8, "attention_size": 8},
            "training": {"epochs": 6, "learning_rate": 0.003, "checkpoint_every": 0},
            "search": {"space": "iaan_small", "trials": 3, "grace_epochs": 2},
            "cluster": {"concurrent_trials": 2},
        }
        for section, values in sections.items():
            raw[section] = {**raw.get(section, {}), **values}
        path = self.scratch / "config.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    @contextmanager
    def driver(self, config: Path) -> Iterator[psutil.Popen]:
        """`ser sweep` at work; whatever of it still runs at the end is killed."""
        with open(self.scratch / "driver.log", "ab") as log:
            process = psutil.Popen(
                [*SER, "sweep", str(config)],
                stdout=log,
                stderr=log,
                env=self._environment(),
                cwd=self.scratch,
            )
        try:
            yield process
        finally:
            kill(process)

    def run(self, config: Path, command: str = "sweep") -> subprocess.CompletedProcess[str]:
        """`ser sweep`, or another command, to its end."""
        return subprocess.run(
            [*SER, command, str(config)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=self._environment(),
            cwd=self.scratch,
        )

    def begin(self, reference: "Reference", trials: int) -> None:
        """Put here what the undisturbed run had when `trials` of its trials had ended.

        With 0 it is the features alone.
        """
        source = Storage.open(self.prepared or reference.place.root)
        _copy(source, Storage.open(self.root), "features")
        if not trials:
            return
        ledger, here = reference.place.ledger, self.ledger.storage
        _copy(ledger.storage, here, "sweep.yaml")
        for suggestion in ledger.suggestions()[:trials]:
            _copy(ledger.storage, here, f"search/{suggestion.number:05d}.json")
            _copy(ledger.storage, here, f"trials/{suggestion.trial}")

    def finish(self, config: Path) -> str:
        """The same command until it is done, as its messages ask for; what it said."""
        said = ""
        for _ in range(3):
            done = self.run(config)
            said += done.stderr
            if done.returncode == 0:
                return said
            assert done.returncode == 1, done.stderr
            assert "Traceback" not in done.stderr, done.stderr
        raise AssertionError(f"three runs did not end the sweep:\n{said}")

    def records(self) -> dict[str, bytes]:
        """trial.json of each ended trial."""
        trials = self.ledger.storage.child("trials")
        names = [name for name in trials.list() if trials.exists(f"{name}/trial.json")]
        return {name: trials.read(f"{name}/trial.json") for name in names}

    def checkpoints(self) -> list[str]:
        """The newest whole checkpoint of each trial that has not ended, as `<id>/<folder>`."""
        trials = self.ledger.storage.child("trials")
        names = [n.removesuffix("/manifest.json") for n in trials.list(recursive=True)
                 if n.endswith("/manifest.json")]  # fmt: skip
        newest = {name.split("/")[0]: name for name in sorted(names)}
        return [name for trial, name in newest.items() if not trials.exists(f"{trial}/trial.json")]

    def outcome(self) -> dict[str, Any]:
        """Everything of the sweep but its timings: proposals, records, every file's bytes."""
        ledger = self.ledger
        found: dict[str, Any] = {"proposals": ledger.suggestions()}
        for record in ledger.trials():
            folder = ledger.trial_storage(record.id)
            files = {name: folder.read(name) for name in record.files}
            found[record.id] = (record.model_copy(update={"seconds": 0.0}), files)
        return found

    def lost(self, expected: dict[str, object], ended: dict[str, bytes]) -> int:
        """Results that differ from the undisturbed run's, and trials of `ended` trained again."""
        now, records = self.outcome(), self.records()
        wrong = sum(now.get(key) != expected.get(key) for key in now.keys() | expected.keys())
        again = sum(records.get(name) != record for name, record in ended.items())
        return wrong + again


@dataclass(frozen=True)
class Reference:
    """A sweep that nothing disturbed, and its `Place.outcome`."""

    place: Place
    outcome: dict[str, Any]


def _copy(source: Storage, target: Storage, name: str) -> None:
    """A file, or a folder with all in it."""
    selector = pafs.FileSelector(source.path(name), allow_not_found=True, recursive=True)
    try:
        infos = source.filesystem.get_file_info(selector)
    except NotADirectoryError:
        infos = []
    files = [info.path for info in infos if info.type == pafs.FileType.File]
    for file in files or [source.path(name)]:
        here = file.removeprefix(f"{source.root}/")
        target.write(here, source.read(here))


def kill(process: psutil.Process) -> None:
    """SIGKILL a process, and after it what it had started, which would end by itself later."""
    try:
        children = process.children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(children, timeout=20)
    for child in alive:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


def wait(
    until: Callable[[], Any], process: psutil.Popen | None = None, looking: float = 0.1
) -> Any:
    """What `until` returns once it is true; None where `process` ended before.

    looking : the share of the time that goes into it; it slows what is waited for, on S3 most
    """
    deadline = time.monotonic() + PATIENCE
    while (began := time.monotonic()) < deadline:
        if found := until():
            return found
        if process is not None and process.poll() is not None:
            return None
        time.sleep(max(0.02, (1 / looking - 1) * (time.monotonic() - began)))
    raise AssertionError("what was waited for did not happen")


def named(process: psutil.Process, title: str) -> list[psutil.Process]:
    """Ray's processes below `process` whose title, as `ps` shows it, starts with `title`."""
    found = []
    for child in process.children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if line.startswith(title):
            found.append(child)
    return found


def left_out(reason: str) -> NoReturn:
    """Skip a test for want of something; where changes are judged, nothing may be left out."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def s3_place(
    port: int, scratch: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None = None
) -> Place:
    """A place on the S3 server, or on a proxy of it, at `port`; this process may look there too."""
    environment = {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = f"s3://ser/{folder or f'{scratch.name}-{os.urandom(4).hex()}'}"
    corpus = "s3://ser/corpus/manifest.csv"
    return Place("S3", root, corpus, scratch, environment, "s3://ser/prepared")


class Faults:
    """Notes what was injected, and what it cost."""

    def __init__(self, keep: Callable[[dict[str, Any]], None]) -> None:
        self.keep = keep

    def note(self, fault: str, place: Place, times: int, lost: int) -> None:
        """Put a row into the table. Raises AssertionError where something was lost."""
        self.keep({"fault": fault, "place": place.kind, "times": times, "lost": lost})
        assert times > 0, f"{fault}: nothing was injected"
        assert lost == 0, f"{fault}: {lost} results lost"
