"""One door to storage: a folder, NFS or an object store, through pyarrow's filesystems.

Every write is whole or absent. On a local disk a file is written under a temporary name,
flushed, then renamed; on an object store one put does the same. Names are relative and
checked, because some are made from what a corpus calls its speakers.

A storage that fails is asked again, for about half a minute: networks and disks have moments.
"""

import errno
import functools
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ParamSpec, TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further attempt."""
PATIENCE = sum(WAITS)
"""Seconds after which none is made: attempts, with a client's own repetitions, take time too."""
_FINAL = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EINVAL,
    errno.ENAMETOOLONG,
}
"""Errors that waiting does not mend."""


def _patient(method: Callable[P, T]) -> Callable[P, T]:
    """Ask again, after each of the storage's `waits`, where it fails in a way that may pass."""

    @functools.wraps(method)
    def asked(*arguments: P.args, **keywords: P.kwargs) -> T:
        storage, name = arguments[0], arguments[1] if len(arguments) > 1 else ""
        began = time.monotonic()
        for wait in storage.waits:  # type: ignore[attr-defined]
            try:
                return method(*arguments, **keywords)
            except OSError as error:
                if error.errno in _FINAL or time.monotonic() - began > PATIENCE:
                    raise
                doing = method.__name__.replace("_", " ")
                logger.warning("%s of %r fails: %s; again in %g s", doing, name, error, wait)
                time.sleep(wait)
        return method(*arguments, **keywords)

    return asked


LONGEST = 180
"""Bytes of a `safe_name`: file systems take 255, and prefixes, suffixes and marks come to it."""


def safe_name(text: str) -> str:
    """`text` as a single path component: percent-encoded, never `.`, `..` or empty.

    What would be longer than `LONGEST` is cut there, and ends in the SHA-1 of all of it.
    """
    name = quote(text, safe=" ()+,;=@")
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 41]}~{hashlib.sha1(text.encode()).hexdigest()}"
    return name.replace(".", "%2E") if name.strip(".") == "" else name


@dataclass(frozen=True)
class Storage:
    """A folder on any of pyarrow's filesystems. `name` arguments are relative POSIX paths.

    waits : seconds before each further attempt where an operation fails for a while
    """

    filesystem: pafs.FileSystem
    root: str
    waits: tuple[float, ...] = WAITS

    @classmethod
    def open(cls, uri: str) -> "Storage":
        """The storage at `uri`: a path, or a URI that pyarrow knows (`s3://bucket/folder`)."""
        if "://" in uri:
            if uri.startswith("s3:") and "allow_delayed_open" not in uri:
                # Else even a small file is put in three requests, and may be left between them.
                uri += f"{'&' if '?' in uri else '?'}allow_delayed_open=true"
            filesystem, root = pafs.FileSystem.from_uri(uri)
            return cls(filesystem, root)
        return cls(pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute()))

    def path(self, name: str = "") -> str:
        """The filesystem's path of `name`. Raises ValueError where it would leave the root."""
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise ValueError(f"{name!r} is not a name inside {self.root}")
        return "/".join([self.root, *parts])

    def child(self, name: str) -> "Storage":
        """The folder `name` inside this one."""
        return Storage(self.filesystem, self.path(name), self.waits)

    @_patient
    def exists(self, name: str) -> bool:
        """Whether a file or folder has this name."""
        return bool(self.filesystem.get_file_info(self.path(name)).type != pafs.FileType.NotFound)

    @_patient
    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError where there is none."""
        with self.filesystem.open_input_file(self.path(name)) as stream:
            return bytes(stream.read())

    @_patient
    def read_buffer(self, name: str) -> pa.Buffer:
        """As `read`, without the copy into Python bytes."""
        with self.filesystem.open_input_file(self.path(name)) as stream:
            return stream.read_buffer()

    @_patient
    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a file so that a reader finds the old one, or the new one whole."""
        target = self.path(name)
        if not isinstance(self.filesystem, pafs.LocalFileSystem):
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
            folder = os.open(parent, os.O_RDONLY)  # its new name has to last too
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @_patient
    def list(self, name: str = "", recursive: bool = False) -> list[str]:
        """Names below `name`, sorted; of a folder that is not there, none. Skips `.…` files."""
        selector = pafs.FileSelector(self.path(name), allow_not_found=True, recursive=recursive)
        prefix = len(self.root) + 1
        names = (info.path[prefix:] for info in self.filesystem.get_file_info(selector))
        return sorted(name for name in names if not PurePosixPath(name).name.startswith("."))

    def put_aside(self, name: str, reason: str) -> str:
        """Rename a damaged file, for people to look at; its new name, which says so."""
        aside = f"{name}.damaged-{time.time_ns()}"
        logger.warning("%s is damaged (%s): kept as %s", self.path(name), reason, aside)
        if isinstance(self.filesystem, pafs.LocalFileSystem):
            self.filesystem.move(self.path(name), self.path(aside))
        else:  # object stores have no rename, and not all of them copy under every name
            self.write(aside, self.read_buffer(name))
            self.delete(name)
        return aside

    @_patient
    def delete(self, name: str) -> None:
        """Remove a file or a folder with all that it holds; nothing where there is none."""
        info = self.filesystem.get_file_info(self.path(name))
        if info.type == pafs.FileType.Directory:
            self.filesystem.delete_dir(info.path)
        elif info.type == pafs.FileType.File:
            self.filesystem.delete_file(info.path)
