"""An opened sweep: its trials, scores and predictions as Arrow tables or plain values."""

from functools import cached_property
from typing import Any

import pyarrow as pa

from orchestrator.errors import ConfigError, translated
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import SweepRecord, TrialRecord
from orchestrator.results.findings import Findings, gather, hyperparameter_keys
from orchestrator.results.selection import best_trial
from orchestrator.results.summary import summarise


class OpenedSweep:
    """A sweep on a storage, finished or not. Its list of trials is read once.

    >>> sweep = open_sweep("runs/iaan-loso")
    >>> sweep.trials().sort_by([("score", "descending")])

    Raises NoSweepError if the folder holds no sweep, LedgerError if a file is damaged, and
    StorageError if the storage cannot be read.
    """

    @translated()
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.record: SweepRecord = ledger.sweep()
        self.name = self.record.name

    @cached_property
    @translated()
    def _records(self) -> dict[str, TrialRecord]:
        return {record.id: record for record in self.ledger.trials()}

    @cached_property
    @translated()
    def findings(self) -> Findings:
        """Everything that the report says, computed once (`orchestrator.results.findings`)."""
        return gather(self.ledger)

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the highest score, or None if no trial has a score."""
        return best_trial(self._records.values())

    def trial(self, trial: str | None = None) -> TrialRecord:
        """A trial with a score, by its id; by default the best trial.

        Raises ConfigError if there is no such trial, or if the trial failed.
        """
        record = self.best if trial is None else self._records.get(trial)
        if record is None:
            known = ", ".join(self._records) or "none yet"
            missing = "trial with a score" if trial is None else f"trial {trial!r}"
            raise ConfigError(f"sweep {self.name} has no {missing}; finished trials: {known}")
        if record.status == "failed":
            raise ConfigError(f"trial {record.id} failed and has no scores: {record.reason}")
        return record

    def trials(self) -> pa.Table:
        """One row for each finished trial, in the order of the search.

        Columns: number, trial (the id), status, score (0..1, null if the trial failed), epochs,
        seconds, reason, and one column for each hyperparameter.
        """
        records = list(self._records.values())
        rows = [{**r.model_dump(), "trial": r.id, "epochs": r.epochs} for r in records]
        fixed = [("number", pa.int64()), ("trial", pa.string()), ("status", pa.string())]
        fixed += [("score", pa.float64()), ("epochs", pa.int64()), ("seconds", pa.float64())]
        table = pa.Table.from_pylist(rows, schema=pa.schema([*fixed, ("reason", pa.string())]))
        for key in hyperparameter_keys(records):
            table = table.append_column(key, _column([r.hyperparameters.get(key) for r in records]))
        return table

    @translated()
    def folds(self, trial: str | None = None) -> pa.Table:
        """Scores of a trial: one row for each fold, epoch and part. By default the best trial.

        Columns: fold, epoch (from 1), split (the part), selected (whether the fold selected the
        epoch), loss, ua, wa, and recall_<class> for each class. Errors: see `trial`.

        >>> sweep.folds().filter(pc.field("split") == "test")["ua"]
        """
        return self.ledger.folds(self.trial(trial).id)

    @translated()
    def predictions(self, trial: str | None = None) -> pa.Table:
        """One row for each test utterance of each fold of a trial. By default the best trial.

        Columns: fold, utterance, speaker, truth, prediction, posterior_<class> for each class, and
        own_previous and other_previous (classes of the previous turns). Errors: see `trial`.

        >>> sweep.predictions().select(["utterance", "truth", "prediction"])
        """
        return self.ledger.predictions(self.trial(trial).id)

    @translated()
    def scores(self) -> dict[str, Any]:
        """The values that `ser report --json` prints; see `orchestrator.results.summary`.

        >>> sweep.scores()["best"]["pooled"]["ua"]["value"]
        """
        return summarise(self.findings)


def _column(values: list[Any]) -> pa.Array:
    """The values of a hyperparameter; as text if they do not have a common type."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
