"""How many seconds each step of a sweep takes if it hardly trains.

    python benchmarks/phases.py [--rounds 5]

Each round runs a sweep as `ser sweep` does, in a new process with a local Ray. Its two trials train
for one epoch, and the features are in the storage. The steps follow each other without a gap, and
their sum is the time of the whole process. Prints a Markdown table.
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

SHORT = {
    "search.trials": 2,
    "search.sampler": "random",
    "search.scheduler": "none",
    "training.epochs": 1,
    "cluster.concurrent_trials": 2,
}
STEPS = {
    "imported": "Python starts, and the driver imports PyTorch, the program and the report",
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
    import orchestrator.report
    from orchestrator.sweep import ray_compat, run
    from orchestrator.sweep.connection import Connection

    ends = {"imported": time.time()}
    from trials import DEMO, first_step  # they need no further library

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
    options = [f"{key}={value}" for key, value in values.items()]
    ledger = orchestrator.run(orchestrator.load(str(DEMO), options)).ledger
    ends["reported"] = time.time()
    trials = [(first_step(ledger, record), record.seconds or 0.0) for record in ledger.trials()]
    ends["first step"] = min(began for began, _ in trials)
    ends["trained"] = max(began + seconds for began, seconds in trials)
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
    from trials import demo_corpus  # not above, because a sweep's imports are timed

    seconds: dict[str, list[float]] = {step: [] for step in STEPS}
    with tempfile.TemporaryDirectory() as name:
        manifest = demo_corpus(Path(name))
        for number in range(options.rounds):
            file = Path(name, "ends.json")
            arguments = [manifest, f"{name}/runs", f"short-{number}", str(file)]
            began = time.time()
            subprocess.run(
                [sys.executable, __file__, "--one", *arguments], check=True, capture_output=True
            )
            ends = {**json.loads(file.read_text()), "ended": time.time()}
            for step, (start, end) in zip(
                STEPS, pairwise([began, *(ends[step] for step in STEPS)]), strict=True
            ):
                seconds[step].append(end - start)
    print("| a sweep of two short trials | seconds |\n|---|---|")
    for step, values in seconds.items():
        print(f"| {STEPS[step]} | {spread(values, 2)} |")


if __name__ == "__main__":
    main()
