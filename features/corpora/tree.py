"""What readers of corpora share: a corpus's files on any storage, its texts, and what is odd.

Each folder is listed once and no file is looked at alone, so a corpus in an object store costs
one request a folder. What a reader meets and reads past goes into `Problems`: one entry a file,
and a reason that says how many files have it and what to do.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from features.manifest import Manifest, ManifestError, Problem, normalise
from features.storage import Storage

AUDIO = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".opus", ".m4a", ".mp3", ".mp4", ".avi")
"""Suffixes of recordings. Of one recording in several formats, the first of these is read."""

_DEPTH = 12  # folders below the root: archives that unpack under a long path have six
_NAMES = 1_000_000  # files and folders below the root: more, and it is a disk and not a corpus
_CLUTTER = re.compile(r"\._.*|\.DS_Store|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_CLUTTER_FOLDERS = ("__MACOSX",)


class Problems:
    """What was met, by reason, in the order in which it was met."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], dict[str, None]] = {}

    def add(self, files: str | Iterable[str], what: str, remedy: str, unit: str = "file") -> None:
        """Note that `files` are or have `what`. Reasons of one text share their count."""
        names = [files] if isinstance(files, str) else files
        found = self._found.setdefault((what, remedy, unit), {})
        found.update(dict.fromkeys(names))

    def as_tuple(self) -> tuple[Problem, ...]:
        """One problem a file."""
        return tuple(
            Problem(file, f"{what} ({len(files)} {unit}{'s' * (len(files) > 1)}): {remedy}")
            for (what, remedy, unit), files in self._found.items()
            for file in files
        )


class Tree:
    """The files below a corpus's root. Names are POSIX paths relative to it, as on the disk.

    Raises ManifestError where the root is not a folder.
    """

    def __init__(self, root: str) -> None:
        self.storage = Storage.open(root)
        self.root = root if "://" in root else self.storage.root
        self.problems = Problems()
        self._listed: dict[str, tuple[list[str], list[str]]] = {}
        kind = self.storage.filesystem.get_file_info(self.storage.root).type
        if kind == pafs.FileType.File:
            raise ManifestError(f"{root} is a file: unpack it, and give the folder")
        if kind != pafs.FileType.Directory:
            raise ManifestError(f"{root}: no such folder")

    def entries(self, folder: str = "") -> tuple[list[str], list[str]]:
        """Files and folders in `folder`, sorted. What file managers leave behind is noted."""
        if folder not in self._listed:
            selector = pafs.FileSelector(self.storage.path(folder), allow_not_found=True)
            files: list[str] = []
            folders: list[str] = []
            for info in self.storage.filesystem.get_file_info(selector):
                base = info.path.rstrip("/").rpartition("/")[2]
                name = f"{folder}/{base}" if folder else base
                if _CLUTTER.fullmatch(base) or base in _CLUTTER_FOLDERS:
                    self.problems.add(
                        name,
                        "left behind by a file manager, not read",
                        "delete it, or leave it: it does no harm",
                    )
                elif info.type == pafs.FileType.Directory:
                    if not base.startswith("."):
                        folders.append(name)
                elif info.type == pafs.FileType.File:
                    files.append(name)
                else:  # a pipe or a device, reading which may never end, or a link to nowhere
                    self.problems.add(
                        name, "not a file, not read", "fetch what it links to, or delete it"
                    )
            self._listed[folder] = sorted(files), sorted(folders)
        return self._listed[folder]

    def walk(self, folder: str = "", depth: int = _DEPTH) -> Iterator[str]:
        """Files in `folder` and up to `depth` folders below it, the nearest first.

        Raises ManifestError where there are more than a million.
        """
        level, seen = [folder], 0
        for _ in range(depth + 1):
            below: list[str] = []
            for name in level:
                files, folders = self.entries(name)
                seen += len(files) + len(folders)  # links to folders may go round
                if seen > _NAMES:
                    raise ManifestError(
                        f"{self.root}: more than {_NAMES} files; give the corpus's own folder"
                    )
                yield from files
                below += folders
            level = below

    def find(self, *parts: str) -> str | None:
        """The folder or file `parts[0]/parts[1]/…`, whatever the case of its letters."""
        name = ""
        for part in parts:
            files, folders = self.entries(name)
            match = [n for n in [*folders, *files] if base(n).lower() == part.lower()]
            if not match:
                return None
            name = next((n for n in match if base(n) == part), match[0])
        return name

    def text(self, name: str) -> str:
        """A file's text: UTF-8 or UTF-16 by its mark, else Windows-1252; any line ends."""
        data = self.storage.read(name)
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            text, encoding = data.decode("utf-16", errors="replace"), "UTF-16"
        else:
            try:
                text, encoding = data.decode("utf-8-sig"), "UTF-8"
            except UnicodeDecodeError:
                # The five bytes that Windows-1252 leaves open become marks of what is lost.
                text, encoding = data.decode("cp1252", errors="replace"), "Windows-1252"
        if encoding != "UTF-8":
            self.problems.add(
                name,
                f"not UTF-8, read as {encoding}",
                "look at its text; ids, times and labels are plain ASCII and safe",
            )
        if "\r" in text:
            self.problems.add(name, "Windows or old Mac line ends", "read all the same")
        return re.sub(r"\r\n?", "\n", text)

    def lines(self, name: str) -> list[tuple[int, str]]:
        """The lines of a text that hold anything, with their numbers from 1."""
        lines = enumerate(self.text(name).split("\n"), start=1)
        return [(number, line.strip()) for number, line in lines if line.strip()]

    def missing(self, files: Iterable[str]) -> list[str]:
        """Those of `files` that are not on the disk, each once."""
        listed: dict[str, set[str]] = {}
        absent: dict[str, None] = {}
        for file in files:
            folder = file.rpartition("/")[0]
            if folder not in listed:
                listed[folder] = set(self.entries(folder)[0])
            if file not in listed[folder]:
                absent[file] = None
        return list(absent)

    def manifest(self, rows: list[dict[str, Any]]) -> Manifest:
        """The manifest of `rows`, which have the same keys, with the problems so far."""
        if not rows:
            raise ManifestError(f"{self.root}: no utterance in it")
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        try:
            table = pa.table(columns)
        except (pa.ArrowException, OverflowError) as error:
            raise ManifestError(f"{self.root}: values of different kinds: {error}") from error
        return Manifest(normalise(table), self.root, self.problems.as_tuple())


def base(name: str) -> str:
    """The last component of a path."""
    return name.rpartition("/")[2]


def is_audio(name: str) -> bool:
    """Whether a name ends as a recording's does."""
    return PurePosixPath(name).suffix.lower() in AUDIO


def by_id(tree: Tree, files: Iterable[str], corpus: str) -> dict[str, str]:
    """Recordings by stem, in their order. Copies in a worse format are noted.

    Raises ManifestError where two files of one format have one name: two rows with one id.
    """
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(PurePosixPath(file).stem, []).append(file)
    chosen: dict[str, str] = {}
    twice: list[str] = []
    for stem, copies in found.items():
        ranked = sorted(copies, key=lambda n: AUDIO.index(PurePosixPath(n).suffix.lower()))
        suffixes = [PurePosixPath(n).suffix.lower() for n in ranked]
        if suffixes.count(suffixes[0]) > 1:
            twice.append(f"{ranked[0]} and {ranked[1]}")
        chosen[stem] = ranked[0]
        tree.problems.add(
            ranked[1:],
            "a second copy of an utterance, in another format, not read",
            "nothing to do: the first of WAV, FLAC and the lossy formats is read",
        )
    if twice:
        raise ManifestError(
            f"{tree.root}: {len(twice)} utterances of {corpus} lie there twice ({shown(twice)}); "
            "delete one copy, or give the folder that holds the other"
        )
    return chosen


def by_name(
    root: str,
    corpus: str,
    parse: Callable[[str], dict[str, Any] | None],
    looked_for: str,
    suffixes: tuple[str, ...] = AUDIO,
) -> tuple[Tree, list[dict[str, Any]]]:
    """A corpus whose recordings' names tell everything: its tree and a row for each.

    parse : a file's stem -> the columns it tells, or None where it is no name of this corpus

    Raises ManifestError where no file has such a name (`looked_for` is an example of one).
    """
    tree = Tree(root)
    recordings = [n for n in tree.walk() if PurePosixPath(n).suffix.lower() in suffixes]
    told = {name: parse(PurePosixPath(name).stem) for name in recordings}
    known = by_id(tree, (name for name, columns in told.items() if columns is not None), corpus)
    if not known:
        raise ManifestError(
            f"{root} is not {corpus}: no file named as {looked_for} in it or below, among "
            f"{len(recordings)} recordings; give the folder where the archive was unpacked"
        )
    tree.problems.add(
        (name for name, columns in told.items() if columns is None),
        f"a recording that is not named as {looked_for}, left out",
        f"rename it, or move it away if it is not of {corpus}",
    )
    rows = [{"id": stem, "file": file, **(told[file] or {})} for stem, file in known.items()]
    return tree, sorted(rows, key=lambda row: row["id"])


def expect(tree: Tree, what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    """Note what a whole corpus has and this one lacks."""
    has = set(found)
    for name in expected:
        if name not in has:
            tree.problems.add(
                name, f"{what} missing", "unpack the rest, or go on with a part of the corpus", what
            )


def expect_count(tree: Tree, found: int, whole: int) -> None:
    """Note where a corpus has fewer utterances than all of it."""
    if found < whole:
        tree.problems.add(
            ".", f"{found} of {whole} utterances", "unpack the rest of the archive", "folder"
        )


def shown(names: list[str], limit: int = 5) -> str:
    """The first few of many names."""
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
