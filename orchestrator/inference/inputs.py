"""The recordings that `ser predict` gets: files, folders and manifests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.fs as pafs

from features.errors import ManifestError
from features.manifest import read_rows
from features.manifest_rows import normalise
from features.recordings import Recordings
from features.storage import Storage
from orchestrator.errors import ConfigError, UsageError

SpeakerFrom = Literal["folder", "none"]

TABLES = (".csv", ".tsv", ".txt", ".parquet")
AUDIO: tuple[str, ...] = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp4", ".m4a")
AUDIO += (".aac", ".aif", ".aiff", ".au", ".snd", ".sph", ".w64", ".caf", ".wma", ".webm", ".amr")
"""Suffixes of the files that are taken from a folder. A file that is named may have any suffix."""


@dataclass(frozen=True)
class Request:
    """An utterance to recognise, before its audio is opened.

    shown : the name of the file for people
    speaker : None if the speaker is not known: the file is then a speaker of its own
    group : utterances of the same group share statistics
    """

    recordings: Recordings
    file: str
    shown: str
    start: float | None
    end: float | None
    id: str
    speaker: str | None
    group: str
    dialogue: str | None = None
    turn: int | None = None


def requests(inputs: Sequence[str], speaker_from: SpeakerFrom | None = None) -> list[Request]:
    """All utterances of files, folders (with the folders in them) and manifests, in this order.

    speaker_from : `folder`: the folder of a file names its speaker. `none`: no speaker is known. By
        default, a manifest's column `speaker` if it has one, and otherwise none

    A file that does not exist is a request too: reading it gives the reason. Raises UsageError for
    a folder without audio, and ConfigError for a manifest that cannot be used.
    """
    found: list[Request] = []
    for number, path in enumerate(inputs):
        storage = Storage.open(path)
        if storage.inspect([""])[0].type == pafs.FileType.Directory:
            found += _in_folder(path, storage, speaker_from, number)
        elif PurePosixPath(path).suffix.lower() in TABLES:
            found += _in_table(path, speaker_from, number)
        else:
            parent, _, name = storage.root.rpartition("/")
            recordings = Recordings(Storage(storage.filesystem, parent or "/"), parent or "/")
            found.append(_request(recordings, name, path, speaker_from, number, parent))
    return found


def _request(
    recordings: Recordings,
    file: str,
    shown: str,
    speaker_from: SpeakerFrom | None,
    number: int,
    folder: str,
) -> Request:
    speaker = folder.rpartition("/")[2] if speaker_from == "folder" else None
    group = f"folder {folder}" if speaker_from == "folder" else f"file {number} {file}"
    name = f"{number:06d} {file}"
    return Request(recordings, file, shown, None, None, name, speaker or None, group)


def _in_folder(
    path: str, storage: Storage, speaker_from: SpeakerFrom | None, number: int
) -> list[Request]:
    recordings = Recordings(storage, path)
    names = [
        name
        for name in storage.list(recursive=True)
        if PurePosixPath(name).suffix.lower() in AUDIO
        and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    ]
    if not names:
        raise UsageError(
            f"{path} has no audio file (suffixes: {', '.join(AUDIO)}). Give files, or a manifest"
        )
    return [
        _request(
            recordings,
            name,
            f"{path.rstrip('/')}/{name}",
            speaker_from,
            number,
            storage.path(name).rpartition("/")[0],
        )
        for name in names
    ]


def _in_table(path: str, speaker_from: SpeakerFrom | None, number: int) -> list[Request]:
    """The rows of a manifest, which needs only the column `file`."""
    try:
        table, root, _ = read_rows(path)
        if "file" not in table.column_names:
            columns = ", ".join(table.column_names)
            raise ManifestError(f"{path}: no column file: add it (its columns: {columns})")
        given = "speaker" in table.column_names and speaker_from is None
        count = table.num_rows
        if not given:
            # `normalise` needs a name. Each row gets another, which is never printed.
            table = _with(table, "speaker", [f"row {row}" for row in range(count)])
        if "emotion" not in table.column_names:
            table = _with(table, "emotion", [None] * count)
        rows = normalise(table, own=True).to_pylist()
    except ManifestError as error:
        text = str(error)
        raise ConfigError(text if path in text else f"{path}: {text}") from None
    recordings = Recordings.open(root, own=True)
    found = []
    for row in rows:
        file = row["file"]
        folder = file.rpartition("/")[0] or root.rstrip("/").rpartition("/")[2]
        speaker = row["speaker"] if given else None
        group = f"speaker {speaker}" if given else f"file {number} {file}"
        if speaker_from == "folder":
            speaker, group = folder.rpartition("/")[2], f"folder {folder}"
        dialogue = row["dialogue"]
        found.append(
            Request(
                recordings,
                file,
                file,
                row["start"],
                row["end"],
                f"{number:06d} {row['id']}",
                speaker,
                group,
                None if dialogue is None else f"{number} {dialogue}",
                row["turn"],
            )
        )
    return found


def _with(table: pa.Table, name: str, values: list[str] | list[None]) -> pa.Table:
    column = pa.array(values, pa.string())
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)
