"""MLflow: a run for each sweep, and inside it a run for each trial.

MLflow's own variables say where: `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` (default
`ser`). The runs have the tags `ser.sweep` and `ser.trial`. The server is asked for them, so a
resumed sweep adds only the missing runs, on every machine.
"""

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from features.storage import Storage
from orchestrator.ledger.records import SweepRecord
from orchestrator.tracking.logs import TrialLog, flat, sweep_key

EXPERIMENT = "ser"
METRICS_AT_ONCE, PARAMETERS_AT_ONCE = 1000, 100
"""Limits of MLflow for one request."""
LONGEST = 500
"""Characters of a parameter; older servers take no more."""


class MLflow:
    """Writes runs to an MLflow server, or to a local store. Raises MlflowException if it fails."""

    def __init__(self, sweep: SweepRecord, storage: Storage) -> None:
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        from mlflow import MlflowClient

        self.client = MlflowClient()
        self.key = sweep_key(sweep)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = self.client.get_experiment_by_name(name)
        self.experiment = experiment.experiment_id if experiment else self._create(name)
        runs = self._runs()
        self.done = {trial for trial, run in runs.items() if trial and _ended(run)}
        # Runs of a driver that was killed while it wrote them.
        for trial, run in runs.items():
            if trial and trial not in self.done:
                self.client.delete_run(run.info.run_id)
        self.parent = runs[""].info.run_id if "" in runs else self._start_sweep(sweep)

    def _create(self, name: str) -> str:
        return str(self.client.create_experiment(name))

    def _runs(self) -> dict[str, Any]:
        """The runs of the sweep by the trial's id; the run of the sweep itself has none."""
        runs: dict[str, Any] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment], f"tags.`ser.sweep` = '{self.key}'", page_token=token
            )
            runs |= {run.data.tags.get("ser.trial", ""): run for run in page}
            if not (token := page.token):
                return runs

    def _start(self, name: str, parameters: dict[str, Any], tags: dict[str, str]) -> str:
        from mlflow.entities import Param

        tags |= {"ser.sweep": self.key}
        run = str(self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id)
        entries = [Param(_name(k), str(v)[:LONGEST]) for k, v in parameters.items()]
        for first in range(0, len(entries), PARAMETERS_AT_ONCE):
            self.client.log_batch(run, params=entries[first : first + PARAMETERS_AT_ONCE])
        return run

    def _start_sweep(self, sweep: SweepRecord) -> str:
        return self._start(sweep.name, dict(flat(sweep.configuration)), {})

    def _log(self, run: str, values: list[tuple[str, int, float]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, step) for name, step, value in values]
        for first in range(0, len(metrics), METRICS_AT_ONCE):
            self.client.log_batch(run, metrics=metrics[first : first + METRICS_AT_ONCE])

    def has(self, trial: str) -> bool:
        """Whether the trial has a run that has ended."""
        return trial in self.done

    def add(self, log: TrialLog) -> None:
        """Write the run of a trial. The run ends last, so a run that has ended is complete."""
        record = log.record
        tags = {"ser.trial": record.id, "mlflow.parentRunId": self.parent}
        tags |= {"ser.status": record.status, "ser.reason": record.reason or ""}
        fixed = {"model": record.model, "seed": record.seed}
        run = self._start(log.title, {**fixed, **record.hyperparameters}, tags)
        values = [
            (f"{value.name}/{value.series or 'mean'}", value.step, value.value)
            for value in log.values
        ]
        last = record.epochs
        scores = {name: score for name, score in log.scores.items() if name != "score"}
        values += [(f"{name}/mean", last, score) for name, score in scores.items()]
        self._log(run, values)
        ended = "FAILED" if record.status == "failed" else "FINISHED"
        self.client.set_terminated(run, ended)
        self.done.add(record.id)

    def finish(self, scores: dict[str, float], report: Storage) -> None:
        """Write the scores of the sweep that have changed, and the files of the report."""
        known = self.client.get_run(self.parent).data.metrics
        step = len(self.done)
        changed = [(k, step, value) for k, value in scores.items() if known.get(k) != value]
        self._log(self.parent, changed)
        with tempfile.TemporaryDirectory() as folder:
            for name in report.list():
                Path(folder, name).write_bytes(report.read(name))
            self.client.log_artifacts(self.parent, folder, "report")
        self.client.set_terminated(self.parent, "FINISHED")


def _ended(run: Any) -> bool:
    return run.info.status in ("FINISHED", "FAILED")


def _name(text: str) -> str:
    """`text` with the characters that MLflow allows in names."""
    return re.sub(r"[^\w./ -]", "_", text, flags=re.ASCII)[:250]
