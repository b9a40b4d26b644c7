"""One door to storage: a folder, NFS or an object store, through pyarrow's filesystems.

Every write is whole or absent. On a local disk a file is written under a temporary name,
flushed, then renamed; on an object store one put does the same. Names are relative and
checked, because some are made from what a corpus calls its speakers.
"""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs


def safe_name(text: str) -> str:
    """`text` as a single path component: percent-encoded, never `.`, `..` or empty."""
    name = quote(text, safe=" ()+,;=@")
    return name.replace(".", "%2E") if name.strip(".") == "" else name


@dataclass(frozen=True)
class Storage:
    """A folder on any of pyarrow's filesystems. `name` arguments are relative POSIX paths."""

    filesystem: pafs.FileSystem
    root: str

    @classmethod
    def open(cls, uri: str) -> "Storage":
        """The storage at `uri`: a path, or a URI that pyarrow knows (`s3://bucket/folder`)."""
        if "://" in uri:
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
        return Storage(self.filesystem, self.path(name))

    def exists(self, name: str) -> bool:
        """Whether a file or folder has this name."""
        return bool(self.filesystem.get_file_info(self.path(name)).type != pafs.FileType.NotFound)

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError where there is none."""
        with self.filesystem.open_input_file(self.path(name)) as stream:
            return bytes(stream.read())

    def read_buffer(self, name: str) -> pa.Buffer:
        """As `read`, without the copy into Python bytes."""
        with self.filesystem.open_input_file(self.path(name)) as stream:
            return stream.read_buffer()

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
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def list(self, name: str = "", recursive: bool = False) -> list[str]:
        """Names below `name`, sorted; of a folder that is not there, none. Skips `.…` files."""
        selector = pafs.FileSelector(self.path(name), allow_not_found=True, recursive=recursive)
        prefix = len(self.root) + 1
        names = (info.path[prefix:] for info in self.filesystem.get_file_info(selector))
        return sorted(name for name in names if not PurePosixPath(name).name.startswith("."))

    def delete(self, name: str) -> None:
        """Remove a file or a folder with all that it holds; nothing where there is none."""
        info = self.filesystem.get_file_info(self.path(name))
        if info.type == pafs.FileType.Directory:
            self.filesystem.delete_dir(info.path)
        elif info.type == pafs.FileType.File:
            self.filesystem.delete_file(info.path)
