"""TensorBoard: a folder for each trial, with one curve for each fold, and the tab of
hyperparameters.

    <sweep>/tensorboard/events.out.tfevents.<key>        the columns of the tab
    <sweep>/tensorboard/<number>-<id>/events.out.tfevents.<id>

Each file is written once, as a whole. `tensorboard --logdir <sweep>/tensorboard` shows them.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from features.storage import Storage
from orchestrator.ledger.records import SweepRecord
from orchestrator.tracking.logs import TrialLog, sweep_key

FOLDER = "tensorboard"
SCORES = ("score", "test_ua", "test_wa")


class TensorBoard:
    """Writes event files beside the trials of a sweep."""

    def __init__(self, sweep: SweepRecord, storage: Storage) -> None:
        self.sweep = sweep
        self.folder = storage.child(FOLDER)
        self.columns = f"events.out.tfevents.{sweep_key(sweep)}"

    def _name(self, number: int, trial: str) -> str:
        return f"{number:03d}-{trial}/events.out.tfevents.{trial}"

    def has(self, trial: str) -> bool:
        """Whether a folder of this trial exists; its only file is complete."""
        return any(name.endswith(f"-{trial}") for name in self.folder.list())

    def add(self, log: TrialLog) -> None:
        """Write the event file of a trial."""
        from tensorboardX.summary import hparams, scalar

        if not self.folder.exists(self.columns):
            self._write_columns()
        summaries: list[tuple[Any, int | None]] = []
        if log.scores:
            chosen = _plain(log.record.hyperparameters)
            _, start, end = hparams(chosen, {f"{name}/mean": 0.0 for name in log.scores})
            summaries += [(start, None), (end, None)]
        for value in log.values:
            tag = f"{value.name}/{value.series or 'mean'}"
            summaries.append((scalar(tag, value.value), value.step))
        last = log.record.epochs
        for name, score in log.scores.items():
            if name != "score":  # its curve ends with it
                summaries.append((scalar(f"{name}/mean", score), last))
        data = _event_file(summaries)
        self.folder.write(self._name(log.record.number, log.record.id), data)

    def _write_columns(self) -> None:
        """Name all hyperparameters once: those of a single trial may lack some (`when`)."""
        from tensorboardX.summary import hparams

        parameters = self.sweep.space.get("parameters", {})
        samples = {name: _sample(parameter) for name, parameter in parameters.items()}
        experiment, _, _ = hparams(samples, {f"{name}/mean": 0.0 for name in SCORES})
        self.folder.write(self.columns, _event_file([(experiment, None)]))

    def finish(self, scores: dict[str, float], report: Storage) -> None:
        """Does nothing: TensorBoard has no place for a sweep."""


def _sample(parameter: dict[str, Any]) -> Any:
    """A value of the type that a parameter has."""
    return _plain({"": (parameter.get("choices") or [parameter.get("low")])[0]})[""]


def _plain(point: dict[str, Any]) -> dict[str, Any]:
    """Values that the tab can show."""
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in point.items()}


def _event_file(summaries: Iterable[tuple[Any, int | None]]) -> bytes:
    """The bytes of an event file."""
    from tensorboardX.writer import FileWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = FileWriter(folder)
        for summary, step in summaries:
            writer.add_summary(summary, step)
        writer.close()
        (path,) = Path(folder).iterdir()
        return path.read_bytes()
