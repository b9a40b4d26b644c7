"""Checkpoints of a trial: the state of every fold and the history of scores, committed as one.

A checkpoint is a folder `checkpoint-<epoch>`. Each worker writes its folds' files, then one writes
`manifest.json` with the SHA-256 of each; without that file, or where a file is not the one it
names, the checkpoint does not exist. What is named rightly and cannot be gone on from is put aside
too, or it would stop the trial again and again.
"""

import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save as safetensors_bytes

from features.parquet import ParquetError, read_table
from features.storage import Storage, safe_name
from orchestrator.training.fold_run import FoldRun, Row
from orchestrator.ledger.ledger import (
    FOLDS,
    Digest,
    FileName,
    LedgerError,
    parquet_bytes,
    seal,
    sha256,
    unseal,
)

KEPT = 2
HISTORY = "history.parquet"
_ROWS = pa.schema([field for field in FOLDS if field.name != "selected"])


class StateError(ValueError):
    """A fold's state that it cannot go on from. The message says why."""


class Manifest(BaseModel):
    """What manifest.json holds: see `Checkpoint`, and the SHA-256 of each file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: int = Field(ge=1)
    curve: list[float]
    seconds: float = Field(ge=0)
    files: dict[FileName, Digest]


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    epoch : epochs done
    history : score rows of all folds so far
    curve : mean over folds of the best score so far, after each epoch
    seconds : training time so far
    """

    epoch: int
    history: list[Row]
    curve: list[float]
    seconds: float


def _folder(epoch: int) -> str:
    return f"checkpoint-{epoch:05d}"


def state_name(fold: str) -> str:
    """The file of a fold's state, by the fold's name."""
    return f"fold-{safe_name(fold)}.pt"


def write_state(trial: Storage, epoch: int, run: FoldRun) -> dict[str, str]:
    """Write one fold's state. Returns its name and SHA-256."""
    buffer = io.BytesIO()
    torch.save(run.state(), buffer)
    name, data = state_name(run.fold.name), buffer.getvalue()
    trial.write(f"{_folder(epoch)}/{name}", data)
    return {name: sha256(data)}


def read_state(trial: Storage, epoch: int, run: FoldRun) -> dict[str, Any]:
    """The state of one fold at `epoch`, which `run.load_state` takes.

    Only tensors and plain values are read. Raises StateError for what is not a state of `run`.
    """
    data = trial.read(f"{_folder(epoch)}/{state_name(run.fold.name)}")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        run.check_state(state, epoch)
    except (pickle.UnpicklingError, *_UNREADABLE) as error:
        lines = str(error).splitlines() or [""]
        raise StateError(f"not a state of this fold: {type(error).__name__}: {lines[0]}") from None
    return dict(state)


_UNREADABLE = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError,
               ArithmeticError, AssertionError, MemoryError)  # fmt: skip
"""What reading bytes that are no state has been seen to raise; not what the storage raises."""


def commit(trial: Storage, checkpoint: Checkpoint, files: dict[str, str]) -> None:
    """Write the history and, last, the manifest; then remove all but the newest checkpoints."""
    folder = _folder(checkpoint.epoch)
    history = parquet_bytes(pa.Table.from_pylist(checkpoint.history))
    trial.write(f"{folder}/{HISTORY}", history)
    manifest = {
        "epoch": checkpoint.epoch,
        "curve": checkpoint.curve,
        "seconds": checkpoint.seconds,
        "files": {**files, HISTORY: sha256(history)},
    }
    trial.write(f"{folder}/manifest.json", seal(manifest))
    # Folders beyond this epoch are what a killed run was writing: they do not count as kept.
    epochs = _epochs(trial)
    done = [epoch for epoch in epochs if epoch <= checkpoint.epoch]
    for old in done[:-KEPT] + epochs[len(done) :]:
        trial.delete(_folder(old))


def _epochs(trial: Storage) -> list[int]:
    names = (re.fullmatch(r"checkpoint-(\d{5})", name) for name in trial.list())
    return sorted(int(match[1]) for match in names if match)


def newest(trial: Storage, folds: list[str]) -> Checkpoint | None:
    """The newest complete checkpoint of `folds`, or None.

    Damaged files of newer ones are put aside, and those that are not what this program writes.
    """
    for epoch in reversed(_epochs(trial)):
        folder = trial.child(_folder(epoch))
        if not folder.exists("manifest.json"):
            continue
        try:
            manifest = _manifest(folder.read("manifest.json"), epoch, folds)
        except (LedgerError, ValidationError) as error:
            folder.put_aside("manifest.json", str(error).splitlines()[0])
            continue
        try:
            files = manifest.files.items()
            damaged = [name for name, digest in files if sha256(folder.read(name)) != digest]
            history = folder.read(HISTORY)
        except FileNotFoundError:
            continue
        if damaged:
            reason = "it has not the SHA-256 of its manifest"
            put_aside(trial, epoch, dict.fromkeys(damaged, reason))
            continue
        try:
            rows = _history(history, epoch, folds)
        except ParquetError as error:
            put_aside(trial, epoch, {HISTORY: str(error)})
            continue
        return Checkpoint(epoch, rows, manifest.curve, manifest.seconds)
    return None


def put_aside(trial: Storage, epoch: int, reasons: Mapping[str, str]) -> None:
    """Rename files of a checkpoint, which then does not exist; `reasons` by name."""
    for name, reason in reasons.items():
        trial.put_aside(f"{_folder(epoch)}/{name}", reason)


def _manifest(data: bytes, epoch: int, folds: list[str]) -> Manifest:
    """Raises LedgerError, or ValidationError, where it is not the manifest of this checkpoint."""
    manifest = Manifest.model_validate(unseal(data))
    if manifest.epoch != epoch or len(manifest.curve) != epoch:
        raise LedgerError(
            f"it is of epoch {manifest.epoch} with {len(manifest.curve)} scores, and not of {epoch}"
        )
    if manifest.files.keys() != {HISTORY, *map(state_name, folds)}:
        raise LedgerError(f"it names other files than those of the folds {', '.join(folds)}")
    return manifest


def _history(data: bytes, epoch: int, folds: list[str]) -> list[Row]:
    """The rows of a history. Raises ParquetError for what is not one of these folds."""
    table = read_table(data, _ROWS)
    if any(table[name].null_count for name in _ROWS.names):
        raise ParquetError("rows without some of their values")
    rows: list[Row] = table.to_pylist()
    scored = {row["fold"] for row in rows if row["split"] != "train"}
    if scored != set(folds) or not all(1 <= row["epoch"] <= epoch for row in rows):
        raise ParquetError(f"not scores of the folds {', '.join(folds)} up to epoch {epoch}")
    return rows


def delete_all(trial: Storage) -> None:
    """Remove the checkpoints of a trial whose results are committed."""
    for epoch in _epochs(trial):
        trial.delete(_folder(epoch))


def write_weights(trial: Storage, run: FoldRun) -> dict[str, str]:
    """Write a fold's selected weights. Returns the file's name and SHA-256."""
    name = f"fold-{safe_name(run.fold.name)}.safetensors"
    tensors = {key: tensor.cpu().contiguous() for key, tensor in run.best_weights.items()}
    data = safetensors_bytes(tensors, metadata={"epoch": str(run.best_epoch)})
    trial.write(name, data)
    return {name: sha256(data)}
