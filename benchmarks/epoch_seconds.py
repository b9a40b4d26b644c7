"""The CPU seconds of a training epoch, with the code that PYTHONPATH names. Used by `epochs.py`.

    python benchmarks/epoch_seconds.py FILE

Imports only what an earlier commit of this repository has too.
"""

import json
import pickle
import statistics
import sys
import time
from pathlib import Path

import torch

import orchestrator
from orchestrator.config.parsing import parse
from orchestrator.training.gradient import GradientRun
from orchestrator.training.runs import fold_run

EPOCHS = 2  # that are timed, after one that sets things up


def main(file: str) -> None:
    """Print the file of the code, and the median of `EPOCHS`, as JSON."""
    torch.set_num_threads(1)
    values, fold, dataset = pickle.loads(Path(file).read_bytes())  # noqa: S301 (our own file)
    run = fold_run(fold, dataset, parse(values))
    assert isinstance(run, GradientRun)
    seconds = []
    for number in range(EPOCHS + 1):
        run.epoch = number + 1
        run.model.train()
        began = time.process_time()
        run._train()
        seconds.append(time.process_time() - began)
    print(json.dumps([orchestrator.__file__, statistics.median(seconds[1:])]))


if __name__ == "__main__":
    main(sys.argv[1])
