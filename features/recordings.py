"""The recordings that a manifest names, on any storage."""

import os
import posixpath
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import unquote

import pyarrow.fs as pafs

from features.storage import Storage

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""At least two letters, because `C:` is a drive."""
_REQUESTS = 32
"""Requests to a storage at the same time."""
_LOCAL_URI = re.compile(r"file://(?:localhost)?(?=/)")


def is_uri(file: str) -> bool:
    """Whether `file` is a URI such as `s3://bucket/a.wav`."""
    return bool(_URI.match(file))


def leaves_folder(file: str) -> bool:
    """Whether `file` may be outside the folder that names are relative to.

    A name with a zero byte counts too, because it is not the name of a file.
    """
    return file.startswith("/") or ".." in file.split("/") or "\0" in file or is_uri(file)


def cleaned(file: str) -> str:
    """The path without `.` and doubled slashes."""
    parts = file.split("/")[file.startswith("/") :]
    if "" not in parts and "." not in parts:  # pathlib takes long for many files
        return file
    return file if is_uri(file) else str(PurePosixPath(file))


def folder_of(file: str) -> str:
    """The folder of `file`; empty for the folder that names are relative to."""
    return file.rpartition("/")[0] or file[: file.startswith("/")]


@dataclass(frozen=True)
class Recordings:
    """Access to the files that a manifest names.

    folder : the folder that names are relative to
    root : its path or URI
    own : whether names may leave the folder, because the user wrote the table
    """

    folder: Storage
    root: str
    own: bool = False

    @classmethod
    def open(cls, root: str, own: bool = False) -> "Recordings":
        """Open the folder `root`. Raises StorageError for a URI that pyarrow cannot open."""
        return cls(Storage.open(root), root, own)

    def place(self, file: str) -> tuple[Storage, str]:
        """The storage of `file`, and its name there.

        If the table is not the user's own, the storage refuses names that leave the folder.
        Raises StorageError for a URI that pyarrow cannot open.
        """
        folder = self.folder
        if not self.own or not leaves_folder(file):
            return folder, file
        if is_uri(file):
            scheme, _, path = file.partition("://")
            bucket = f"{scheme}://{path.partition('/')[0]}/"
            # The URI of the root may have options, such as the region.
            near = self.root.startswith(bucket)
            filesystem = folder.filesystem if near else _filesystem(bucket)
        elif file.startswith("/"):
            filesystem, path = pafs.LocalFileSystem(), file
        else:
            filesystem, path = folder.filesystem, f"{folder.root}/{file}"
            # On a disk, `..` behind a link is the parent of the link's target.
            path = path if folder.is_local else posixpath.normpath(path)
        return Storage(filesystem, path, folder.waits), ""

    def local_path(self, file: str) -> str | None:
        """The path of `file` on this machine, or None if it is on another storage."""
        storage, name = self.place(file)
        return storage.path(name) if storage.is_local else None

    def read(self, file: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError if it does not exist."""
        storage, name = self.place(file)
        return storage.read(name)

    def inspect(self, files: list[str]) -> list[pafs.FileInfo]:
        """Type, size and time of each of `files`; the type of a missing file is NotFound."""
        outside = {file for file in files if self.own and leaves_folder(file)}
        inside = [file for file in files if file not in outside]
        infos = dict(zip(inside, self.folder.inspect(inside), strict=True))
        if outside:  # each is a request of its own, so many wait at the same time
            with ThreadPoolExecutor(_REQUESTS) as pool:
                infos |= zip(outside, pool.map(self._inspect, outside), strict=True)
        return [infos[file] for file in files]

    def _inspect(self, file: str) -> pafs.FileInfo:
        storage, name = self.place(file)
        return storage.inspect([name])[0]

    def expand(self, files: Iterable[str]) -> dict[str, str]:
        """The names in the user's own table, without `~` and `file://`.

        Paths into the manifest's folder become relative, so that they do not depend on the
        machine.
        """
        literal: dict[str, bool] = {}  # whether the folder has such a name itself
        names = {}
        for file in files:
            names[file] = file
            if "\0" in file:  # the checks of the rows refuse it
                continue
            first = file.partition("/")[0]
            if self.folder.is_local and (first.startswith("~") or is_uri(file)):
                if first not in literal:
                    literal[first] = self.folder.exists(first)
                if literal[first]:
                    continue
            names[file] = self._relative(_expanded(file))
        return names

    def _relative(self, file: str) -> str:
        uri = is_uri(file)
        if not uri and not self.folder.is_local:
            return file
        folder = self.root.partition("?")[0] if uri else self.folder.root
        inside = file.removeprefix(f"{folder.rstrip('/')}/")
        return file if leaves_folder(inside) or not inside else inside


def _expanded(file: str) -> str:
    """An absolute path or a URI in its shortest form; other names as they are."""
    if file.startswith("~"):
        return os.path.expanduser(file)
    if match := _LOCAL_URI.match(file):
        return unquote(file[match.end() :])
    if is_uri(file):
        scheme, _, path = file.partition("://")
        return f"{scheme.lower()}://{posixpath.normpath(path)}"
    return file


@lru_cache
def _filesystem(bucket: str) -> pafs.FileSystem:
    return Storage.open(bucket).filesystem
