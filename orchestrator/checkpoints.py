"""Checkpoints of a trial: the state of every fold and the history of scores, committed as one.

A checkpoint is a folder `checkpoint-<epoch>`. Each worker writes its folds' files, then one writes
`manifest.json` with the SHA-256 of each; without that file, or where a file is not the one it
names, the checkpoint does not exist.
"""

import io
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save as safetensors_bytes

from features.storage import Storage, safe_name
from orchestrator.fold_run import FoldRun, Row
from orchestrator.ledger import LedgerError, parquet_bytes, seal, sha256, unseal

KEPT = 2


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


def _state_name(run: FoldRun) -> str:
    return f"fold-{safe_name(run.fold.name)}.pt"


def write_state(trial: Storage, epoch: int, run: FoldRun) -> dict[str, str]:
    """Write one fold's state. Returns its name and SHA-256."""
    buffer = io.BytesIO()
    torch.save(run.state(), buffer)
    name, data = _state_name(run), buffer.getvalue()
    trial.write(f"{_folder(epoch)}/{name}", data)
    return {name: sha256(data)}


def read_state(trial: Storage, epoch: int, run: FoldRun) -> None:
    """Put one fold back to where it was at `epoch`. Only tensors and plain values are read."""
    data = trial.read(f"{_folder(epoch)}/{_state_name(run)}")
    run.load_state(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))


def commit(trial: Storage, checkpoint: Checkpoint, files: dict[str, str]) -> None:
    """Write the history and, last, the manifest; then remove all but the newest checkpoints."""
    folder = _folder(checkpoint.epoch)
    history = parquet_bytes(pa.Table.from_pylist(checkpoint.history))
    trial.write(f"{folder}/history.parquet", history)
    manifest = {
        "epoch": checkpoint.epoch,
        "curve": checkpoint.curve,
        "seconds": checkpoint.seconds,
        "files": {**files, "history.parquet": sha256(history)},
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


def newest(trial: Storage) -> Checkpoint | None:
    """The newest complete checkpoint, or None. Damaged files of newer ones are put aside."""
    for epoch in reversed(_epochs(trial)):
        folder = trial.child(_folder(epoch))
        if not folder.exists("manifest.json"):
            continue
        try:
            manifest = unseal(folder.read("manifest.json"))
            files = manifest["files"].items()
            damaged = [name for name, digest in files if sha256(folder.read(name)) != digest]
        except LedgerError as error:
            folder.put_aside("manifest.json", str(error))
            continue
        except FileNotFoundError:
            continue
        if damaged:
            for name in damaged:
                folder.put_aside(name, "it has not the SHA-256 of its manifest")
            continue
        history = pq.read_table(pa.BufferReader(folder.read("history.parquet"))).to_pylist()
        return Checkpoint(epoch, history, manifest["curve"], manifest["seconds"])
    return None


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
