"""All folds of one configuration, trained together. After each epoch, their mean may prune them.

One process can train all folds. Several processes share the folds, and exchange the results of
every epoch.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.ledger.seals import parquet_bytes
from orchestrator.training import checkpoints
from orchestrator.training.checkpoints import Checkpoint
from orchestrator.training.fold_run import Finished, FoldRun, Row, TrainingError
from orchestrator.training.state import StateError


class World(NamedTuple):
    """The processes that share a trial. `gather` returns the values that all passed, by rank."""

    rank: int = 0
    gather: Callable[[Any], list[Any]] = lambda payload: [payload]


class Task(NamedTuple):
    """A trial to cross-validate.

    record : id, number, model, hyperparameters and seed of the trial
    folds : names of all folds, in their order
    why_pruned : from the curve after an epoch, the reason to stop the trial, or None
    checkpoint_every : seconds between checkpoints, at least
    """

    record: TrialRecord
    folds: list[str]
    why_pruned: Callable[[list[float]], str | None]
    checkpoint_every: float


def cross_validate(
    task: Task,
    runs: list[FoldRun],
    ledger: Ledger,
    report: Callable[[dict[str, Any]], None],
    world: World = World(),  # noqa: B008  (immutable)
) -> TrialRecord:
    """Train `runs`, the folds of this process, to their end. Writes and returns the trial's record.

    Resumes from the newest complete checkpoint of the trial. After every epoch, every process calls
    `report` with `epoch`, `score` (mean over folds of the best score so far), `curve` (all scores)
    and `ua` and `wa`: means over folds, on the selection part, of each fold's last epoch.
    """
    trial = ledger.trial_storage(task.record.id)
    history, curve, before = _restore(task, runs, trial, world)
    began = saved = time.monotonic()
    failure = pruned = None

    while not (pruned := task.why_pruned(curve)):
        if all(world.gather(all(run.ended for run in runs))):
            break
        rows, failure = _train_epoch(runs)
        due = time.monotonic() - saved >= task.checkpoint_every
        parts = world.gather((rows, failure, {r.fold.name: r.best_score for r in runs}, due))
        failure = next((failure for _, failure, _, _ in parts if failure), None)
        if failure:
            break
        history += [row for rows, _, _, _ in parts for row in rows]
        best = {name: score for _, _, scores, _ in parts for name, score in scores.items()}
        curve.append(float(np.mean([best[name] for name in task.folds])))
        # The latest row of each fold's selection part. A fold that has ended keeps its last row.
        latest = {row["fold"]: row for row in history if row["split"] != "train"}
        ua, wa = (
            float(np.mean([latest[name][key] for name in task.folds])) for key in ("ua", "wa")
        )
        report({"epoch": len(curve), "score": curve[-1], "ua": ua, "wa": wa, "curve": list(curve)})
        if parts[0][3]:  # the clock of the first process decides for all
            files = _save(world, runs, lambda run: checkpoints.write_state(trial, len(curve), run))
            if world.rank == 0:
                seconds = before + time.monotonic() - began
                checkpoints.commit(trial, Checkpoint(history, curve, seconds), files)
            saved = time.monotonic()

    files = {}
    if not failure:
        files, failure = _write_results(task, runs, trial, history, world)
    ending = {
        "status": "failed" if failure else "pruned" if pruned else "complete",
        "reason": failure or pruned,
        "score": None if failure else curve[-1],
        "curve": curve,
        "seconds": round(before + time.monotonic() - began, 3),
        "files": {} if failure else files,
    }
    record = task.record.model_copy(update=ending)
    if world.rank == 0:
        ledger.write_trial(record)
        checkpoints.delete_all(trial)
    world.gather(None)  # no process leaves before the record is written
    return record


def _restore(task: Task, runs: list[FoldRun], trial: Storage, world: World) -> Checkpoint:
    """Load the newest checkpoint that all processes can load, or return an empty checkpoint.

    All states are checked before any fold loads one. Each failed attempt renames a file of the
    checkpoint, so the loop ends.
    """
    while True:
        start = world.gather(checkpoints.newest(trial, task.folds) if world.rank == 0 else None)[0]
        if start is None:
            return Checkpoint([], [], 0.0)
        states, errors = [], {}
        for run in runs:
            try:
                states.append(checkpoints.read_state(trial, start.epoch, run))
            except StateError as error:
                errors[checkpoints.file_name(run.fold.name)] = str(error)
        reasons = {name: text for part in world.gather(errors) for name, text in part.items()}
        if not reasons:
            for run, state in zip(runs, states, strict=True):
                run.load_state(state)
            return start
        if world.rank == 0:
            checkpoints.rename_damaged(trial, start.epoch, reasons)


def _train_epoch(runs: list[FoldRun]) -> tuple[list[Row], str | None]:
    """Train an epoch of every fold that has not ended. Returns score rows and the first failure."""
    rows: list[Row] = []
    try:
        for run in (run for run in runs if not run.ended):
            epoch_rows = run.train_epoch()
            if run.replica.index == 0:  # all replicas of a fold have the same rows
                rows += epoch_rows
    except TrainingError as error:
        return rows, str(error)
    return rows, None


def _save(
    world: World, runs: list[FoldRun], write: Callable[[FoldRun], dict[str, str]]
) -> dict[str, str]:
    """Write a file for each fold. Returns the names and SHA-256 of all processes' files."""
    mine = [write(run) for run in runs if run.replica.index == 0]
    written = [files for part in world.gather(mine) for files in part]
    return {name: digest for files in written for name, digest in files.items()}


def _write_results(
    task: Task, runs: list[FoldRun], trial: Storage, history: list[Row], world: World
) -> tuple[dict[str, str], str | None]:
    """Score the test parts; write weights, scores, predictions and inspection.

    Returns the SHA-256 of the files by name, and the reason if a fold failed. Only the first
    process has the SHA-256 of all files.
    """
    files = _save(world, runs, lambda run: checkpoints.write_weights(trial, run))
    mine: dict[str, Finished] = {}
    failure = None
    for run in runs:
        if run.replica.index == 0:
            try:
                mine[run.fold.name] = run.finish()
            except TrainingError as error:
                failure = str(error)
    parts = world.gather((mine, failure))
    failure = next((failure for _, failure in parts if failure), None)
    if failure or world.rank != 0:
        return files, failure
    everyone = {name: finished for part, _ in parts for name, finished in part.items()}
    folds = {name: everyone[name] for name in task.folds}
    # The scores of all epochs and of the test parts, sorted by fold.
    rows = history + [row for finished in folds.values() for row in finished.scores]
    rows.sort(key=lambda row: (task.folds.index(row["fold"]), row["epoch"], row["split"]))
    selected = pa.array(row["epoch"] == folds[row["fold"]].best_epoch for row in rows)
    tables = {"folds": pa.Table.from_pylist(rows).add_column(3, "selected", selected)}
    for name in ("predictions", "inspection"):
        rows = [row for finished in folds.values() for row in getattr(finished, name)]
        if rows:  # a model without attention has no inspection
            tables[name] = pa.Table.from_pylist(rows)
    for name, table in tables.items():
        files |= checkpoints.write(trial, f"{name}.parquet", parquet_bytes(table))
    return files, None
