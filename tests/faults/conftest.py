"""The undisturbed run, the places, and the table of faults that the session ends with."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.fs as pafs
import pytest
from filelock import FileLock
from tests.support.faults import S3_ENVIRONMENT, Faults, Place, Reference, free_port, left_out, s3_place

S3RVER = Path(__file__).parents[2] / ".s3rver" / "node_modules" / ".bin" / "s3rver"


@pytest.fixture
def faults(record_property: Any) -> Faults:
    """Notes rows as properties of the test, which reach the session from parallel processes."""
    return Faults(lambda row: record_property("fault", row))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", default=None, help="file that the table is written to")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.getreports(outcome)]
    found = [
        row
        for report in sorted(reports, key=lambda report: report.nodeid)
        if report.when == "call"
        for name, row in report.user_properties
        if name == "fault"
    ]
    if not found:
        return
    rows: dict[str, dict[str, int]] = {}
    for row in found:
        counts = rows.setdefault(row["fault"], {"disk": 0, "S3": 0, "lost": 0})
        counts[row["place"]] += row["times"]
        counts["lost"] += row["lost"]
    rows["all"] = {name: sum(c[name] for c in rows.values()) for name in ("disk", "S3", "lost")}
    lines = ["| fault | times on disk | on S3 | results lost |", "|---|---|---|---|"]
    lines += [f"| {what} | {c['disk']} | {c['S3']} | {c['lost']} |" for what, c in rows.items()]
    terminalreporter.write_line("\n".join(["", *lines]))
    if path := config.getoption("--faults-table"):
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def reference(spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The common sweep when nothing disturbs it, and what it comes to.

    Made once for all processes that run these tests.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "undisturbed"
    with FileLock(f"{folder}.lock"):
        place = Place("disk", str(folder / "runs"), str(folder / "corpus" / spoken.name), folder)
        if not folder.exists():
            shutil.copytree(spoken.parent, folder / "corpus")
            done = place.run(place.configure())
            assert done.returncode == 0, done.stderr
    found = place.outcome()
    assert len(found) == 1 + 3  # the proposals, and three trials
    for record in place.ledger.trials():
        rows = place.ledger.folds(record.id).select(["fold", "epoch", "split"]).to_pylist()
        assert len({tuple(row.values()) for row in rows}) == len(rows)  # each epoch once
    return Reference(place, found)


@pytest.fixture(scope="session")
def s3(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An S3 server of its own on loopback, with the corpus and its features in it; its port."""
    patch = pytest.MonkeyPatch()
    for name, value in S3_ENVIRONMENT.items():  # before this process's first request
        patch.setenv(name, value)
    if not S3RVER.exists() or shutil.which("node") is None:
        left_out("s3rver is not here: make test-faults installs it, where node is")
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    address = ["-d", str(folder), "-a", "127.0.0.1", "-p", str(port), "--silent"]
    # It ends itself at times, where a part is asked for before it is written: then begin again.
    again = ["sh", "-c", 'while :; do "$@"; done', "sh"]
    server = psutil.Popen([*again, "node", "--openssl-legacy-provider", str(S3RVER), *address])
    try:
        filesystem = _connect(port)
        deadline = time.monotonic() + 30
        while True:
            try:
                filesystem.create_dir("ser")
                break
            except OSError:
                assert time.monotonic() < deadline, "s3rver does not answer"
                time.sleep(0.2)
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


@pytest.fixture(params=["disk", "S3"])
def place(
    request: pytest.FixtureRequest,
    reference: Reference,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    """A fresh place for the sweep: with its corpus, on each kind of storage in turn."""
    if request.param == "disk":
        return Place("disk", str(tmp_path / "runs"), reference.place.corpus, tmp_path)
    return s3_place(request.getfixturevalue("s3"), tmp_path, monkeypatch)
