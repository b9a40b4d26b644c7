"""All folds of one configuration, trained together and in step. It knows no Ray.

Every fold trains one epoch, then all of them report: whoever searches sees the mean over folds
after each epoch. With one process `World()` is enough; with several, each holds some of the folds
and they exchange what each epoch gave.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from features.storage import Storage
from orchestrator.training import checkpoints
from orchestrator.training.fold_run import FoldRun, Row, TrainingError
from orchestrator.ledger.ledger import Ledger, TrialRecord, parquet_bytes, sha256

Gather = Callable[[Any], list[Any]]


@dataclass(frozen=True)
class World:
    """The processes that share a trial. `gather` returns what each of them passed, by rank."""

    rank: int = 0
    gather: Gather = lambda payload: [payload]


@dataclass(frozen=True)
class Task:
    """What to cross-validate.

    record : id, number, model, hyperparameters and seed of the trial
    folds : names of all folds, in their order
    cutoffs : epoch -> score; a trial below it after that epoch is pruned
    checkpoint_every : seconds
    """

    record: TrialRecord
    folds: list[str]
    cutoffs: dict[int, float]
    checkpoint_every: float


def cross_validate(
    task: Task,
    runs: list[FoldRun],
    ledger: Ledger,
    report: Callable[[dict[str, Any]], None],
    world: World | None = None,
) -> TrialRecord:
    """Train `runs`, this process's folds, to their end; write and return the trial's record.

    Goes on from the trial's newest complete checkpoint. `report` is called on every process
    after every epoch with `epoch`, `score` (mean over folds of the best score so far), `ua`, `wa`
    (means over folds of this epoch, on the selection part) and `curve` (the scores of all epochs).
    """
    world = world or World()
    trial = ledger.trial_storage(task.record.id)
    start = _restore(task, runs, trial, world)
    history: list[Row] = list(start.history) if start else []
    curve: list[float] = list(start.curve) if start else []
    before = start.seconds if start else 0.0
    began = saved = time.monotonic()
    failure = None

    while not falls_behind(curve, task.cutoffs):
        if all(world.gather(all(run.ended for run in runs))):
            break
        rows, failure = _train_epoch(runs)
        due = time.monotonic() - saved >= task.checkpoint_every
        round_ = world.gather((rows, failure, {r.fold.name: r.best_score for r in runs}, due))
        failure = next((part[1] for part in round_ if part[1]), None)
        if failure:
            break
        history += [row for part in round_ for row in part[0]]
        best = {name: score for part in round_ for name, score in part[2].items()}
        curve.append(float(np.mean([best[name] for name in task.folds])))
        report(_metrics(curve, history, task.folds))
        if round_[0][3]:  # the clock of one decides for all
            files = _save(world, runs, lambda run: checkpoints.write_state(trial, len(curve), run))
            if world.rank == 0:
                seconds = before + time.monotonic() - began
                reached = checkpoints.Checkpoint(len(curve), history, curve, seconds)
                checkpoints.commit(trial, reached, files)
            saved = time.monotonic()

    record = task.record.model_copy(
        update={
            "curve": curve,
            "score": None if failure else curve[-1],
            "status": "failed" if failure else "complete",
            "reason": failure,
        }
    )
    if falls_behind(curve, task.cutoffs) and not failure:
        reason = f"epoch {len(curve)}: {curve[-1]:.4f} is below {task.cutoffs[len(curve)]:.4f}"
        record = record.model_copy(update={"status": "pruned", "reason": reason})
    if not failure:
        record = _write_results(task, record, runs, trial, history, world)
    if world.rank == 0:
        seconds = before + time.monotonic() - began
        record = record.model_copy(update={"seconds": round(seconds, 3)})
        ledger.write_trial(record)
        checkpoints.delete_all(trial)
    world.gather(None)  # no process leaves before the record is written
    return record


def _restore(
    task: Task, runs: list[FoldRun], trial: Storage, world: World
) -> checkpoints.Checkpoint | None:
    """Put all folds back to the newest checkpoint that every process can go on from.

    Returns it, or None where there is none and all folds are as they were. Ends, as each
    checkpoint that will not do loses a file.
    """
    while True:
        start = world.gather(checkpoints.newest(trial, task.folds) if world.rank == 0 else None)[0]
        if start is None:
            return None
        states, wrong = [], {}
        for run in runs:
            try:
                states.append(checkpoints.read_state(trial, start.epoch, run))
            except checkpoints.StateError as error:
                wrong[checkpoints.state_name(run.fold.name)] = str(error)
        everywhere = {n: reason for part in world.gather(wrong) for n, reason in part.items()}
        if not everywhere:
            for run, state in zip(runs, states, strict=True):
                run.load_state(state)
            return start
        if world.rank == 0:
            checkpoints.put_aside(trial, start.epoch, everywhere)


def falls_behind(curve: list[float], cutoffs: dict[int, float]) -> bool:
    """Whether the score after the latest epoch is below that epoch's cutoff."""
    return len(curve) in cutoffs and curve[-1] < cutoffs[len(curve)]


def _train_epoch(runs: list[FoldRun]) -> tuple[list[Row], str | None]:
    """An epoch of every fold that has not ended: score rows, and the first failure."""
    rows: list[Row] = []
    for run in runs:
        if run.ended:
            continue
        try:
            found = run.train_epoch()
        except TrainingError as error:
            return rows, str(error)
        if run.replica.index == 0:  # replicas of a fold have the same rows
            rows += found
    return rows, None


def _metrics(curve: list[float], history: list[Row], folds: list[str]) -> dict[str, Any]:
    # The newest row of each fold's selection part: a fold that stopped goes on with its last.
    newest = {row["fold"]: row for row in history if row["split"] != "train"}
    return {
        "epoch": len(curve),
        "score": curve[-1],
        "ua": float(np.mean([newest[name]["ua"] for name in folds])),
        "wa": float(np.mean([newest[name]["wa"] for name in folds])),
        "curve": list(curve),
    }


def _save(
    world: World, runs: list[FoldRun], write: Callable[[FoldRun], dict[str, str]]
) -> dict[str, str]:
    """Write something of each fold. Returns the names and SHA-256 of all processes' files."""
    mine: dict[str, str] = {}
    for run in runs:
        if run.replica.index == 0:
            mine |= write(run)
    return {name: digest for part in world.gather(mine) for name, digest in part.items()}


def _write_results(
    task: Task,
    record: TrialRecord,
    runs: list[FoldRun],
    trial: Storage,
    history: list[Row],
    world: World,
) -> TrialRecord:
    """Score the test parts, write weights, scores and predictions; the record that names them."""
    files = _save(world, runs, lambda run: checkpoints.write_weights(trial, run))
    mine, failure = [], None
    for run in runs:
        if run.replica.index == 0:
            try:
                mine.append((run.finish(), {run.fold.name: run.best_epoch}))
            except TrainingError as error:
                failure = str(error)
    everyone = world.gather((mine, failure))
    failure = next((part[1] for part in everyone if part[1]), None)
    if failure:
        update = {"status": "failed", "reason": failure, "score": None}
        return record.model_copy(update=update)
    if world.rank != 0:
        return record
    gathered = [part for parts, _ in everyone for part in parts]
    order = {name: index for index, name in enumerate(task.folds)}
    best = {name: epoch for part in gathered for name, epoch in part[1].items()}
    rows = history + [row for part in gathered for row in part[0].scores]
    rows.sort(key=lambda row: (order[row["fold"]], row["epoch"], row["split"]))
    table = pa.Table.from_pylist(
        [
            {
                **{key: row[key] for key in ("fold", "epoch", "split")},
                "selected": row["epoch"] == best[row["fold"]],
                **row,
            }
            for row in rows
        ]
    )
    contents = {"folds.parquet": table}
    for name in ("predictions", "inspection"):
        found = [row for finished, _ in gathered for row in getattr(finished, name)]
        found.sort(key=lambda row: order[row["fold"]])
        if found:  # what attends to nothing leaves no inspection
            contents[f"{name}.parquet"] = pa.Table.from_pylist(found)
    for name, content in contents.items():
        data = parquet_bytes(content)
        trial.write(name, data)
        files[name] = sha256(data)
    return record.model_copy(update={"files": dict(sorted(files.items()))})
