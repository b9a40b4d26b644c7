"""A sweep from its configuration to its end.

The sweep's folder is the truth. A resumed sweep makes the same proposals in the same order, skips
finished trials, and resumes the others from their checkpoints. Tune's own files are never read.
"""

import datetime
import importlib.metadata
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.cache import CachedFrames, folder_of, readable
from features.storage import Storage
from orchestrator.config.searched import searched_features
from orchestrator.config.sections import Configuration, SearchConfig
from orchestrator.data.dataset import Dataset
from orchestrator.data.prepare import Plan, Prepared, feature_files, prepare
from orchestrator.errors import ConfigError, HopelessError
from orchestrator.ledger.lease import lease
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import FoldSizes, SweepRecord, Taken
from orchestrator.progress import Narrator
from orchestrator.sweep import identity
from orchestrator.sweep.check import check, storage_of
from orchestrator.sweep.connection import Connection, check_own_code
from orchestrator.sweep.fork import copy_trials, valid_trials
from orchestrator.sweep.resources import (
    Resources,
    check_this_machine,
    choose_resources,
    replicas_of,
)
from search_spaces import Space

if TYPE_CHECKING:
    from orchestrator.sweep.search import Search

VERSIONS = ("ser-orchestrator", "torch", "ray", "optuna", "opensmile", "numpy", "scikit-learn")

QUIET_S = 2.0
"""Seconds for which the frames are put into their file without a bar."""


def ledger_of(configuration: Configuration, fork: str | None = None) -> Ledger:
    """The ledger of a configuration's sweep, or of its fork. Raises ConfigError."""
    return Ledger(storage_of(configuration).child(fork or configuration.name))


def run_sweep(configuration: Configuration, narrator: Narrator, fork: str | None = None) -> Ledger:
    """Search, or without a `search` section cross-validate the one configuration.

    fork : name of a new sweep, which copies the trials that are still valid from this sweep

    Raises ConfigError before anything is computed if the configuration cannot run, or if the folder
    holds another sweep; LeaseError if another driver works on it; HopelessError if
    `cluster.max_failures` trials fail in a row. Returns the ledger.
    """
    plan, space = check(configuration)
    source = None
    if fork is not None:
        source = ledger_of(configuration)
        source.sweep()  # raises NoSweepError
        plan = replace(plan, configuration=configuration.with_values({"name": fork}))
    ledger = ledger_of(configuration, fork)
    with lease(ledger.storage) as confirm:
        run(plan, space, ledger, narrator, source, confirm=confirm)
    return ledger


def run(
    plan: Plan,
    space: Space,
    ledger: Ledger,
    narrator: Narrator,
    source: Ledger | None = None,
    connection: Connection | None = None,
    confirm: Callable[[], None] = lambda: None,
) -> None:
    """As `run_sweep`, for a driver that holds the lease. Uses Ray only if a trial is unfinished.

    connection : to Ray, which the run opens if needed and leaves open; by default one of its own
    confirm : confirms the lease (`orchestrator.ledger.lease.lease`), called before the first write
    """
    configuration, files = _searching(plan.configuration), feature_files(plan.features)
    with ExitStack() as own:
        connection = connection or own.enter_context(Connection())
        resources = None
        if not ledger.has_sweep():  # wrong resources end a new sweep before the extraction
            resources = _connect(connection, plan, configuration, len(plan.folds))
        else:  # other files would be extracted for hours before their features are refused
            _refuse(ledger, identity.changed_files(ledger.sweep().feature_files, files))
        confirm()
        prepared = _prepare(plan, configuration, connection, narrator)
        replicas = replicas_of(configuration, len(prepared.folds))

        def resolve(hyperparameters: dict[str, Any]) -> tuple[Configuration, str]:
            chosen = configuration.with_values(hyperparameters)
            ids, fingerprint = prepared.dataset.ids, prepared.fingerprint_of(chosen.features)
            trial = identity.trial_id(chosen, prepared.folds, ids, fingerprint, replicas)
            return chosen, trial

        # It imports Ray Tune, which takes a second. A wrong corpus is refused before.
        from orchestrator.sweep.search import Search, failure_message

        record = _open(ledger, configuration, space, prepared, resources, narrator)
        code = identity.combined(record.code)
        if source is not None:
            record = _take(source, ledger, record, space, resolve, narrator)
        first = [taken.point for taken in record.taken or []]
        search = Search(space, configuration, ledger, record.lag, resolve, first)
        if record.trials != search.trials:  # the number may change; a grid has its own
            plain = record.model_dump()
            plain["configuration"]["search"]["trials"] = search.trials
            ledger.write_sweep(SweepRecord.model_validate(plain))
        search.advance()
        _describe(search, configuration, space, prepared, narrator)
        if not (search.done or search.hopeless):
            if resources is None:
                folds = len(prepared.folds)
                resources = _connect(connection, plan, configuration, folds, started=True)
            if resources.workers < (wanted := configuration.cluster.workers_per_trial or 0):
                narrator.say(
                    f"trials resume with {resources.workers} workers, because {wanted} do not fit"
                )
            if search.lag < min(resources.concurrent, search.trials):
                narrator.say(
                    f"at most {search.lag} of the {resources.concurrent} trials that fit run at "
                    f"the same time, because the lag of the search is {search.lag}. With a larger "
                    f"search.lag, more trials run, but proposals use fewer results"
                )
            local = connection.open()
            place_frames(prepared.datasets.values(), local, narrator)
            from orchestrator.sweep.tune import tune_trials

            tune_trials(search, configuration, prepared, ledger, resources, code, narrator, local)
    interrupted = [number for number, trial in sorted(search.finished.items()) if trial is None]
    if interrupted:
        narrator.say(f"trials {interrupted} were interrupted; run the same command to retry them")
    if search.hopeless:
        raise HopelessError(failure_message(search.failures))


def changes(plan: Plan, space: Space, ledger: Ledger, code: dict[str, str]) -> list[str]:
    """Differences that forbid to resume the sweep of a folder, as far as they need no features.

    code : digests of the present code (`orchestrator.sweep.identity.code`)
    returns : as `orchestrator.sweep.identity.changes`; an empty list if there is no sweep
    """
    if not ledger.has_sweep():
        return []
    configuration, record = _searching(plan.configuration), ledger.sweep()
    now = {
        "configuration": configuration.resolved(),
        "space": space.model_dump(mode="json"),
        "replicas": replicas_of(configuration, len(plan.folds)),
        "code": code,
        "feature_files": feature_files(plan.features),
    }
    return identity.changes(record, record.model_copy(update=now))


def _searching(configuration: Configuration) -> Configuration:
    """The configuration with a search for one trial, if it has no section `search`."""
    one = SearchConfig(space="", trials=1, sampler="random", scheduler="none")
    return configuration.model_copy(update={"search": configuration.search or one})


def _connect(
    connection: Connection,
    plan: Plan,
    configuration: Configuration,
    folds: int,
    started: bool = False,
) -> Resources:
    """Connect to Ray until `connection` is closed. Returns the resources of each trial."""
    local = connection.open()
    resources = choose_resources(configuration, folds, started)
    if local:
        check_this_machine(resources)
    else:
        sets = [("features", features.name) for features in plan.features]
        check_own_code([("model", configuration.model.name), *sets])
    return resources


def _prepare(
    plan: Plan, configuration: Configuration, connection: Connection, narrator: Narrator
) -> Prepared:
    for note in plan.notes:  # before the extraction, which may take hours
        narrator.say(note)
    with narrator.bars():
        prepared = prepare(
            plan,
            Storage.open(configuration.storage),
            lambda done, total, _: narrator.bar("features", done, total),
            connection.compute,
        )
    for note in prepared.notes:
        if note not in plan.notes:
            narrator.say(note)
    return prepared


def place_frames(datasets: Iterable[Dataset], local: bool, narrator: Narrator) -> None:
    """Say how much disk the frames take, and build their files if the trials run on this machine.

    The nodes of a cluster build their own files. Raises CacheError if a folder of this machine
    cannot hold the frames.
    """
    # Datasets of one file share the object.
    files = {id(d.frames): d.frames for d in datasets if isinstance(d.frames, CachedFrames)}
    size = readable(sum(frames.nbytes for frames in files.values()))
    folder = next(iter(files.values())).folder
    if not local:
        place = folder or "the folder for temporary files"
        narrator.say(f"features: {size} in {place} of each node that trains")
    else:
        narrator.say(f"features: {size} in {folder_of(folder)}")
        began = time.monotonic()

        def show(done: int, total: int) -> None:
            if time.monotonic() - began > QUIET_S:
                narrator.bar("frames", done, total)

        with narrator.bars():
            for frames in files.values():
                frames.array(show)


def _take(
    source: Ledger,
    ledger: Ledger,
    record: SweepRecord,
    space: Space,
    resolve: Callable[[dict[str, Any]], tuple[Configuration, str]],
    narrator: Narrator,
) -> SweepRecord:
    """Copy the trials of `source` that are still valid. Returns the record, which names them.

    Raises ConfigError if the folder holds a sweep that is not a fork.
    """
    if record.taken is None:
        if ledger.proposals():
            raise ConfigError(
                f"--fork: {ledger.storage.root} is another sweep already; choose another name"
            )
        code = identity.combined(record.code)
        valid = valid_trials(source, space, lambda point: resolve(point)[1], code)
        taken = [Taken(trial=trial.id, point=trial.hyperparameters) for trial in valid]
        origin = {"taken": taken, "forked_from": source.storage.root}
        record = record.model_copy(update=origin)
        ledger.write_sweep(record)
        narrator.say(f"{len(valid)} trials of {source.storage.root} are still valid: copied")
    copy_trials(source, ledger, [taken.trial for taken in record.taken or []])
    return record


def _describe(
    search: "Search",
    configuration: Configuration,
    space: Space,
    prepared: Prepared,
    narrator: Narrator,
) -> None:
    """Say what the search is, and what it has found before."""
    narrator.say(
        f"{configuration.name}: {search.trials} configurations of {configuration.model.name}, "
        f"{len(prepared.folds)} folds each, {len(search.finished)} trials finished before"
    )
    grid = search.config.sampler == "grid"
    if grid and search.trials < (points := len(space.grid())):
        narrator.say(f"search.trials is {search.trials}: the first of the grid's {points} points")
    for number, trial in search.finished.items():
        if trial is not None and trial.status == "failed":
            narrator.say(f"trial {number} failed before: {trial.reason}")


def _open(
    ledger: Ledger,
    configuration: Configuration,
    space: Space,
    prepared: Prepared,
    resources: Resources | None,
    narrator: Narrator,
) -> SweepRecord:
    """Write the sweep's record, or check that the folder holds this very sweep.

    resources : of a trial, if the sweep starts
    """
    if resources is not None:
        from orchestrator.sweep.search import default_lag

        assert configuration.search is not None
        # Of a configured number of slots, so that the search is the same on any cluster.
        slots = configuration.cluster.concurrent_trials or resources.concurrent
        lag = configuration.search.lag or default_lag(slots, configuration.search.trials)
        now = _record(configuration, space, prepared, lag)
        ledger.write_sweep(now)
        return now
    record = ledger.sweep()
    now = _record(configuration, space, prepared, record.lag)
    _refuse(ledger, identity.changes(record, now))
    for line in identity.differences(record.versions, now.versions):
        narrator.say(f"{line}: trials of both versions may differ in their last bits")
    return record


def _refuse(ledger: Ledger, changes: list[str]) -> None:
    """Raise ConfigError if there are changes that forbid to resume the sweep of a folder."""
    if changes:
        raise ConfigError(
            f"name: {ledger.storage.root} holds another sweep: {'; '.join(changes)}. Undo these "
            f"changes, choose another name, or use --fork NAME to start a new sweep with the "
            f"trials that are still valid"
        )


def _record(
    configuration: Configuration, space: Space, prepared: Prepared, lag: int
) -> SweepRecord:
    """The record of a sweep that starts now."""
    return SweepRecord(
        name=configuration.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        configuration=configuration.resolved(),
        classes=list(prepared.dataset.classes),
        corpus=prepared.summary,
        folds=[
            FoldSizes(
                name=f.name, train=len(f.train), validation=len(f.validation), test=len(f.test)
            )
            for f in prepared.folds
        ],
        audit=prepared.audit,
        fingerprint=prepared.fingerprint,
        lag=lag,
        replicas=replicas_of(configuration, len(prepared.folds)),
        space=space.model_dump(mode="json"),
        versions={name: importlib.metadata.version(name) for name in VERSIONS},
        code=identity.code(configuration, space),
        commit=_commit(),
        notes=[note for note in (configuration.corpus.note, *prepared.notes) if note],
        feature_files=feature_files(
            searched_features(configuration.model.name, configuration.features, space)
        ),
    )


def _commit() -> str | None:
    """The commit of this code's checkout, with a mark if files differ; None outside a checkout."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
