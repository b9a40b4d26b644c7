"""Runs the trials that the search proposes, under Ray Tune."""

import datetime
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from orchestrator.config.parsing import parse
from orchestrator.config.searched import features_key
from orchestrator.config.sections import Configuration
from orchestrator.data.prepare import Prepared
from orchestrator.errors import ClusterError, ConfigError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.progress import Narrator
from orchestrator.sweep.assignment import Assignment
from orchestrator.sweep.check import check_network, training_speakers
from orchestrator.sweep.events import events, name_of
from orchestrator.sweep.live import LiveRecord
from orchestrator.sweep.resources import Resources
from orchestrator.sweep.search import Search
from orchestrator.sweep.trial import RESTARTS, run_trial
from orchestrator.sweep.tune_compat import (
    NoProgress,
    configure_tune,
    first_processes_used,
    idle_processes_kept,
    no_trackers_imported,
)


def tune_trials(
    search: Search,
    configuration: Configuration,
    prepared: Prepared,
    ledger: Ledger,
    resources: Resources,
    code: str,
    narrator: Narrator,
    local: bool = False,
) -> None:
    """Run all trials that the search still proposes.

    code : digest of the code, for the trials' records (`orchestrator.sweep.identity.combined`)
    local : whether this process has started a local Ray

    Ray must be initialised. Raises OSError if the storage fails.
    """
    import ray
    from ray import tune

    configure_tune()
    resources = replace(resources, concurrent=min(resources.concurrent, search.lag))
    search.concurrent = resources.concurrent
    data = ray.put((prepared.datasets, prepared.folds))
    seed, model = configuration.training.seed, configuration.model.name
    speakers = training_speakers(prepared.folds, prepared.dataset.speakers)
    # Of each feature set, because the nodes of trials may lack the files that a set needs.
    columns = {key: (data.dims, data.groups) for key, data in prepared.datasets.items()}
    scratch = ledger.storage.child("tune")
    scratch.filesystem.create_dir(scratch.root, recursive=True)

    def record_of(config: dict[str, Any]) -> TrialRecord:
        fields = {key: config[key] for key in ("number", "hyperparameters")}
        return TrialRecord(
            id=config["trial"], model=model, status="complete", seed=seed, code=code, **fields
        )

    def trainable(config: dict[str, Any]) -> None:
        record = record_of(config)
        chosen = parse(config["configuration"])
        try:
            check_network(chosen, *columns[features_key(chosen.features)], speakers)
        except ConfigError as error:
            failed = record.model_copy(update={"status": "failed", "reason": str(error)})
            ledger.write_trial(failed)
            return
        assignment = Assignment(
            chosen, record, config["cutoffs"], ledger.storage, resources, [data]
        )
        try:
            run_trial(assignment)
        except ClusterError as error:
            tune.report({"interrupted": str(error)})
        except OSError as error:  # the storage has retried for half a minute; Tune must not retry
            tune.report({"interrupted": f"{type(error).__name__}: {error}"})

    live = LiveRecord(ledger, resources)
    callback = events(configuration, search, narrator, record_of, resources.workers, live)
    # The process of a trial trains, or it holds no CPU, because its workers need all of them.
    share = {"CPU": 1.0} if resources.workers == 1 else {}
    if share and resources.gpus_per_worker > 0:
        share["GPU"] = resources.gpus_per_worker
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"memory": 1e6, **share}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=search.trials,
            max_concurrent_trials=resources.concurrent,  # by default, their processes start in turn
            reuse_actors=True,
            # TensorBoard shows these names.
            trial_name_creator=name_of,
            trial_dirname_creator=name_of,
        ),
        run_config=tune.RunConfig(
            name=datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S"),
            storage_path=scratch.root,
            storage_filesystem=scratch.filesystem,
            callbacks=[callback, NoProgress()],
            # If a trial's own process is lost, it restarts from its checkpoint.
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            verbose=0,
        ),
    )
    try:
        with narrator.bars(), idle_processes_kept(), no_trackers_imported(), ExitStack() as stack:
            if local:
                stack.enter_context(first_processes_used())
            tuner.fit()
    finally:
        live.delete()
        callback.release_all()
