"""Shared parts of the readers: the files of a corpus on any storage, its texts, its problems.

Each folder is listed once and no file is looked up alone, so a corpus in an object store costs
one request for each folder.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from features.absences import Absence, dead_link, explain, nearest, pointer
from features.errors import ManifestError, shorten
from features.manifest import Manifest, Problem, normalise, value_problems
from features.recordings import Recordings, cleaned, folder_of, leaves_folder
from features.text_table import decode

AUDIO = (".wav", ".flac", ".aiff", ".aif", ".ogg", ".opus", ".m4a", ".mp3", ".mp4", ".avi")
"""Suffixes of recordings, the preferred formats first."""

_DEPTH = 12  # folders below the root; archives that unpack under a long path have six
_NAMES = 1_000_000  # files and folders below the root; more are a whole disk, not a corpus
_PARTIAL = "unpack the rest, or continue with a part of the corpus"
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_CLUTTER = re.compile(r"\._.*|\.DS_Store|Thumbs\.db|desktop\.ini|__MACOSX", re.IGNORECASE)


class Tree:
    """The files below a corpus's root. Names are POSIX paths relative to it, as on the disk.

    own : whether names may leave the folder, because the user wrote the table

    Raises ManifestError if the root is not a folder.
    """

    def __init__(self, root: str, own: bool = False) -> None:
        self.recordings = Recordings.open(root, own)
        self.storage = self.recordings.folder
        self.root = root if "://" in root else self.storage.root
        self._problems: dict[tuple[str, str, str], dict[str, None]] = {}
        self._listed: dict[str, tuple[list[str], list[str]]] = {}
        self._dead: dict[str, Absence] = {}
        self._explained: dict[str, Absence | None] = {}
        kind = self.storage.inspect([""])[0].type
        if kind == pafs.FileType.File:
            remedy = "give the corpus's folder, or set corpus.name to manifest for your own table"
            if PurePosixPath(root).suffix.lower() in _ARCHIVES:
                remedy = "unpack it, then give the folder"
            raise ManifestError(f"{root} is a file: {remedy}")
        if kind != pafs.FileType.Directory:
            raise ManifestError(f"{root}: no such folder: {nearest(self.storage)}")

    def add_problem(
        self, files: str | Iterable[str], problem: str, remedy: str, unit: str = "file"
    ) -> None:
        """Add a problem of `files`. Files with the same problem are counted together."""
        names = [files] if isinstance(files, str) else files
        self._problems.setdefault((problem, remedy, unit), {}).update(dict.fromkeys(names))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """One problem for each file. The reason gives the number of files, and the remedy."""
        return tuple(
            Problem(file, f"{problem} ({len(files)} {unit}{'s' * (len(files) > 1)}): {remedy}")
            for (problem, remedy, unit), files in self._problems.items()
            for file in files
        )

    def entries(self, folder: str = "") -> tuple[list[str], list[str]]:
        """Files and folders in `folder`, sorted. Files of file managers become problems."""
        if folder not in self._listed:
            files: list[str] = []
            folders: list[str] = []
            storage, place = self.recordings.place(folder)
            start = folder if folder in ("", "/") else f"{folder}/"
            for info in storage.list_infos(place):
                name = start + base(info.path.rstrip("/"))
                if _CLUTTER.fullmatch(base(name)):
                    problem = "left behind by a file manager, skipped"
                    self.add_problem(name, problem, "delete it, or ignore this")
                elif info.type == pafs.FileType.Directory:
                    if not base(name).startswith("."):
                        folders.append(name)
                elif info.type == pafs.FileType.File:
                    files.append(name)
                else:  # a pipe or device, which may block a reader forever
                    remedy = "replace it by a file, or delete it"
                    self.add_problem(name, "not a regular file, skipped", remedy)
            for link in sorted(storage.dead_links(place)):
                if not link.startswith("."):
                    absence = dead_link(f"{storage.path(place)}/{link}")
                    self._dead[start + link] = absence
                    self.add_problem(start + link, absence.problem, absence.remedy)
            self._listed[folder] = sorted(files), sorted(folders)
        return self._listed[folder]

    def walk(self, folder: str = "", depth: int = _DEPTH) -> Iterator[str]:
        """Files in `folder` and in the folders below it, down to `depth` levels, nearest first.

        Raises ManifestError if there are more than a million.
        """
        level, count = [folder], 0
        for _ in range(depth + 1):
            below: list[str] = []
            for name in level:
                files, folders = self.entries(name)
                count += len(files) + len(folders)  # links can form loops, so this can grow
                if count > _NAMES:
                    raise ManifestError(
                        f"{self.root}: more than {_NAMES} files and folders: give another root"
                    )
                yield from files
                below += folders
            level = below

    def find(self, *parts: str) -> str | None:
        """The folder or file `parts[0]/parts[1]/…`; upper and lower case are equal."""
        name = ""
        for part in parts:
            files, folders = self.entries(name)
            match = [n for n in [*folders, *files] if base(n).lower() == part.lower()]
            if not match:
                return None
            name = next((n for n in match if base(n) == part), match[0])
        return name

    def text(self, name: str) -> str:
        """A file's text: UTF-8, UTF-16 with a byte order mark, or Windows-1252."""
        data = self.storage.read(name)
        if reason := pointer(data):
            raise ManifestError(f"{self.root}/{name}: {reason}")
        # Windows-1252 has five undefined bytes, which become replacement characters.
        text, encoding = decode(data, errors="replace")
        if encoding != "UTF-8":
            remedy = "check its text; ids, times and labels are plain ASCII and not affected"
            self.add_problem(name, f"not UTF-8, read as {encoding}", remedy)
        if "\r" in text:
            self.add_problem(name, "Windows or old Mac line ends", "nothing to do")
        return re.sub(r"\r\n?", "\n", text)

    def lines(self, name: str) -> list[tuple[int, str]]:
        """The lines of a text that are not empty, with their numbers from 1."""
        lines = enumerate(self.text(name).split("\n"), start=1)
        return [(number, line.strip()) for number, line in lines if line.strip()]

    def missing(self, files: Iterable[str]) -> list[str]:
        """The members of `files` that do not exist, each once.

        Raises ManifestError if a file is outside the root and the table is not the user's own.
        """
        names = {file: cleaned(file) for file in files}
        outside = [file for file in names if leaves_folder(file)]
        if outside and not self.recordings.own:
            raise ManifestError(
                f"{self.root}: the corpus names {len(outside)} recordings outside this folder "
                f"({shorten(outside, 2)}): correct its table, so that their paths are inside it"
            )
        listed: dict[str, set[str]] = {}
        for name in names.values():
            folder = folder_of(name)
            if folder not in listed:
                listed[folder] = set(self.entries(folder)[0])
        return [file for file, name in names.items() if name not in listed[folder_of(name)]]

    def _absences(self, files: Iterable[str]) -> tuple[list[str], dict[str, Absence]]:
        """The missing members of `files` without and with a special reason.

        Links that lead nowhere are left out, because `entries` has reported them.
        """
        absent = [file for file in self.missing(files) if cleaned(file) not in self._dead]
        new = [file for file in absent if file not in self._explained]
        self._explained |= dict.fromkeys(new) | explain(self.recordings, new)
        reasons = {file: reason for file in absent if (reason := self._explained[file])}
        return [file for file in absent if file not in reasons], reasons

    def spell(self, files: Iterable[str], source: str) -> dict[str, str]:
        """The names on the storage of those `files` that `source` spells in another way, if they
        are surely the same files."""
        same = {file: a for file, a in self._absences(files)[1].items() if a.same}
        self._report(same, source, ", read as on the disk", "nothing to do, or ")
        return {file: str(absence.found) for file, absence in same.items()}

    def report_missing(self, files: Iterable[str], source: str, remedy: str) -> set[str]:
        """Report recordings that `source` names but that do not exist.

        Returns the existing files that `source` seems to mean.
        """
        plain, reasons = self._absences(files)
        self.add_problem(plain, f"named by {source}, but does not exist", remedy)
        self._report(reasons, source)
        return {cleaned(absence.found) for absence in reasons.values() if absence.found}

    def _report(
        self, absences: dict[str, Absence], source: str, outcome: str = "", before: str = ""
    ) -> None:
        """Add a problem of the files with the same reason, with the remedy of the first."""
        groups: dict[str, list[str]] = {}
        for file, absence in absences.items():
            groups.setdefault(absence.problem, []).append(file)
        for problem, files in groups.items():
            first = absences[files[0]]
            more = " and so on" if first.found and len(files) > 1 else ""
            remedy = f"{before}{first.remedy}{more}"
            self.add_problem(files, f"named by {source}, but {problem}{outcome}", remedy)

    def compare(self, files: list[str], source: str, put: str, ignore: str) -> None:
        """Report recordings that `source` names but that do not exist (remedy `put`), and
        recordings in the same folders that `source` does not name (remedy `ignore`)."""
        files = [cleaned(file) for file in files]
        named = {*files, *self.report_missing(files, source, put)}
        for folder in dict.fromkeys(map(folder_of, files)):
            others = (n for n in self.entries(folder)[0] if is_audio(n) and n not in named)
            problem = f"a recording that {source} does not name, skipped"
            self.add_problem(others, problem, ignore)

    def dead_links(self) -> str:
        """A sentence about the links that lead nowhere, or an empty text."""
        if not self._dead:
            return ""
        name, absence = next(iter(self._dead.items()))
        return f". {len(self._dead)} files, such as {name}: {absence.problem}: {absence.remedy}"

    def expect(self, unit: str, expected: Iterable[str], present: Iterable[str]) -> None:
        """Add a problem for each part of the whole corpus that is missing."""
        missing = sorted(set(expected) - set(present))
        self.add_problem(missing, f"{unit} missing", _PARTIAL, unit)

    def expect_count(self, count: int, whole: int, units: str = "utterances") -> None:
        """Add a problem if a corpus is smaller than the whole corpus."""
        if count < whole:
            self.add_problem(".", f"{count} of {whole} {units}", _PARTIAL, "folder")

    def manifest(self, rows: list[dict[str, Any]]) -> Manifest:
        """The manifest of `rows`, which all have the same keys, with the problems so far."""
        if not rows:
            raise ManifestError(f"{self.root}: no utterance in this corpus{self.dead_links()}")
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        try:
            table = pa.table(columns)
        except (pa.ArrowException, OverflowError) as error:
            raise ManifestError(f"{self.root}: a column mixes types of values: {error}") from error
        return Manifest(normalise(table), self.root, self.problems + value_problems(table))


def base(name: str) -> str:
    """The last component of a path."""
    return name.rpartition("/")[2]


def is_audio(name: str) -> bool:
    """Whether a name has the suffix of a recording."""
    return PurePosixPath(name).suffix.lower() in AUDIO


def by_id(tree: Tree, files: Iterable[str], corpus: str) -> dict[str, str]:
    """Recordings by stem, in their order. Copies in another format are skipped.

    Raises ManifestError if two files of the same format have the same stem.
    """
    copies_of: dict[str, list[str]] = {}
    for file in files:
        copies_of.setdefault(PurePosixPath(file).stem, []).append(file)
    chosen: dict[str, str] = {}
    repeated: list[str] = []
    for stem, copies in copies_of.items():
        ranked = sorted(copies, key=lambda n: AUDIO.index(PurePosixPath(n).suffix.lower()))
        suffixes = [PurePosixPath(n).suffix.lower() for n in ranked]
        if suffixes.count(suffixes[0]) > 1:
            repeated.append(f"{ranked[0]} and {ranked[1]}")
        chosen[stem] = ranked[0]
        problem = "a copy of an utterance in another format, skipped"
        remedy = "nothing to do: WAV is preferred, then FLAC, then the lossy formats"
        tree.add_problem(ranked[1:], problem, remedy)
    if repeated:
        raise ManifestError(
            f"{tree.root}: {len(repeated)} utterances of {corpus} have two files "
            f"({shorten(repeated)}): delete one copy, or give a folder that contains only one"
        )
    return chosen


def by_name(
    root: str,
    corpus: str,
    pattern: re.Pattern[str],
    example: str,
    suffixes: tuple[str, ...] = AUDIO,
) -> tuple[Tree, list[dict[str, Any]]]:
    """Read a corpus whose file names contain all labels; return its tree and its rows.

    A row has the id, the file, and the groups of `pattern`, which matches the stem of a file.

    Raises ManifestError if no file name matches (`example` is such a name).
    """
    tree = Tree(root)
    recordings = [n for n in tree.walk() if PurePosixPath(n).suffix.lower() in suffixes]
    matches = {name: pattern.fullmatch(PurePosixPath(name).stem) for name in recordings}
    files = by_id(tree, (name for name, match in matches.items() if match), corpus)
    if not files:
        raise ManifestError(
            f"{root} is not {corpus}: none of its {len(recordings)} recordings has a name like "
            f"{example}. Give the folder in which you unpacked the archive{tree.dead_links()}"
        )
    tree.add_problem(
        (name for name, match in matches.items() if not match),
        f"a recording with another name than {example}, skipped",
        f"rename it, or move it elsewhere if it does not belong to {corpus}",
    )
    rows = [
        {"id": stem, "file": file, **match.groupdict()}
        for stem, file in files.items()
        if (match := matches[file])
    ]
    return tree, sorted(rows, key=lambda row: row["id"])
