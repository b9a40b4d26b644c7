"""Checkpoints of a trial: the states of all folds and the score rows so far, committed together.

A checkpoint is a folder `checkpoint-<epoch>`. Each process writes the states of its folds. Then
one process writes `manifest.json` with the SHA-256 of every file. A checkpoint without a manifest,
or with a file that does not have its SHA-256, is incomplete and is not used. Damaged files are
renamed, and so are files that have their SHA-256 but cannot be loaded. Otherwise the trial would
fail at every restart.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from features.parquet import ParquetError, read_table
from features.storage import Storage, safe_name
from orchestrator.errors import LedgerError
from orchestrator.ledger.records import FOLDS, Digest, FileName, Record
from orchestrator.ledger.seals import parquet_bytes, seal, sha256, unseal
from orchestrator.training.fold_run import FoldRun, Row
from orchestrator.training.state import State, pack, pack_state, unpack_state

KEPT = 2  # complete checkpoints of a trial
MANIFEST, HISTORY = "manifest.json", "history.parquet"
_ROWS = pa.schema([field for field in FOLDS if field.name != "selected"])


class Manifest(Record):
    """The content of manifest.json. `files` holds the SHA-256 of each file by name."""

    curve: list[float]
    seconds: float
    files: dict[FileName, Digest]


class Checkpoint(NamedTuple):
    """The progress of a trial so far.

    history : score rows of all folds
    curve : mean over folds of the best score so far, after each epoch
    seconds : training time
    """

    history: list[Row]
    curve: list[float]
    seconds: float

    @property
    def epoch(self) -> int:
        """Number of epochs trained."""
        return len(self.curve)


def _folder(epoch: int) -> str:
    return f"checkpoint-{epoch:05d}"


def file_name(fold: str) -> str:
    """Return the name of the file with a fold's state, or with its best weights."""
    return f"fold-{safe_name(fold)}.safetensors"


def write(storage: Storage, name: str, data: bytes) -> dict[str, str]:
    """Write a file. Returns its SHA-256 by its name."""
    storage.write(name, data)
    return {name: sha256(data)}


def write_state(trial: Storage, epoch: int, run: FoldRun) -> dict[str, str]:
    """Write the state of a fold. Returns the file's SHA-256 by its name."""
    return write(trial.child(_folder(epoch)), file_name(run.fold.name), pack_state(run.state()))


def read_state(trial: Storage, epoch: int, run: FoldRun) -> State:
    """Read the state of a fold. Raises StateError if `run` cannot load it."""
    data = trial.read(f"{_folder(epoch)}/{file_name(run.fold.name)}")
    return unpack_state(data, run.templates())


def write_weights(trial: Storage, run: FoldRun) -> dict[str, str]:
    """Write the best weights of a fold. Returns the file's SHA-256 by its name."""
    data = pack(run.best_weights, {"epoch": str(run.best_epoch)})
    return write(trial, file_name(run.fold.name), data)


def commit(trial: Storage, checkpoint: Checkpoint, files: dict[str, str]) -> None:
    """Write the history, then the manifest; then delete all but the newest `KEPT` checkpoints.

    files : SHA-256 of the states by name
    """
    folder = trial.child(_folder(checkpoint.epoch))
    history, curve, seconds = checkpoint
    files = files | write(folder, HISTORY, parquet_bytes(pa.Table.from_pylist(history)))
    manifest = Manifest(curve=curve, seconds=seconds, files=files)
    folder.write(MANIFEST, seal(manifest.model_dump()))
    # A killed run may leave incomplete folders of later epochs. They do not count as kept.
    epochs = _epochs(trial)
    done = [epoch for epoch in epochs if epoch <= checkpoint.epoch]
    for old in done[:-KEPT] + epochs[len(done) :]:
        trial.delete(_folder(old))


def _epochs(trial: Storage) -> list[int]:
    names = (re.fullmatch(r"checkpoint-(\d{5})", name) for name in trial.list())
    return sorted(int(match[1]) for match in names if match)


def newest(trial: Storage, folds: list[str]) -> Checkpoint | None:
    """Return the newest complete checkpoint of `folds`, or None. Renames damaged files."""
    for epoch in reversed(_epochs(trial)):
        folder = trial.child(_folder(epoch))
        try:
            manifest = _manifest(folder.read(MANIFEST), epoch, folds)
            files = manifest.files
            damaged = [name for name in files if sha256(folder.read(name)) != files[name]]
            rename_damaged(trial, epoch, dict.fromkeys(damaged, "its SHA-256 has changed"))
            if not damaged:
                history = read_table(folder.read(HISTORY), _ROWS).to_pylist()
                return Checkpoint(history, manifest.curve, manifest.seconds)
        except FileNotFoundError:
            continue
        except (LedgerError, ValidationError) as error:
            rename_damaged(trial, epoch, {MANIFEST: " ".join(str(error).split())})
        except ParquetError as error:
            rename_damaged(trial, epoch, {HISTORY: str(error)})
    return None


def _manifest(data: bytes, epoch: int, folds: list[str]) -> Manifest:
    """Read the manifest of a checkpoint. Raises LedgerError or ValidationError if it is damaged."""
    manifest = Manifest.model_validate(unseal(data))
    if len(manifest.curve) != epoch:
        raise LedgerError(f"it has the scores of {len(manifest.curve)} epochs, not of {epoch}")
    if manifest.files.keys() != {HISTORY, *map(file_name, folds)}:
        raise LedgerError(f"its files are not those of the folds {', '.join(folds)}")
    return manifest


def rename_damaged(trial: Storage, epoch: int, reasons: Mapping[str, str]) -> None:
    """Rename files of a checkpoint, which is then incomplete. `reasons` are by file name."""
    for name, reason in reasons.items():
        trial.rename_damaged(f"{_folder(epoch)}/{name}", reason)


def delete_all(trial: Storage) -> None:
    """Delete the checkpoints of a trial after its results are committed."""
    for epoch in _epochs(trial):
        trial.delete(_folder(epoch))
