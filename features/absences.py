"""Why a recording is missing: a link or pointer in its place, or a name in another spelling."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import NamedTuple

from features.errors import StorageError, shorten
from features.recordings import Recordings, is_uri, leaves_folder
from features.storage import Storage

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_ANNEX = re.compile(rb"(?:[^\n]*\.git)?/annex/objects/")
_LFS = b"version https://git-lfs.github.com/spec/"
LONGEST_POINTER = 32_768
"""Bytes, by git-annex's definition."""
_GET = "get it with `datalad get` or `git annex get`"

Form = Callable[[str], str]
"""A function that is equal for names which differ only in some way."""


class Absence(NamedTuple):
    """Why a file is missing, and the remedy.

    found : the existing file whose name differs only in spelling
    same : whether `found` is surely the same file
    """

    problem: str
    remedy: str
    found: str | None = None
    same: bool = False

    def __str__(self) -> str:
        return f"missing: {self.problem}: {self.remedy}"


def pointer(data: bytes) -> str | None:
    """The reason if `data` is what Git stores in place of a large file, else None."""
    if len(data) <= LONGEST_POINTER and data.startswith(_LFS):
        return "a pointer of Git LFS in place of the file: get it with `git lfs pull`"
    if len(data) <= LONGEST_POINTER and _ANNEX.match(data):
        return f"a pointer of git-annex in place of the file: {_GET}"
    return None


def dead_link(path: str) -> Absence:
    """Why the local link `path` leads nowhere."""
    if _ANNEX.match(os.fsencode(os.readlink(path))):
        return Absence("not a file: git-annex has not fetched the content that it links to", _GET)
    remedy = "restore the file that the link names, or replace the link by its file"
    return Absence("not a file: it links to a file that does not exist", remedy)


def nearest(storage: Storage, name: str = "") -> str:
    """What exists near the missing file or folder `name`, for a message."""
    path = storage.path(name)
    if not storage.is_local:
        return "check the URI"
    for form, difference in _DIFFERENCES.items():
        if found := _Spelling().find(storage, path, form):
            return f"{found} exists, {difference}"
    folder = path
    while not os.path.isdir(folder):
        if os.path.islink(folder):
            absence = dead_link(folder)
            return f"{folder} is {absence.problem}: {absence.remedy}"
        folder = os.path.dirname(folder)
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        names = []
    content = f" (with {shorten(names)})" if names else ""
    return f"the nearest folder that exists is {folder}{content}"


def explain(recordings: Recordings, files: Iterable[str]) -> dict[str, Absence]:
    """Why each of the missing `files` is missing, if there is a special reason."""
    spelling = _Spelling()
    reasons = {file: _explain(recordings, file, spelling) for file in files}
    return {file: reason for file, reason in reasons.items() if reason}


def _explain(recordings: Recordings, file: str, spelling: "_Spelling") -> Absence | None:
    path = recordings.local_path(file)
    if path and os.path.exists(path):
        kind = "a folder" if os.path.isdir(path) else "a pipe or a device"
        return Absence(f"not a file: it is {kind}", "write the path of a recording")
    while path and not os.path.exists(path):
        if os.path.islink(path):
            return dead_link(path)
        path = os.path.dirname(path)
    if _DRIVE.match(file):
        return Absence("on a drive of Windows", "write its path on this machine")
    if absence := _other_spelling(recordings, file, spelling):
        return absence
    slashed = file.replace("\\", "/")
    if recordings.own:
        slashed = recordings.expand([slashed])[slashed]
    if slashed == file or (leaves_folder(slashed) and not recordings.own):
        return None
    storage, name = recordings.place(slashed)
    if storage.exists(name):
        return Absence(f"written {_BACKSLASHES}", f"write {slashed}", slashed, True)
    return _other_spelling(recordings, slashed, spelling, f"{_BACKSLASHES} and ")


def _other_spelling(
    recordings: Recordings, file: str, spelling: "_Spelling", before: str = ""
) -> Absence | None:
    """The absence of a file whose name has another Unicode form or case on the storage."""
    storage, name = recordings.place(file)
    for form, difference in _DIFFERENCES.items():
        found = spelling.find(storage, storage.path(name), form)
        if found and not leaves_folder(file):
            found = found[len(recordings.folder.root.rstrip("/")) + 1 :]
        elif found and is_uri(file):
            found = f"{file.partition('://')[0]}://{found}"
        if found:
            problem = f"written {before}{difference} than on the disk"
            return Absence(problem, f"write {found}", found, form is _composed)
    return None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return _composed(_composed(name).casefold())


def _stem(name: str) -> str:
    return posixpath.splitext(_caseless(name))[0]


_BACKSLASHES = "with backslashes in place of /"
_DIFFERENCES: dict[Form, str] = {
    _composed: "in another Unicode form",
    _caseless: "in another upper and lower case",
    _stem: "with another suffix",
}


class _Spelling:
    """Finds names that are equal to a missing name in a form. Lists each folder once."""

    def __init__(self) -> None:
        self._listed: dict[tuple[str, Form], dict[str, list[str]]] = {}

    def find(self, storage: Storage, path: str, form: Form) -> str | None:
        """The only existing path whose components equal those of `path` in `form`."""
        found, name = posixpath.split(path)
        parts = [name]
        while storage.is_local and not os.path.isdir(found):
            found, name = posixpath.split(found)
            parts.insert(0, name)
        if form is _stem and len(parts) > 1:  # folders have no suffix
            return None
        for part in parts:
            matches = self._names(storage, found, form).get(form(part), [])
            if part in matches:
                matches = [part]
            if len(matches) != 1:
                return None
            found = f"{found.rstrip('/')}/{matches[0]}"
        return found

    def _names(self, storage: Storage, folder: str, form: Form) -> dict[str, list[str]]:
        """The names in a folder, by their form."""
        if (folder, form) not in self._listed:
            names: dict[str, list[str]] = {}
            try:
                infos = Storage(storage.filesystem, folder, storage.waits).list_infos()
            except StorageError:  # only the explanation is lost
                infos = []
            for info in infos:
                name = posixpath.basename(info.path.rstrip("/"))
                names.setdefault(form(name), []).append(name)
            self._listed[folder, form] = names
        return self._listed[folder, form]
