"""Fixtures of the fault tests, and the table that a run of them prints at its end."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.fs as pafs
import pytest
from filelock import FileLock

from tests.support.faults import S3_ENVIRONMENT, Faults, Place, Reference, s3_place, skip_locally
from tests.support.processes import free_port, wait
from tests.support.sweeps import outcome

S3RVER = Path(__file__).parents[2] / ".s3rver" / "node_modules" / ".bin" / "s3rver"


@pytest.fixture
def faults(record_property: Any) -> Faults:
    """Keeps the rows as properties of the test: they reach the table from parallel processes."""
    return Faults(lambda row: record_property("fault", row))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", default=None, help="write the table of faults to this file")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [r for status in ("passed", "failed") for r in terminalreporter.getreports(status)]
    notes = [
        note
        for report in sorted(reports, key=lambda report: report.nodeid)
        if report.when == "call"
        for name, note in report.user_properties
        if name == "fault"
    ]
    if not notes:
        return
    rows: dict[str, dict[str, int]] = {}
    for note in notes:
        counts = rows.setdefault(note["fault"], {"disk": 0, "S3": 0, "lost": 0})
        counts[note["place"]] += note["times"]
        counts["lost"] += note["lost"]
    rows["all"] = {name: sum(c[name] for c in rows.values()) for name in ("disk", "S3", "lost")}
    lines = ["| fault | times on disk | on S3 | results lost |", "|---|---|---|---|"]
    lines += [f"| {fault} | {c['disk']} | {c['S3']} | {c['lost']} |" for fault, c in rows.items()]
    terminalreporter.write_line("\n".join(["", *lines]))
    if path := config.getoption("--faults-table"):
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def reference(spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The sweep without any fault. It runs once for all parallel test processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "reference"
    with FileLock(f"{folder}.lock"):
        place = Place("disk", str(folder / "runs"), str(folder / "corpus" / spoken.name), folder)
        if not folder.exists():
            shutil.copytree(spoken.parent, folder / "corpus")
            done = place.run(place.configure())
            assert done.returncode == 0, done.stderr
    content = outcome(place.ledger)
    assert len(content) == 1 + 3  # the proposals and three trials
    for record in place.ledger.trials():
        rows = place.ledger.folds(record.id).select(["fold", "epoch", "split"]).to_pylist()
        assert len({tuple(row.values()) for row in rows}) == len(rows)  # each epoch occurs once
    return Reference(place, content)


@pytest.fixture(scope="session")
def s3(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of an S3 server on loopback that has the corpus and its features."""
    patch = pytest.MonkeyPatch()
    for name, value in S3_ENVIRONMENT.items():  # before this process's first request
        patch.setenv(name, value)
    if not S3RVER.exists() or shutil.which("node") is None:
        skip_locally("s3rver is missing: install node and npm, then run `make test-faults`")
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    address = ["-d", str(folder), "-a", "127.0.0.1", "-p", str(port), "--silent"]
    # s3rver sometimes ends if a part is requested before it is written. Then restart it.
    restart = ["sh", "-c", 'while :; do "$@"; done', "sh"]
    server = psutil.Popen([*restart, "node", "--openssl-legacy-provider", str(S3RVER), *address])
    try:
        filesystem = _connect(port)
        assert wait(lambda: _has_bucket(filesystem), server)
        pafs.copy_files(
            str(Path(reference.place.corpus).parent),
            "ser/corpus",
            source_filesystem=pafs.LocalFileSystem(),
            destination_filesystem=filesystem,
        )
        prepared = s3_place(port, tmp_path_factory.mktemp("prepared"), patch, "prepared")
        done = prepared.run(prepared.configure(), "extract")
        assert done.returncode == 0, done.stderr
        yield port
    finally:
        started = server.children(recursive=True)
        server.kill()
        server.wait()
        for process in started:
            process.kill()
        patch.undo()


def _connect(port: int) -> pafs.S3FileSystem:
    return pafs.S3FileSystem(
        access_key="S3RVER",
        secret_key="S3RVER",
        scheme="http",
        region="us-east-1",
        endpoint_override=f"127.0.0.1:{port}",
        allow_bucket_creation=True,
    )


def _has_bucket(filesystem: pafs.S3FileSystem) -> bool:
    """Create the bucket. Returns False as long as the server does not answer."""
    try:
        filesystem.create_dir("ser")
    except OSError:
        return False
    return True


@pytest.fixture(params=["disk", "S3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place without any sweep, on each kind of storage in turn."""
    if request.param == "disk":
        return request.getfixturevalue("disk")
    return s3_place(request.getfixturevalue("s3"), tmp_path, monkeypatch)


@pytest.fixture
def disk(tmp_path: Path, reference: Reference) -> Place:
    """A place without any sweep, on disk."""
    return Place("disk", str(tmp_path / "runs"), reference.place.corpus, tmp_path)
