"""Writes are whole or absent, names stay inside, and a storage that fails is asked again."""

import dataclasses
import errno
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.storage import Storage, safe_name


@given(st.text())
def test_any_text_is_one_component_that_stays_inside(text: str) -> None:
    name = safe_name(text)
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a\0b"])
def test_names_that_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name inside"):
        Storage.open(str(tmp_path)).read(name)


def failing(monkeypatch: pytest.MonkeyPatch, times: int, number: int) -> list[int]:
    """Let the file system refuse the next `times` renames with an errno."""
    calls: list[int] = []
    rename = os.replace

    def sometimes(source: str, target: str) -> None:
        calls.append(1)
        if len(calls) <= times:
            raise OSError(number, os.strerror(number))
        rename(source, target)

    monkeypatch.setattr(os, "replace", sometimes)
    return calls


def quick(tmp_path: Path, attempts: int) -> Storage:
    return dataclasses.replace(Storage.open(str(tmp_path)), waits=(0.0,) * attempts)


def test_a_storage_that_fails_for_a_while_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = failing(monkeypatch, 2, errno.EIO)
    with caplog.at_level(logging.WARNING):
        quick(tmp_path, 3).write("a/b.bin", b"whole")
    assert len(calls) == 3
    assert (tmp_path / "a/b.bin").read_bytes() == b"whole"
    assert len(caplog.records) == 2
    assert "write of 'a/b.bin' fails" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_one_that_goes_on_failing_says_so_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    storage = quick(tmp_path, 3)
    storage.write("b.bin", b"old")
    calls = failing(monkeypatch, 99, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        storage.write("b.bin", b"new")
    assert len(calls) == 4
    assert storage.read("b.bin") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["b.bin"]  # nothing half written


def test_what_waiting_does_not_mend_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = quick(tmp_path, 3)
    with pytest.raises(FileNotFoundError):
        storage.read("gone")
    calls = failing(monkeypatch, 99, errno.EACCES)
    with pytest.raises(PermissionError):
        storage.write("b.bin", b"new")
    assert len(calls) == 1


def test_a_damaged_file_is_kept_under_a_name_that_says_so(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    storage.write("a/b.json", b"bad")
    aside = storage.put_aside("a/b.json", "a byte was flipped")
    assert aside.startswith("a/b.json.damaged-")
    assert storage.read(aside) == b"bad"
    assert not storage.exists("a/b.json")
