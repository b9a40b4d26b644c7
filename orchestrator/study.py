"""A study from its configuration to its page: several sweeps on the same folds, one after another.

The folder of a study is `<storage>/studies/<study>/`. It has a folder for each sweep, one for each
run with another seed, and the page. Names of single sweeps have no slash, so no single sweep can
have the same folder. The study shares its features with all sweeps of the storage.

A study keeps no state of its own: each run resumes as a sweep does. One driver at a time works on a
study.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from features.sets import FeatureConfig
from features.storage import Storage
from orchestrator.config.sections import Configuration
from orchestrator.config.study import REPORT, Study, raise_all
from orchestrator.data.prepare import Plan
from orchestrator.errors import ConfigError, HopelessError, finished_trials_kept, translated
from orchestrator.ledger.lease import lease
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.progress import Narrator
from orchestrator.report.study import build_study
from orchestrator.results.opened import OpenedSweep
from orchestrator.results.selection import best_trial
from orchestrator.sweep import identity
from orchestrator.sweep.check import check, check_model, training_speakers
from orchestrator.sweep.connection import Connection
from orchestrator.sweep.run import changes, run
from orchestrator.tracking.follow import followed
from search_spaces import Space

FOLDER = "studies"
"""The folder of all studies on a storage."""
REFERENCE_SECONDS = 3.0
"""Length of the recording for which costs are compared: about the mean of emotional corpora."""


@dataclass(frozen=True)
class PlannedRun:
    """A sweep of a study, or the training of its best configuration with another seed. Checked."""

    plan: Plan
    space: Space
    ledger: Ledger

    @property
    def name(self) -> str:
        """The name of the run, and of its folder."""
        return self.configuration.name

    @property
    def configuration(self) -> Configuration:
        """The configuration of the run."""
        return self.plan.configuration

    @property
    def trials(self) -> int:
        """Number of trials of the whole run."""
        search = self.configuration.search
        if search is None:
            return 1
        if search.sampler == "grid":
            return min(search.trials, len(self.space.grid()))
        return search.trials

    @cached_property
    def cost(self) -> int:
        """Estimate of the work, to compare the runs of a study.

        Fold-epochs, times the parameters of the configured network, times the rows that the network
        reads of a recording of 3 s. The number of recordings and their lengths are the same for all
        runs. Early stopping, pruning and the sizes that a search chooses are not known before.
        """
        speakers = self.plan.corpus.manifest.table["speaker"].to_pylist()
        network = check_model(self.configuration, training_speakers(self.plan.folds, speakers))
        parameters = sum(parameter.numel() for parameter in network.parameters())
        epochs = len(self.plan.folds) * self.configuration.training.last_epoch
        return self.trials * epochs * parameters * rows_read(self.configuration.features)


def rows_read(features: FeatureConfig) -> int:
    """Rows of a recording of 3 s that a network reads."""
    feature_set = features.load()
    if feature_set.shape == "vector":
        return 1
    return math.ceil(REFERENCE_SECONDS * feature_set.rate / features.pooling)


@dataclass(frozen=True)
class FinishedStudy:
    """The runs of a study, and the files of its page.

    sweeps : in the order of the study's file
    seeds : sweep -> the runs of its best configuration with other seeds
    storage : the folder of the page
    files : names in that folder
    failures : run -> the reason why it has no result, or not all of its trials
    """

    name: str
    sweeps: list[OpenedSweep]
    seeds: dict[str, list[OpenedSweep]]
    storage: Storage
    files: list[str]
    failures: dict[str, str]


def study_folder(study: Study) -> Storage:
    """The folder of a study."""
    return Storage.open(study.storage).child(f"{FOLDER}/{study.name}")


def check_study(study: Study) -> list[PlannedRun]:
    """Check every sweep of a study before anything is computed. Returns them, the cheapest first.

    Raises ConfigError with the lines of all sweeps: those of `orchestrator.sweep.check.check`, and
    changes under the name of a sweep that has started.
    """
    runs: list[PlannedRun] = []
    errors: dict[str, ConfigError] = {}
    for name, configuration in study.sweeps.items():
        try:
            with translated():
                plan, space = check(configuration)
        except ConfigError as error:
            errors[name] = error
        else:
            runs.append(PlannedRun(plan, space, Ledger(study_folder(study).child(name))))
    raise_all(errors, len(study.sweeps))
    if lines := list(_changed(runs)):
        raise ConfigError("\n".join(lines))
    return sorted(runs, key=lambda planned: planned.cost)


def _changed(runs: list[PlannedRun]) -> Iterator[str]:
    """A line for each sweep that has started with another configuration."""
    for planned in runs:
        code = identity.code(planned.configuration, planned.space)
        if lines := changes(planned.plan, planned.space, planned.ledger, code):
            yield (
                f"sweeps.{planned.name}: {planned.ledger.storage.root} holds another sweep: "
                f"{'; '.join(lines)}. Undo these changes, or give the sweep or the study another "
                f"name"
            )


def run_study(study: Study, narrator: Narrator) -> FinishedStudy:
    """Run a study to its end, or resume it, and write its page.

    If too many trials of a sweep in a row fail, the other sweeps still run. The sweeps get no
    reports of their own, because each report takes seconds. `ser report` writes them.

    Raises ConfigError before anything is computed if a sweep cannot run; LeaseError if another
    driver works on the study.
    """
    runs, folder = check_study(study), study_folder(study)
    sweeps: dict[str, OpenedSweep] = {}
    seeds: dict[str, list[OpenedSweep]] = {}
    failures: dict[str, str] = {}
    with lease(folder) as confirm, finished_trials_kept():
        confirm()
        with Connection() as connection:
            for number, planned in enumerate(runs, start=1):
                narrator.say(f"sweep {number} of {len(runs)}: {planned.name}")
                sweeps[planned.name] = _finish(planned, connection, narrator, failures)
            for planned in runs:
                if study.seeds and planned.name in failures:
                    narrator.say(f"{planned.name}: no training with other seeds, because it failed")
                    continue
                best = sweeps[planned.name].trial()
                for again in _with_other_seeds(study, planned, best):
                    narrator.say(f"{planned.name}: its best configuration with another seed")
                    finished = _finish(again, connection, narrator, failures)
                    if again.name not in failures:
                        seeds.setdefault(planned.name, []).append(finished)
        in_order = [sweeps[name] for name in study.sweeps]
        for sweep in in_order[1:]:
            if sweep.record.folds != in_order[0].record.folds:
                narrator.say(
                    f"{sweep.name} has other folds than {in_order[0].name}, because other "
                    f"utterances have no features. Their scores cannot be compared"
                )
        target = folder.child(REPORT)
        recordings = runs[0].plan.corpus.manifest if study.audio else None
        files = build_study(in_order, target, study.name, seeds=seeds, recordings=recordings)
    return FinishedStudy(study.name, in_order, seeds, target, files, failures)


def _finish(
    planned: PlannedRun, connection: Connection, narrator: Narrator, failures: dict[str, str]
) -> OpenedSweep:
    """Run a sweep to its end. If it fails, the reason goes into `failures`."""
    with followed(planned.configuration.trackers, planned.ledger, narrator.say):
        try:
            run(planned.plan, planned.space, planned.ledger, narrator, connection=connection)
        except HopelessError as error:
            failures[planned.name] = str(error)
            narrator.say(f"{planned.name}: {error}")
    sweep = OpenedSweep(planned.ledger)
    if planned.name not in failures:
        if sweep.findings.unfinished:
            failures[planned.name] = "trials were interrupted. Run the same command to resume"
        elif sweep.best is None:
            reasons = dict.fromkeys(str(trial.record.reason) for trial in sweep.findings.trials)
            failures[planned.name] = f"no trial has a score. Reasons: {'; '.join(reasons)}"
    return sweep


def _with_other_seeds(study: Study, planned: PlannedRun, best: TrialRecord) -> Iterator[PlannedRun]:
    """The runs of a sweep's best configuration with the seeds of the study."""
    for seed in _other_seeds(study, planned):
        ledger = _seed_ledger(study, planned, best, seed)
        name = ledger.storage.root.rpartition("/")[2]
        fixed = {"search": None, "training.seed": seed, "name": name}
        plan, space = check(planned.configuration.with_values({**best.hyperparameters, **fixed}))
        yield PlannedRun(plan, space, ledger)


def _other_seeds(study: Study, planned: PlannedRun) -> list[int]:
    """The seeds of the study without the sweep's own: its best trial is the run with that seed."""
    return [seed for seed in study.seeds if seed != planned.configuration.training.seed]


def _seed_ledger(study: Study, planned: PlannedRun, best: TrialRecord, seed: int) -> Ledger:
    """The ledger of the best configuration with another seed.

    The name has the best trial's id, because a sweep with more trials may have another best trial.
    """
    return Ledger(study_folder(study).child(f"{planned.name}.{best.id}.seed-{seed}"))


def finished_trials(ledger: Ledger) -> int:
    """Number of proposals whose trial has finished. Reads records only; 0 if there is no sweep."""
    if not ledger.has_sweep():
        return 0
    finished = {record.id for record in ledger.records()}
    return sum(proposal.trial in finished for proposal in ledger.proposals())


def study_costs(study: Study) -> dict[str, Any]:
    """The runs of a study and their costs, as plain values: `ser study --list --json` prints them.

    Keys: `study`, `folder`, `runs` (in the order in which they run), `fold_epochs` and
    `fold_epochs_left`. A run has `sweep`, `seed` (None for the sweep itself), `model`, `trials`,
    `folds`, `epochs`, `fold_epochs` (trials x folds x epochs), `finished` (trials) and
    `fold_epochs_left`. Fold-epochs are upper limits, because patience and pruning stop training
    early. Raises ConfigError as `check_study` does.
    """
    planned = check_study(study)
    rows = [_costs(each, None, each.trials, each.ledger) for each in planned]
    for each in planned:
        # As long as trials are missing, another trial may become the best.
        done = finished_trials(each.ledger) >= each.trials
        best = best_trial(each.ledger.records()) if done else None
        for seed in _other_seeds(study, each):
            ledger = _seed_ledger(study, each, best, seed) if best is not None else None
            rows.append(_costs(each, seed, 1, ledger))
    return {
        "study": study.name,
        "folder": study_folder(study).root,
        "runs": rows,
        "fold_epochs": sum(row["fold_epochs"] for row in rows),
        "fold_epochs_left": sum(row["fold_epochs_left"] for row in rows),
    }


def _costs(
    planned: PlannedRun, seed: int | None, trials: int, ledger: Ledger | None
) -> dict[str, Any]:
    """The costs of a run of `trials` trials. Without a ledger, no trial is finished."""
    folds, epochs = len(planned.plan.folds), planned.configuration.training.last_epoch
    finished = min(trials, finished_trials(ledger)) if ledger is not None else 0
    return {
        "sweep": planned.name,
        "seed": seed,
        "model": planned.configuration.model.name,
        "trials": trials,
        "folds": folds,
        "epochs": epochs,
        "fold_epochs": trials * folds * epochs,
        "finished": finished,
        "fold_epochs_left": (trials - finished) * folds * epochs,
    }
