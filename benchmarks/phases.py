"""Where the seconds of a sweep go that are not training: the steps before it and after it.

    python benchmarks/phases.py [--rounds 5]

Each round runs a sweep of two trials with one epoch as `ser sweep` does, in a new process with a
local Ray. The features are in the storage. A step ends where the next one begins, so the sum is the
time of the whole process. Prints a Markdown table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from spread import spread

DEMO = Path(__file__).parents[1] / "orchestrator" / "cli" / "demo.yaml"
SHORT = {
    "search.trials": 2,
    "search.sampler": "random",
    "search.scheduler": "none",
    "training.epochs": 1,
    "cluster.concurrent_trials": 2,
}
STEPS = {
    "imported": "Python starts, and the driver imports PyTorch and the program",
    "checked": "the driver checks the configuration, the corpus, the folds and the model",
    "connected": "the driver imports Ray, and Ray starts",
    "ready": "the driver imports Ray Tune and Optuna, and reads the features",
    "first step": "the trials' processes import PyTorch and Ray Tune, until the first step",
    "trained": "training",
    "shut down": "Ray Tune and Ray end",
    "reported": "the driver writes the report",
    "ended": "Python ends",
}


def sweep(manifest: str, storage: str, name: str) -> dict[str, float]:
    """Run a short sweep. Return when each step ends, in seconds since the epoch."""
    from ser_orchestrator import collect_rarely

    collect_rarely()
    from orchestrator import load
    from orchestrator import run as run_sweep
    from orchestrator.sweep import ray_compat, run
    from orchestrator.sweep.connection import Connection

    ends = {"imported": time.time()}

    def timed(step: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            result = function(*arguments)
            ends.setdefault(step, time.time())
            return result

        return call

    values = {**SHORT, "corpus.root": manifest, "storage": storage, "name": name}
    patches: dict[str, tuple[Any, str]] = {
        "checked": (run, "check"),
        "connected": (Connection, "open"),
        "ready": (run, "place_frames"),
        "shut down": (ray_compat, "shutdown"),
    }
    for step, (owner, function) in patches.items():
        patch.object(owner, function, timed(step, getattr(owner, function))).start()
    finished = run_sweep(load(str(DEMO), [f"{key}={value}" for key, value in values.items()]))
    ends["reported"] = time.time()
    # A trial's record counts the seconds from its first step to this file.
    records = finished.ledger.trials()
    files = [finished.ledger.storage.path(f"trials/{record.id}/trial.json") for record in records]
    written = [Path(file).stat().st_mtime for file in files]
    spent = [record.seconds or 0.0 for record in records]
    ends["first step"] = min(end - each for end, each in zip(written, spent, strict=True))
    ends["trained"] = max(written)
    return ends


def main() -> None:
    """Print the table, or run one sweep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=4, help="used by the program itself")
    options = parser.parse_args()
    if options.one:
        *values, file = options.one
        Path(file).write_text(json.dumps(sweep(*values)))
        return
    # The imports of these modules belong to the driver's own time.
    from features.corpora.demo import make_demo_corpus
    from features.extract import extract
    from features.storage import Storage
    from orchestrator.config.parsing import load
    from orchestrator.data.corpus import read_corpus

    seconds: dict[str, list[float]] = {step: [] for step in STEPS}
    with tempfile.TemporaryDirectory() as name:
        manifest, storage = make_demo_corpus(f"{name}/corpus"), f"{name}/runs"
        configuration = load(str(DEMO), [f"corpus.root={manifest}"])
        corpus = read_corpus(configuration.corpus).manifest
        extract(corpus, configuration.features, Storage.open(storage).child("features"))
        for number in range(options.rounds):
            file = Path(name, "ends.json")
            arguments = [manifest, storage, f"short-{number}", str(file)]
            began = time.time()
            subprocess.run(
                [sys.executable, __file__, "--one", *arguments], check=True, capture_output=True
            )
            ends = {**json.loads(file.read_text()), "ended": time.time()}
            for step, (start, end) in zip(
                STEPS, pairwise([began, *(ends[step] for step in STEPS)]), strict=True
            ):
                seconds[step].append(end - start)
    print("| a sweep of two short trials, on two cores | seconds |\n|---|---|")
    for step, values in seconds.items():
        print(f"| {STEPS[step]} | {spread(values, 2)} |")


if __name__ == "__main__":
    main()
