"""Trials and reports a second that the driver of a sweep bears, under Ray Tune itself.

    python benchmarks/search_ray.py [--slots 2] [--trials 8] [--epochs 500] [--seconds 0.005]

The sweep runs on Ray's own test cluster: a head without CPUs and a node of invented CPUs and GPUs.
Each slot is a real process, so a small machine bears only a few slots. Their epochs are short
instead, so that the driver gets as many reports as from many slots. Training is replaced by a sleep
here, and nowhere else: search, Tune, ledger and the narrator are those of `ser sweep`. The CPU time
of the driver gives the number of reports a second at which one core is full.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import SimpleNamespace
from typing import Any

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.searched import features_key
from orchestrator.config.sections import Configuration
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.seals import canonical_json, sha256
from orchestrator.progress import Narrator
from orchestrator.sweep import tune
from orchestrator.sweep.assignment import Assignment
from orchestrator.sweep.ray_compat import TRAIN_ENVIRONMENT, shutdown
from orchestrator.sweep.resources import Resources
from orchestrator.sweep.search import Search, default_lag
from search_spaces import load_space

SECONDS = "SER_SLEEP"
"""Environment variable with the seconds of an epoch."""


def sleep_instead_of_training(assignment: Assignment) -> None:
    """Report each epoch after a sleep, and write the record of a complete trial."""
    from ray import tune as ray_tune

    curve: list[float] = []
    for epoch in range(1, assignment.configuration.training.last_epoch + 1):
        time.sleep(float(os.environ[SECONDS]))
        curve.append(1 - 0.9**epoch)
        ray_tune.report({"epoch": epoch, "score": curve[-1]})
    fields = {"score": curve[-1], "curve": curve}
    Ledger(assignment.storage).write_trial(assignment.record.model_copy(update=fields))


@contextmanager
def cluster(slots: int) -> Iterator[None]:
    """Connect to a new cluster with a CPU and a GPU for each slot, and end it afterwards."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ.update(TRAIN_ENVIRONMENT | {"RAY_BACKEND_LOG_LEVEL": "fatal"})
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        made.add_node(num_cpus=slots, num_gpus=slots)
        made.wait_for_nodes()
        ray.init(address=made.address, logging_level="error", log_to_driver=False)
        yield
    finally:
        shutdown()
        made.shutdown()


def sweep(slots: int, trials: int, epochs: int) -> str:
    """Run the sweep. Returns the row of the table."""
    configuration = parse(
        {
            "name": "scale",
            "corpus": {"root": "none", "classes": ["a", "b"]},
            "model": {"name": "iaan"},
            "training": {"epochs": epochs},
            "search": {"space": "iaan_small", "trials": trials, "scheduler": "none"},
            "trackers": [],
        }
    )
    # No features are read: the driver only needs their size, and the speakers of a fold.
    data: Any = SimpleNamespace(dims=4, groups={}, speakers=["a", "b"])
    prepared: Any = SimpleNamespace(
        datasets={features_key(configuration.features): data},
        dataset=data,
        folds=[SimpleNamespace(name="fold", train=[0, 1])],
    )

    def resolve(chosen: dict[str, Any]) -> tuple[Configuration, str]:
        return configuration.with_values(chosen), sha256(canonical_json(chosen))[:10]

    with tempfile.TemporaryDirectory() as folder, cluster(slots):
        ledger = Ledger(Storage.open(folder))
        lag = default_lag(slots, trials)
        search = Search(load_space("iaan_small"), configuration, ledger, lag, resolve)
        resources = Resources(workers=1, replicas=1, gpus_per_worker=1.0, concurrent=slots)
        cpu, began = time.process_time(), time.perf_counter()
        tune.tune_trials(search, configuration, prepared, ledger, resources, "0" * 10, Narrator())
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
        assert search.done
    reports = trials * epochs
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return (
        f"| {slots} | {trials} | {reports} | {seconds:.1f} | {trials / seconds:.2f} | "
        f"{reports / seconds:.0f} | {1000 * cpu / reports:.2f} | {reports / cpu:.0f} | "
        f"{memory:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=0.005, help="of an epoch")
    options = parser.parse_args()
    os.environ[SECONDS] = str(options.seconds)
    vars(tune)["run_trial"] = sleep_instead_of_training
    print(f"Epochs of {options.seconds:g} s:\n")
    print("| slots | trials | reports | seconds | trials a second | reports a second |", end="")
    print(" CPU ms of the driver a report | reports a second at a full core | memory, MB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with redirect_stdout(sys.stderr):  # Ray prints lines of its own
        row = sweep(options.slots, options.trials, options.epochs)
    print(row, flush=True)


if __name__ == "__main__":
    main()
