"""Writes are complete or have no effect, names stay inside the root, failures are retried."""

import dataclasses
import errno
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import StorageError
from features.storage import Storage, safe_name


@given(st.text())
def test_any_text_becomes_one_component_inside_the_root(text: str) -> None:
    name = safe_name(text)
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a\0b"], ids=repr)
def test_names_outside_the_root_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name inside"):
        Storage.open(str(tmp_path)).read(name)


def test_an_unknown_kind_of_uri_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="cannot open nowhere://bucket"):
        Storage.open("nowhere://bucket")


def failing(monkeypatch: pytest.MonkeyPatch, times: int, cause: int | str) -> list[int]:
    """Make the next `times` renames of the file system fail with an errno, or with a text."""
    calls: list[int] = []
    rename = os.replace

    def sometimes(source: str, target: str) -> None:
        calls.append(1)
        if len(calls) <= times:
            raise OSError(cause) if isinstance(cause, str) else OSError(cause, os.strerror(cause))
        rename(source, target)

    monkeypatch.setattr(os, "replace", sometimes)
    return calls


def impatient(tmp_path: Path, retries: int) -> Storage:
    return dataclasses.replace(Storage.open(str(tmp_path)), waits=(0.0,) * retries)


def test_a_short_failure_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = failing(monkeypatch, 2, errno.EIO)
    with caplog.at_level(logging.WARNING):
        impatient(tmp_path, 3).write("a/b.bin", b"whole")
    assert len(calls) == 3
    assert (tmp_path / "a/b.bin").read_bytes() == b"whole"
    assert len(caplog.records) == 2
    assert f"cannot write {tmp_path}/a/b.bin" in caplog.text


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO], ids=["no space on the device", "input/output error"]
)
def test_a_long_failure_is_a_storage_error_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    storage = impatient(tmp_path, 3)
    storage.write("b.bin", b"old")
    calls = failing(monkeypatch, 99, number)
    with pytest.raises(StorageError) as caught:
        storage.write("b.bin", b"new")
    assert str(caught.value) == f"cannot write {tmp_path}/b.bin: {os.strerror(number)}"
    assert isinstance(caught.value.__cause__, OSError)
    assert len(calls) == 4
    assert storage.read("b.bin") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["b.bin"]  # no temporary file


def test_permanent_failures_are_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = impatient(tmp_path, 3)
    with pytest.raises(FileNotFoundError):
        storage.read("absent")
    calls = failing(monkeypatch, 99, errno.EACCES)
    with pytest.raises(StorageError, match="Permission denied"):
        storage.write("b.bin", b"new")
    assert len(calls) == 1


def test_every_operation_raises_storage_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    inside = Storage.open(str(tmp_path / "file"))
    for operation in (
        lambda: inside.write("a", b""),
        lambda: inside.read("a"),
        lambda: Storage.open(str(tmp_path)).list("file"),
    ):
        with pytest.raises(StorageError):
            operation()


def test_a_damaged_file_is_renamed_and_kept(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    storage.write("a/b.json", b"bad")
    renamed = storage.rename_damaged("a/b.json", "a flipped bit")
    assert renamed.startswith("a/b.json.damaged-")
    assert storage.read(renamed) == b"bad"
    assert not storage.exists("a/b.json")


@pytest.mark.parametrize(
    "reason",
    [
        "When getting information for key 'a' in bucket 'b': AWS Error ACCESS_DENIED during "
        "HeadObject operation: No response body.",
        "AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: The bucket does not exist",
        "AWS Error INVALID_ACCESS_KEY_ID during PutObject operation: unknown",
        "Cannot open for reading: path '/data' is a directory",
    ],
)
def test_pyarrows_errors_without_a_number_are_permanent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    calls = failing(monkeypatch, 9, reason)
    with pytest.raises(StorageError) as caught:
        impatient(tmp_path, 3).write("b.bin", b"new")
    assert str(caught.value) == f"cannot write {tmp_path}/b.bin: {reason}"
    assert len(calls) == 1


@pytest.mark.parametrize(
    "reason",
    [
        "AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7",
        "AWS Error SLOW_DOWN during PutObject operation",
        "AWS Error UNKNOWN (HTTP status 503) during PutObject operation",
    ],
)
def test_errors_of_a_busy_network_are_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    calls = failing(monkeypatch, 9, reason)
    with pytest.raises(StorageError):
        impatient(tmp_path, 3).write("b.bin", b"new")
    assert len(calls) == 4


def test_what_cannot_be_read_fails_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    storage = Storage.open(str(tmp_path))  # with the usual waits
    for name in ("folder", "loop", "file/inside", "a" * 300):
        with pytest.raises(StorageError, match="cannot read"):
            storage.read(name)
    assert not caplog.records


def test_the_root_of_a_file_system(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    root = Storage.open("/")
    assert root.path() == "/"
    assert root.path("a/b") == "/a/b"
    assert root.list(str(tmp_path)[1:]) == [f"{tmp_path}/a"[1:]]


def test_links_that_lead_nowhere_are_listed_apart(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dead").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    storage = Storage.open(str(tmp_path))
    assert storage.list() == ["file", "link"]
    assert storage.dead_links() == {"dead", "loop"}
    assert storage.dead_links("gone") == set()
