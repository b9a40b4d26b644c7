"""Weights & Biases: a group for each sweep, with a run for each trial and one for the sweep.

W&B's own variables say where: `WANDB_PROJECT` (default `ser`), `WANDB_ENTITY`, `WANDB_MODE`,
`WANDB_DIR`. An offline run cannot ask which trials the project has, so a sealed file on the
storage names them. The id of a run is a hash of the sweep and the trial. If a driver is killed
between a run and that file, the same run is written again, and W&B ignores the steps that it has.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from features.storage import Storage
from orchestrator.errors import DependencyError, LedgerError
from orchestrator.ledger.records import SweepRecord
from orchestrator.ledger.seals import canonical_json, seal, unseal
from orchestrator.tracking.logs import TrialLog, flat, sweep_key

PROJECT = "ser"
SENT = "tracking/wandb.json"
"""The file with the ids of the trials that W&B has, and a digest of the sweep's scores."""


class WandB:
    """Writes runs with the package `wandb`, which raises its own errors if it fails."""

    def __init__(self, sweep: SweepRecord, storage: Storage) -> None:
        import wandb

        self.wandb, self.sweep, self.storage = wandb, sweep, storage
        self.key = sweep_key(sweep)
        online = os.environ.get("WANDB_MODE", "online") in ("online", "shared")
        if online and not wandb.login(prompt=False):  # `init` would ask for the key, and wait
            raise DependencyError("no API key. Run `wandb login`, or set WANDB_MODE=offline")
        self.sent = self._sent()

    def _sent(self) -> dict[str, Any]:
        try:
            content = unseal(self.storage.read(SENT))
            if content["sweep"] == self.key:
                return {"trials": list(content["trials"]), "scores": str(content["scores"])}
        except (FileNotFoundError, LedgerError, KeyError, TypeError):
            pass  # it is written anew; a run that W&B has keeps its id
        return {"trials": [], "scores": ""}

    def _save(self) -> None:
        self.storage.write(SENT, seal({"sweep": self.key, **self.sent}))

    def _run(self, name: str, kind: str, trial: str, configuration: dict[str, Any]) -> Any:
        identity = hashlib.sha1(f"{self.key}/{trial}".encode()).hexdigest()[:16]
        return self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=identity,
            name=name,
            group=self.key,
            job_type=kind,
            config=configuration,
            resume="allow",
            reinit="create_new",
            settings=self.wandb.Settings(silent=True, console="off", save_code=False),
        )

    def has(self, trial: str) -> bool:
        """Whether the trial's run has been written."""
        return trial in self.sent["trials"]

    def add(self, log: TrialLog) -> None:
        """Write the run of a trial, one step for each epoch."""
        record = log.record
        fixed = {"model": record.model, "seed": record.seed, "status": record.status}
        run = self._run(log.title, "trial", record.id, {**fixed, **record.hyperparameters})
        steps: dict[int, dict[str, float]] = {}
        for value in log.values:
            name = f"{value.name}/{value.series or 'mean'}"
            steps.setdefault(value.step, {})[name] = value.value
        for step, values in steps.items():
            run.log(values, step=step)
        scores = {f"{name}/mean": score for name, score in log.scores.items()}
        run.summary.update({**scores, "reason": record.reason or ""})
        run.finish(exit_code=int(record.status == "failed"))
        self.sent["trials"].append(record.id)
        self._save()

    def finish(self, scores: dict[str, float], report: Storage) -> None:
        """Write the run of the sweep, with the report, if the scores have changed."""
        content = canonical_json([scores, self.sent["trials"]])
        digest = hashlib.sha256(content).hexdigest()
        if digest == self.sent["scores"]:
            return
        run = self._run(self.sweep.name, "sweep", "", dict(flat(self.sweep.configuration)))
        run.summary.update(scores)
        with tempfile.TemporaryDirectory() as folder:
            artifact = self.wandb.Artifact(f"report-{self.key}", type="report")
            for name in report.list():
                path = Path(folder, name)
                path.write_bytes(report.read(name))
                artifact.add_file(str(path), name=name)
            run.log_artifact(artifact)
            run.finish()
        self.sent["scores"] = digest
        self._save()
