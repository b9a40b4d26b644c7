"""Frames in a file of this machine, which all its processes share.

Each node builds the file once, from the shards, and maps it into memory. The processes of a node
share the pages, and the kernel takes pages back if memory is short. A file has a JSON header of
`HEADER` bytes, and then the frames as little-endian float32. Nothing in a file can run code.

A file is built under another name, flushed and renamed. The builder holds a lock on it, so other
processes wait. The kernel releases the lock of a killed process, and the next builder starts again.
Each reader holds a shared lock, so that a file in use is not removed to make room.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import mmap
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from errno import EINVAL, EOPNOTSUPP
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import CacheError
from features.source import Source

logger = logging.getLogger(__name__)

HEADER = 4096
KEPT_FREE = 1_000_000_000
"""Bytes of the disk that stay free for other programs."""
LARGE = 1_000_000_000
"""Bytes from which on a map is released after use. Mapped pages count as memory of the process,
although the kernel can take them back. Pages of a small file stay, because mapping them again takes
time: 1 ms for a batch of 40 segments of log-mel."""
_POLL = 0.1
"""Seconds between two looks at a file that another process builds."""

Progress = Callable[[int, int], None]


class CachedFrames:
    """The array of all frames of a `Source`, (frames, dims) float32, read-only, in a mapped file.

    The file is opened, and built if it is missing, at the first read. A pickled value has the
    source only, and opens the file of the machine on which it is read.

    folder : of the files; None: a folder of the user in the machine's folder for temporary files
    limit : bytes that all files of the folder may take
    """

    def __init__(self, source: Source, folder: str | None, limit: int) -> None:
        self.source, self.folder, self.limit = source, folder, limit
        self._map: np.memmap[Any, np.dtype[np.float32]] | None = None
        self._file: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return CachedFrames, (self.source, self.folder, self.limit)

    @property
    def shape(self) -> tuple[int, int]:
        """(frames, dims)"""
        return self.source.shape

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return self.source.nbytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        return self.array()[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        frames = self.array()
        if dtype is not None and np.dtype(dtype) != frames.dtype:
            return frames.astype(dtype)
        return frames.copy() if copy else frames

    def array(self, progress: Progress = lambda done, total: None) -> npt.NDArray[np.float32]:
        """All frames, as an array on the mapped file.

        progress : called as `progress(done, total)` after each utterance, if the file is built

        Raises CacheError if the folder cannot be used or has too little room, and the errors of
        `Source.utterances`.
        """
        if self._map is None:
            path = self._path()
            self._file = _opened(path, self.source) or _built(
                path, self.source, self.limit, progress
            )
            self._map = np.memmap(self._file, "<f4", "r", HEADER, self.shape)
        return self._map.view(np.ndarray)

    def _path(self) -> Path:
        return folder_of(self.folder) / f"frames-{self.source.identity()[:32]}.f32"

    def release(self) -> None:
        """Unmap the pages of a large file. The kernel keeps them while there is memory for them."""
        if self._map is not None and self.nbytes >= LARGE and hasattr(mmap, "MADV_DONTNEED"):
            self._map._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def folder_of(folder: str | None) -> Path:
    """The folder of this machine, which is made if it is missing. Raises CacheError."""
    if folder is not None:
        path = Path(folder).expanduser()
        with _in(path):
            path.mkdir(parents=True, exist_ok=True)
        return path
    path = Path(tempfile.gettempdir(), f"ser-orchestrator-{os.getuid()}")
    with _in(path):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    # Other users can write into the folder for temporary files, and could have made this one.
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise CacheError(
            f"cluster.cache: {path} is not a folder that only you can write. Remove it, or set "
            f"cluster.cache to a folder of your own"
        )
    return path


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    """Raise errors of the operating system as CacheError."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"cluster.cache: cannot keep features in {folder}: {error.strerror or error}. Free "
            f"some space, or set cluster.cache to another folder"
        ) from error


def _opened(path: Path, source: Source) -> Any:
    """The open file `path` with a shared lock; None if it is missing or not the source's."""
    with _in(path.parent):
        try:
            file = open(path, "rb")  # noqa: SIM115  (open as long as the frames are used)
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        if problem := _problem(file, source):
            logger.warning("%s is built again: %s", path, problem)
        elif os.fstat(file.fileno()).st_nlink:  # 0: removed to make room
            modified = os.fstat(file.fileno()).st_mtime_ns
            with contextlib.suppress(OSError):  # another user's file
                os.utime(path, ns=(time.time_ns(), modified))  # used now
            return file
        file.close()
        return None


def _problem(file: Any, source: Source) -> str | None:
    """Why this is not a whole file of the source's frames; None if it is.

    The frames are read only if the file was modified since it was built: for example, if it was
    copied.
    """
    try:
        header = json.loads(file.read(HEADER))
    except (ValueError, RecursionError):
        header = None
    found = os.fstat(file.fileno())
    if not isinstance(header, dict):
        return "it has no header"
    expected = {"identity": source.identity(), "shape": list(source.shape)}
    for key, value in expected.items():
        if header.get(key) != value:
            return f"its {key} is {header.get(key)!r} instead of {value!r}"
    if found.st_size != HEADER + source.nbytes:
        return f"it has {found.st_size} bytes instead of {HEADER + source.nbytes}"
    if header.get("modified") != found.st_mtime and header.get("sha256") != _digest(file, source):
        return "its frames are not those that were written"
    return None


def _digest(file: Any, source: Source) -> str:
    """SHA-256 of the SHA-256 of each utterance's frames, read from a file."""
    digest = hashlib.sha256()
    for start, end in zip(source.offsets[:-1], source.offsets[1:], strict=True):
        file.seek(HEADER + int(start) * source.dims * 4)
        digest.update(hashlib.sha256(file.read(int(end - start) * source.dims * 4)).digest())
    return digest.hexdigest()


def _built(path: Path, source: Source, limit: int, progress: Progress) -> Any:
    """The open file `path`, built by this process or by another one. It has a shared lock."""
    part = path.with_suffix(".part")
    while True:
        with _in(path.parent):
            file = open(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+b", 0)  # noqa: SIM115
            locked = _locked(file)
        # The process that held the lock may have renamed or removed this file.
        if locked and _is(file, part):
            try:
                if (ready := _opened(path, source)) is None:
                    _fill(file, part, path, source, limit, progress)
                    return file
            except BaseException:
                _discard(file, part)
                raise
            _discard(file, part)
            return ready
        file.close()
        if (ready := _opened(path, source)) is not None:
            return ready
        time.sleep(_POLL)


def _discard(file: Any, part: Path) -> None:
    """Remove a locked file, and release its lock."""
    if _is(file, part):
        part.unlink()
    file.close()


def _locked(file: Any) -> bool:
    """Take the exclusive lock of a file, if no other process has a lock on it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(file: Any, path: Path) -> bool:
    """Whether `path` is the name of this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _fill(
    file: Any, part: Path, path: Path, source: Source, limit: int, progress: Progress
) -> None:
    """Write all frames into the locked file `part`, and rename it to `path`."""
    size, total, descriptor = HEADER + source.nbytes, len(source.offsets) - 1, file.fileno()
    with _in(path.parent):
        file.truncate(0)  # frames of a builder that was killed
    _make_room(path.parent, part, size, limit)
    with _in(path.parent):
        _reserve(descriptor, size)
    digests = [b""] * total
    for done, (i, frames) in enumerate(source.utterances(), start=1):
        data = np.ascontiguousarray(frames, "<f4").tobytes()
        digests[i] = hashlib.sha256(data).digest()
        with _in(path.parent):
            _write(descriptor, data, HEADER + int(source.offsets[i]) * source.dims * 4)
        progress(done, total)
    modified = int(time.time())  # whole seconds, because some file systems have no others
    header = {
        "identity": source.identity(),
        "shape": source.shape,
        "modified": modified,
        "sha256": hashlib.sha256(b"".join(digests)).hexdigest(),
    }
    with _in(path.parent):
        _write(descriptor, json.dumps(header).encode().ljust(HEADER), 0)
        os.utime(descriptor, (modified, modified))
        os.fsync(descriptor)
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)  # the new name must survive a power cut too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        fcntl.flock(file, fcntl.LOCK_SH)


def _reserve(descriptor: int, size: int) -> None:
    """Reserve the blocks of a file, so that a full disk ends the build before anything is read."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (EINVAL, EOPNOTSUPP):  # the file system cannot reserve blocks
                raise


def _write(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _make_room(folder: Path, part: Path, size: int, limit: int) -> None:
    """Remove files that no process uses, the one used longest ago first, until `size` bytes fit.

    Parts of killed builders are removed in any case. Raises CacheError if `size` bytes do not fit.
    """
    with _in(folder):
        found = {}
        for path in folder.glob("frames-*"):
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                found[path] = path.stat()
        found.pop(part, None)
        used = sum(each.st_size for each in found.values())
        for path in sorted(found, key=lambda path: (path.suffix != ".part", found[path].st_atime)):
            enough = used + size <= limit and size + KEPT_FREE <= shutil.disk_usage(folder).free
            if (not enough or path.suffix == ".part") and remove_unused(path):
                used -= found[path].st_size
        free = shutil.disk_usage(folder).free - KEPT_FREE
    if used + size > limit:
        in_use = f", of which files in use take {readable(used)}" if used else ""
        raise CacheError(
            f"cluster.cache_gb: the features need {readable(size)} in {folder}, but files there "
            f"may take {readable(limit)}{in_use}. Raise cluster.cache_gb"
        )
    if size > free:
        raise CacheError(
            f"cluster.cache: the features need {readable(size)} in {folder}, but its disk has "
            f"{readable(max(free, 0))} for them. Free some space, or set cluster.cache to a "
            f"folder on a larger disk"
        )


def remove_unused(path: Path) -> bool:
    """Remove a file if no process uses it. Returns whether it was removed."""
    try:
        with open(path, "rb") as file:
            if _locked(file) and _is(file, path):
                path.unlink()
                return True
    except OSError:  # removed by another process, or another user's
        pass
    return False


def readable(size: int) -> str:
    """Bytes for people: `17.3 GB`, or megabytes if they are fewer."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
