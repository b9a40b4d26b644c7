"""A sweep: Ray Tune runs the trials that Optuna proposes; each cross-validates a configuration.

The sweep's folder is the truth. Run again, a sweep asks the same questions in the same order,
passes over the trials that have ended, and goes on with the rest from their checkpoints; what
Tune writes of itself is never read.
"""

import datetime
import importlib.metadata
import logging
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import torch

from features.sets import FEATURES
from features.storage import Storage
from orchestrator.sweep import fork
from orchestrator.sweep import trial
from orchestrator.config.sections import ConfigError, Configuration, SearchConfig, parse
from orchestrator.data.prepare import Prepared, corpus_folds, prepare, read_corpus
from orchestrator.sweep.events import events, name_of
from orchestrator.training.fold_run import build_model
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import Ledger, TrialRecord
from orchestrator.progress import Narrator
from orchestrator.sweep.search import HopelessError, Search, in_common
from orchestrator.sweep.trial import Assignment, Resources
from search_spaces import Space, SpaceError, load_space
from ser_models import Sizes

FIXED = ("model.name", "training.seed", "training.metric", "training.checkpoint_every")
VERSIONS = ("ser-orchestrator", "torch", "ray", "optuna", "opensmile", "numpy", "scikit-learn")


def check(configuration: Configuration) -> Space:
    """All that can be found wrong before anything is computed; the search space.

    Raises ConfigError with the key, or the row, and what would be right.
    """
    try:
        Storage.open(configuration.storage)
    except (ValueError, OSError) as error:
        raise ConfigError(f"storage: {configuration.storage}: {error}") from None
    corpus = read_corpus(configuration)
    folds = corpus_folds(configuration, corpus)
    speakers = _training_speakers(folds, corpus.manifest.table["speaker"].to_pylist())
    workers = configuration.cluster.workers_per_trial
    if workers is not None and workers > len(folds) and workers % len(folds):
        raise ConfigError(
            f"cluster.workers_per_trial: {workers} workers cannot share {len(folds)} folds evenly; "
            f"give at most {len(folds)}, or a multiple of it"
        )
    space = Space.model_construct(first={}, parameters={})
    if configuration.search is not None:
        try:
            space = load_space(configuration.search.space)
            if configuration.search.sampler == "grid":
                space.grid()
        except SpaceError as error:
            raise ConfigError(f"search.space: {error}") from None
        for name in space.parameters:
            if name in FIXED or not name.startswith(("model.", "training.")):
                raise ConfigError(
                    f"search.space: {configuration.search.space}: {name} cannot be searched: data, "
                    f"folds and seed are the same for all trials; search model.* and training.*"
                )
            try:
                for point in space.corners(name):
                    _check_model(configuration.with_values(point), speakers)
            except (ConfigError, SpaceError) as error:
                raise ConfigError(f"search.space: {configuration.search.space}: {error}") from None
        if space.first:
            try:
                _check_model(configuration.with_values(space.first), speakers)
            except ConfigError as error:
                raise ConfigError(f"search.space: {configuration.search.space}: {error}") from None
    _check_model(configuration, speakers)
    return space


def _training_speakers(folds: list[Fold], speakers: list[str]) -> dict[str, int]:
    """How many speakers train in each fold, by its name; `speakers` are the rows'."""
    return {fold.name: len({speakers[row] for row in fold.train}) for fold in folds}


def _check_model(configuration: Configuration, speakers: dict[str, int]) -> None:
    """Build the network, without its numbers, for the fold with the fewest training speakers."""
    features = configuration.features
    dims, classes = FEATURES[features.name].dims, len(configuration.corpus.classes)
    fold = min(speakers, key=speakers.__getitem__)
    sizes = Sizes(dims, classes, speakers[fold], features.cut or 1)
    try:
        with torch.device("meta"):
            build_model(configuration, sizes)
    except (ValueError, RuntimeError) as error:  # a size may be beyond all numbers
        where = f" (in fold {fold})" if "speakers is" in str(error) else ""
        raise ConfigError(f"model: {str(error).splitlines()[0]}{where}") from None


def run(configuration: Configuration, narrator: Narrator, source: Ledger | None = None) -> Ledger:
    """Search, or without a `search` section cross-validate the one configuration.

    source : another sweep, whose trials a new one takes over where they are still valid

    Ray must be initialised. Raises ConfigError where the folder holds another sweep, HopelessError
    where `cluster.max_failures` trials fail in a row. Returns the ledger, whose failed trials have
    their reasons.
    """
    space = check(configuration)
    storage = Storage.open(configuration.storage)
    ledger = Ledger(storage.child(configuration.name))

    with narrator.bars():
        prepared = prepare(
            configuration, storage, lambda done, total, _: narrator.bar("features", done, total)
        )
    for note in prepared.notes:
        narrator.say(note)
    settings = configuration.search or SearchConfig(
        space="", trials=1, sampler="random", scheduler="none"
    )
    configuration = configuration.model_copy(update={"search": settings})
    begun = ledger.storage.exists("sweep.yaml")
    resources = choose_resources(configuration, len(prepared.folds), begun)
    if resources.workers < (asked_for := configuration.cluster.workers_per_trial or 0):
        narrator.say(f"trials go on with {resources.workers} workers, not {asked_for}: so many fit")

    def resolve(hyperparameters: dict[str, Any]) -> tuple[Configuration, str]:
        chosen = configuration.with_values(hyperparameters)
        ids, fingerprint = prepared.dataset.ids, prepared.fingerprint
        identity = trial.trial_id(chosen, prepared.folds, ids, fingerprint, resources.replicas)
        return chosen, identity

    content = _open(ledger, configuration, space, prepared, resources, narrator)
    if source is not None and "taken" not in content:
        if ledger.suggestions():
            raise ConfigError(
                f"--fork: {ledger.storage.root} is another sweep already; choose another name"
            )
        by = fork.digest(content["code"])
        valid = fork.valid_trials(source, space, lambda point: resolve(point)[1], by)
        content["taken"] = [{"trial": r.id, "point": r.hyperparameters} for r in valid]
        content["forked_from"] = source.storage.root
        ledger.write_sweep(content)
        narrator.say(f"{len(valid)} trials of {source.storage.root} are still valid: taken over")
    taken = content.get("taken", [])
    if source is not None:
        fork.take_over(source, ledger, [one["trial"] for one in taken])
    first = [one["point"] for one in taken]
    concurrent, lag = resources.concurrent, content["lag"]
    search = Search(space, configuration, ledger, lag, concurrent, resolve, first)
    asked = content["configuration"]["search"]
    if asked["trials"] != search.trials:  # more than at the start, or fewer: a grid's points
        asked["trials"] = search.trials
        ledger.write_sweep(content)
    search.advance()
    narrator.say(
        f"{configuration.name}: {search.trials} configurations of {configuration.model.name}, "
        f"{len(prepared.folds)} folds each, {len(search.ended)} done before"
    )
    if settings.sampler == "grid" and search.trials < (points := len(space.grid())):
        narrator.say(f"search.trials is {search.trials}: of the grid's {points} points, the first")
    for number, record in search.ended.items():
        if record is not None and record.status == "failed":
            narrator.say(f"trial {number} failed before: {record.reason}")
    if not (search.done or search.hopeless):
        _tune(search, configuration, prepared, ledger, resources, narrator)
    broken = [number for number, record in sorted(search.ended.items()) if record is None]
    if broken:
        narrator.say(f"trials {broken} broke off; the same command tries them again")
    if search.hopeless:
        raise HopelessError(in_common(search.failures))
    return ledger


def _open(
    ledger: Ledger,
    configuration: Configuration,
    space: Space,
    prepared: Prepared,
    resources: Resources,
    narrator: Narrator,
) -> dict[str, Any]:
    """Write sweep.yaml, or check that it is of this very sweep. Returns its content."""
    resolved = configuration.resolved()
    searched = space.model_dump(mode="json")
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    if ledger.storage.exists("sweep.yaml"):
        known = ledger.sweep()
        different = [
            *_differences(_identity(known["configuration"]), _identity(resolved)),
            *_differences({"data": known["fingerprint"]}, {"data": prepared.fingerprint}),
            *_differences({"space": known["space"]}, {"space": searched}),
            *_differences({"replicas": known["replicas"]}, {"replicas": resources.replicas}),
            *_differences({"code": known.get("code", {})}, {"code": fork.code()}),
        ]
        if different:
            raise ConfigError(
                f"name: {ledger.storage.root} holds another sweep: {'; '.join(different)}. "
                f"Go back to what it was, choose another name, or --fork NAME to start a new sweep "
                f"with the trials that are still valid"
            )
        for line in _differences(known["versions"], versions):
            narrator.say(f"{line}: trials of both may differ in their last bits")
        if configuration.cluster.concurrent_trials not in (None, known["lag"]):
            narrator.say(
                f"proposals go on as they began, from all but the newest {known['lag'] - 1} trials"
            )
        return known
    assert configuration.search is not None
    # Left to itself, a large cluster would start all trials at once and learn from none.
    quarter = max(2, configuration.search.trials // 4)
    lag = configuration.cluster.concurrent_trials or min(resources.concurrent, quarter)
    content = {
        "name": configuration.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "configuration": resolved,
        "classes": list(prepared.dataset.classes),
        "corpus": prepared.summary,
        "folds": [
            {
                "name": fold.name,
                "train": len(fold.train),
                "validation": len(fold.validation),
                "test": len(fold.test),
            }
            for fold in prepared.folds
        ],
        "audit": prepared.audit,
        "fingerprint": prepared.fingerprint,
        "lag": lag,
        "replicas": resources.replicas,
        "space": searched,
        "versions": versions,
        "code": fork.code(),
        "commit": _commit(),
        "notes": [note for note in (configuration.corpus.note, *prepared.notes) if note],
    }
    ledger.write_sweep(content)
    return content


def _identity(resolved: dict[str, Any]) -> dict[str, Any]:
    """What may not change under a sweep's name: neither where it runs nor how long it searches."""
    kept = {key: value for key, value in resolved.items() if key not in ("cluster", "storage")}
    kept["search"] = {k: v for k, v in kept["search"].items() if k not in ("trials", "space")}
    kept["features"] = {k: v for k, v in kept["features"].items() if k != "max_errors"}
    kept["corpus"] = {k: v for k, v in kept["corpus"].items() if k not in ("root", "note")}
    kept["training"] = {k: v for k, v in kept["training"].items() if k != "checkpoint_every"}
    return kept


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for name in sorted(old.keys() | new.keys())
            for line in _differences(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
        ]
    return [] if old == new else [f"{key} was {old!r} and is now {new!r}"]


def _commit() -> str | None:
    """The commit of this code's checkout, with a mark where files differ; None outside one."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def choose_resources(configuration: Configuration, folds: int, begun: bool = False) -> Resources:
    """What each trial takes, from the cluster as it is now, or as it can grow to be.

    On GPUs a trial takes one, shared by a worker a fold; without, one worker trains all folds,
    and as many trials run as there are CPUs. Raises ConfigError for what the cluster never has; a
    sweep that has `begun` goes on with fewer workers, if those change no result.
    """
    nodes, cluster = list(trial.living_nodes().values()), configuration.cluster
    cpus = max(sum(int(node.get("CPU", 0)) for node in nodes), cluster.cpus or 0)
    gpus = max(sum(node.get("GPU", 0.0) for node in nodes), cluster.gpus or 0.0)
    # As many workers as let every GPU have a trial; a hundredth of one is the least share.
    shared = min(folds, 100, max(1, int(cpus // gpus))) if gpus else 1
    workers = cluster.workers_per_trial or shared
    share = cluster.gpus_per_worker
    if share is None:
        share = math.floor(100 / workers) / 100 if gpus else 0.0
    fits = trial.room(nodes, share)
    if cluster.grows:  # of nodes that are yet to come only the sums are known
        fits = max(fits, min(cpus, int(gpus / share + 1e-9) if share else cpus))
    if workers > fits:
        if not (begun and workers <= folds and fits):
            raise ConfigError(
                f"cluster: a trial wants {workers} CPUs and {workers * share:g} GPUs, and the "
                f"cluster has {cpus} and {gpus:g}, with room for {fits} such workers; lower "
                f"cluster.workers_per_trial or cluster.gpus_per_worker, or, where nodes are yet to "
                f"come, give cluster.cpus and cluster.gpus"
            )
        workers = fits
    return Resources(workers, max(1, workers // folds), share, max(1, fits // workers))


def _tune(
    search: Search,
    configuration: Configuration,
    prepared: Prepared,
    ledger: Ledger,
    resources: Resources,
    narrator: Narrator,
) -> None:
    """Run all trials that the search still has."""
    import ray
    from ray import tune

    # A first Ctrl-C would end the sweep as if it were done.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # A trial that failed, or was started again after its end, has no score to report.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # Tune logs the tracebacks of trials that fail and of storage that does; we say why they did.
    for name in ("ray.tune", "ray.train._internal.storage"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    data = ray.put((prepared.dataset, prepared.folds))
    seed, model = configuration.training.seed, configuration.model.name
    by = fork.digest(fork.code())
    speakers = _training_speakers(prepared.folds, prepared.dataset.speakers)
    scratch = ledger.storage.child("tune")
    scratch.filesystem.create_dir(scratch.root, recursive=True)

    def trainable(config: dict[str, Any]) -> None:
        record = TrialRecord(
            id=config["trial"],
            number=config["number"],
            model=model,
            status="complete",
            hyperparameters=config["hyperparameters"],
            seed=seed,
            code=by,
        )
        chosen = parse(config["configuration"])
        try:
            _check_model(chosen, speakers)
        except ConfigError as error:
            failed = record.model_copy(update={"status": "failed", "reason": str(error)})
            ledger.write_trial(failed)
            return
        assignment = Assignment(
            chosen, record, config["cutoffs"], ledger.storage, resources, [data]
        )
        try:
            trial.run_trial(assignment)
        except OSError as error:  # Tune would try again at once what failed for half a minute
            tune.report({"broke_off": f"{type(error).__name__}: {error}"})

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"memory": 1e6}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=search.trials,
            max_concurrent_trials=None,
            reuse_actors=True,
            # By which curves are told apart in TensorBoard.
            trial_name_creator=name_of,
            trial_dirname_creator=name_of,
        ),
        run_config=tune.RunConfig(
            name=datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S"),
            storage_path=scratch.root,
            storage_filesystem=scratch.filesystem,
            callbacks=[events(configuration.training.last_epoch, search, narrator)],
            # Of a trial whose own process is lost. It goes on from its checkpoint.
            failure_config=tune.FailureConfig(max_failures=3),
            verbose=0,
        ),
    )
    with narrator.bars():
        tuner.fit()
