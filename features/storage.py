"""All access to files: a folder, NFS or an object store, through pyarrow's filesystems.

A write is complete or has no effect. On a local disk a file is written under a temporary name,
flushed and renamed. On an object store one put has the same effect. Names are relative and
checked, because some contain a corpus's speaker names.

An operation that fails is retried for about half a minute, because networks and disks can fail
for a moment.
"""

import functools
import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from errno import (
    EACCES,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    EROFS,
    EXDEV,
)
from pathlib import Path, PurePosixPath
from typing import ParamSpec, TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from features.errors import StorageError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each retry."""
PATIENCE = sum(WAITS)
"""Seconds after which no retry starts: attempts, and retries inside a client, take time too."""
_PERMANENT = {ENOENT, ENOTDIR, EISDIR, EACCES, EPERM, EROFS, EINVAL, ENAMETOOLONG}
_PERMANENT |= {ELOOP, EEXIST, ENOTEMPTY, EXDEV}
"""Errors that a retry cannot fix."""
_PERMANENT_REASON = re.compile(
    r"is a directory|AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|"
    r"INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH|UNRECOGNIZED_CLIENT)\b"
)
"""The same, for the errors of pyarrow 26 that have no number."""


def _retried(operation: Callable[P, T]) -> Callable[P, T]:
    """Retry `operation` after each of the storage's `waits`; then raise StorageError."""

    @functools.wraps(operation)
    def retry(*arguments: P.args, **keywords: P.kwargs) -> T:
        storage = arguments[0]
        assert isinstance(storage, Storage)
        name = arguments[1] if len(arguments) > 1 else ""
        start = time.monotonic()
        for wait in (*storage.waits, None):
            try:
                return operation(*arguments, **keywords)
            except (FileNotFoundError, StorageError):
                raise
            except OSError as error:
                place = storage.path(name) if isinstance(name, str) else storage.root
                reason = " ".join((error.strerror or str(error)).split())
                problem = f"cannot {operation.__name__.split('_')[0]} {place}: {reason}"
                late = time.monotonic() - start > PATIENCE
                permanent = error.errno in _PERMANENT or _PERMANENT_REASON.search(reason)
                if wait is None or late or permanent:
                    raise StorageError(problem) from error
                logger.warning("%s; next attempt in %g s", problem, wait)
                time.sleep(wait)
        raise AssertionError

    return retry


LONGEST = 180
"""Bytes of a `safe_name`. File systems allow 255: prefixes and suffixes need the rest."""


def safe_name(text: str) -> str:
    """Return `text` as a single path component: percent-encoded, never `.`, `..` or empty.

    A name longer than `LONGEST` is cut, and ends in the SHA-1 of the whole text.
    """
    name = quote(text, safe=" ()+,;=@")
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 41]}~{hashlib.sha1(text.encode()).hexdigest()}"
    return name.replace(".", "%2E") if name.strip(".") == "" else name


@dataclass(frozen=True)
class Storage:
    """A folder on any of pyarrow's filesystems. `name` arguments are relative POSIX paths.

    Operations raise StorageError if they still fail after all retries.

    waits : seconds before each retry
    """

    filesystem: pafs.FileSystem
    root: str
    waits: tuple[float, ...] = WAITS

    @classmethod
    def open(cls, uri: str) -> "Storage":
        """Open the storage at `uri`: a path, or a URI that pyarrow knows (`s3://bucket/folder`).

        Raises StorageError for a URI that pyarrow cannot open.
        """
        if "://" in uri:
            if uri.startswith("s3:") and "allow_delayed_open" not in uri:
                # Otherwise pyarrow writes even a small file in three requests, and a crash
                # between them leaves an incomplete upload.
                uri += f"{'&' if '?' in uri else '?'}allow_delayed_open=true"
            try:
                filesystem, root = pafs.FileSystem.from_uri(uri)
            except (OSError, ValueError) as error:
                # For `hdfs://`, pyarrow adds a line for each folder in which it looked for Java.
                reason = str(error).strip().split("\n")[0]
                raise StorageError(f"cannot open {uri}: {reason}") from error
            return cls(filesystem, root)
        return cls(pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute()))

    def path(self, name: str = "") -> str:
        """The filesystem's path of `name`. Raises ValueError if `name` would leave the root."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise ValueError(f"{name!r} is not a name inside {self.root}")
        return "/".join([self.root.rstrip("/"), *parts]) if parts else self.root

    def child(self, name: str) -> "Storage":
        """The folder `name` inside this storage."""
        return Storage(self.filesystem, self.path(name), self.waits)

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of this machine's file system."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def exists(self, name: str) -> bool:
        """Whether a file or folder has this name."""
        return bool(self.inspect([name])[0].type != pafs.FileType.NotFound)

    @_retried
    def inspect(self, names: list[str]) -> list[pafs.FileInfo]:
        """Type, size and time of each of `names`; the type of a missing file is NotFound."""
        return [*self.filesystem.get_file_info([self.path(name) for name in names])]

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError if it does not exist."""
        return bytes(self.read_buffer(name).to_pybytes())

    @_retried
    def read_buffer(self, name: str) -> pa.Buffer:
        """Read as `read` does, without a copy into Python bytes."""
        with self.filesystem.open_input_file(self.path(name)) as stream:
            return stream.read_buffer()

    @_retried
    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a file. A reader sees the old content or the complete new content."""
        target = self.path(name)
        if not self.is_local:
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(data)
            return
        parent, leaf = os.path.split(target)
        os.makedirs(parent, exist_ok=True)
        temporary = os.path.join(parent, f".{leaf}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            folder = os.open(parent, os.O_RDONLY)  # the new name must survive a power cut too
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @_retried
    def list_infos(self, name: str = "", recursive: bool = False) -> list[pafs.FileInfo]:
        """Files and folders in `name`, in any order; an empty list if `name` does not exist."""
        selector = pafs.FileSelector(self.path(name), allow_not_found=True, recursive=recursive)
        return [*self.filesystem.get_file_info(selector)]

    def dead_links(self, name: str = "") -> set[str]:
        """Links in the local folder `name` that lead nowhere: pyarrow does not list them."""
        if not self.is_local or not os.path.isdir(self.path(name)):
            return set()
        with os.scandir(self.path(name)) as entries:
            return {e.name for e in entries if e.is_symlink() and not os.path.exists(e.path)}

    def list(self, name: str = "", recursive: bool = False) -> list[str]:
        """Sorted names of the files and folders in `name`, without those that start with a dot."""
        start = len(self.root.rstrip("/")) + 1
        names = (info.path[start:] for info in self.list_infos(name, recursive))
        return sorted(name for name in names if not PurePosixPath(name).name.startswith("."))

    @_retried
    def rename_damaged(self, name: str, reason: str) -> str:
        """Rename a damaged file and keep it for inspection; return the new name."""
        renamed = f"{name}.damaged-{time.time_ns()}"
        logger.warning("%s is damaged (%s): renamed to %s", self.path(name), reason, renamed)
        if self.is_local:
            self.filesystem.move(self.path(name), self.path(renamed))
        else:  # object stores cannot rename, and some cannot copy under every name
            self.write(renamed, self.read_buffer(name))
            self.delete(name)
        return renamed

    @_retried
    def delete(self, name: str) -> None:
        """Delete a file, or a folder with its content, if it exists."""
        info = self.filesystem.get_file_info(self.path(name))
        if info.type == pafs.FileType.Directory:
            self.filesystem.delete_dir(info.path)
        elif info.type == pafs.FileType.File:
            self.filesystem.delete_file(info.path)
