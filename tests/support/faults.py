"""Fault tests: a small sweep on disk or on S3, and the count of the results that a fault lost.

No part is mocked: `ser` runs as a user runs it. Each test compares its sweep with the reference,
the same sweep without any fault. A result is lost if a trial's record or files differ from those
of the reference, or if a finished trial was trained again.
"""

import os
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pyarrow.fs as pafs
import pytest

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger
from tests.support.sweeps import NAME, configure, driver, outcome, ser

QUICK = {
    # Ray otherwise waits a minute for a lost head, and a minute to replace lost workers.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "8",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
}

S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "S3RVER",
    "AWS_SECRET_ACCESS_KEY": "S3RVER",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Otherwise s3rver stores the framing bytes of the checksums as part of the object.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


@dataclass
class Place:
    """The storage of a sweep, and the environment of its processes.

    root : a local folder or a URI; the sweep's folder is in it
    scratch : a local folder for the configuration and the log
    prepared : the storage that has the corpus's features, if it is not the reference's
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

    @property
    def log(self) -> Path:
        """Output of all background drivers."""
        return self.scratch / "driver.log"

    def configure(self, **changed: Any) -> Path:
        return configure(self.scratch, self.corpus, storage=self.root, **changed)

    def driver(self, config: Path) -> AbstractContextManager[psutil.Popen]:
        """Run `ser sweep` in the background; see `sweeps.driver`."""
        return driver(config, self.log, QUICK | self.environment)

    def run(self, config: Path, command: str = "sweep") -> subprocess.CompletedProcess[str]:
        """Run a `ser` command to its end."""
        return ser(command, config, environment=QUICK | self.environment, cwd=self.scratch)

    def start_from(self, reference: "Reference", trials: int) -> None:
        """Copy the features and the first `trials` finished trials of the reference."""
        source = Storage.open(self.prepared or reference.place.root)
        _copy(source, Storage.open(self.root), "features")
        if not trials:
            return
        ledger, target = reference.place.ledger, self.ledger.storage
        _copy(ledger.storage, target, "sweep.json")
        for proposal in ledger.proposals()[:trials]:
            _copy(ledger.storage, target, f"search/{proposal.number:05d}.json")
            _copy(ledger.storage, target, f"trials/{proposal.trial}")

    def finish(self, config: Path) -> None:
        """Repeat `ser sweep` until it succeeds, as its messages advise; at most three times."""
        messages = ""
        for _ in range(3):
            done = self.run(config)
            if done.returncode == 0:
                return
            messages += done.stderr
            assert done.returncode == 1, done.stderr
            assert "Traceback" not in done.stderr, done.stderr
        raise AssertionError(f"three runs did not finish the sweep:\n{messages}")

    def records(self) -> dict[str, bytes]:
        """Content of trial.json of each finished trial, by the trial's id.

        s3rver keeps the bytes that a killed client has sent, which a real object store discards. A
        trial with such a record is not finished.
        """
        trials = self.ledger.storage.child("trials")
        names = [name for name in trials.list() if self.ledger.record(name) is not None]
        return {name: trials.read(f"{name}/trial.json") for name in names}

    def checkpoints(self) -> list[str]:
        """The newest complete checkpoint of each unfinished trial, as `<id>/<folder>`."""
        trials = self.ledger.storage.child("trials")
        names = [n.removesuffix("/manifest.json") for n in trials.list(recursive=True)
                 if n.endswith("/manifest.json")]  # fmt: skip
        newest = {name.split("/")[0]: name for name in sorted(names)}
        return [name for trial, name in newest.items() if not trials.exists(f"{trial}/trial.json")]

    def lost(self, reference: "Reference", finished: dict[str, bytes] | None = None) -> int:
        """Count results that differ from the reference, and `finished` trials trained again.

        Prints each of them. pytest shows the lines if the test fails.
        """
        now, expected, records = outcome(self.ledger), reference.outcome, self.records()
        lost = 0
        for key in sorted(now.keys() | expected.keys()):
            if now.get(key) != expected.get(key):
                lost += 1
                print(f"{key} differs from the reference: {records.get(key, 'no record')!r}")
        for name, record in (finished or {}).items():
            if records.get(name) != record:
                lost += 1
                print(f"{name} was trained again: {record!r} became {records.get(name)!r}")
        return lost


@dataclass(frozen=True)
class Reference:
    """The sweep without any fault, and its `sweeps.outcome`."""

    place: Place
    outcome: dict[str, Any]


def _copy(source: Storage, target: Storage, name: str) -> None:
    """Copy a file, or a folder with everything in it."""
    selector = pafs.FileSelector(source.path(name), allow_not_found=True, recursive=True)
    try:
        infos = source.filesystem.get_file_info(selector)
    except NotADirectoryError:
        infos = []
    files = [info.path for info in infos if info.type == pafs.FileType.File]
    for file in files or [source.path(name)]:
        relative = file.removeprefix(f"{source.root}/")
        target.write(relative, source.read(relative))


def skip_locally(reason: str) -> NoReturn:
    """Skip a test because a requirement is missing. In CI the test fails instead."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def s3_place(
    port: int, scratch: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None = None
) -> Place:
    """Return a place on the S3 server, or on a proxy of it, at `port`. This process can read it."""
    environment = {**S3_ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = f"s3://ser/{folder or f'{scratch.name}-{os.urandom(4).hex()}'}"
    corpus = "s3://ser/corpus/manifest.csv"
    return Place("S3", root, corpus, scratch, environment, "s3://ser/prepared")


class Faults:
    """Notes how often a fault was injected, and how many results it lost."""

    def __init__(self, keep: Callable[[dict[str, Any]], None]) -> None:
        self.keep = keep

    def note(self, fault: str, place: Place, times: int, lost: int) -> None:
        """Add a row to the table. Raises AssertionError if a result was lost."""
        self.keep({"fault": fault, "place": place.kind, "times": times, "lost": lost})
        assert times > 0, f"{fault}: the fault was not injected"
        assert lost == 0, f"{fault}: {lost} results lost"
