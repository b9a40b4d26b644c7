"""How long `predict` of a loaded model takes for an utterance of 3 s, on one core.

    python benchmarks/latency.py

Exports three networks of each model with random weights, loads the folder, and prints the median
and the range of 20 calls: of `predict`, with the features and the mean over the networks, and of
the same networks alone, on features that are ready. The two are timed in turn. The times are CPU
times of this process, which has one thread. On a quiet machine, they are the latency.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and PyTorch
sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support, which is not installed

import numpy as np
import torch

from features.statistics import Statistics
from features.storage import Storage
from orchestrator import load_model
from orchestrator.config.parsing import parse
from orchestrator.inference.exported import write_model
from orchestrator.inference.model import Description, Member, SpeechModel
from orchestrator.inference.predict import Utterance, log_posteriors
from tests.support.signals import RATE
from tests.support.voices import voice

MODELS = ("bigru_att", "linear_svm", "mdnn", "acrnn_r", "ssa_crnn_r")
CLASSES = ("ang", "hap", "neu", "sad")
SECONDS, RUNS, NETWORKS, SPEAKERS = 3.0, 20, 3, 8


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    samples = voice("hap", 0, 0, SECONDS)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            export = str(Path(folder, model))
            write_model(_random(model), Storage.open(export))
            lines.append(_row(model, export, samples))
    print("| model | features | `predict`, ms | range | its networks alone, ms | range |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))


def _random(name: str) -> SpeechModel:
    """A model of the default sizes."""
    raw = {"name": name, "corpus": {"root": "none", "classes": CLASSES}, "model": {"name": name}}
    config = parse(raw)
    described = Description(name, "0" * 10, config.model, config.features, CLASSES, 0)
    torch.manual_seed(0)
    names = [f"fold-{number}" for number in range(NETWORKS)]
    members = {fold: Member(described.network(SPEAKERS), SPEAKERS) for fold in names}
    dims = config.features.load().dims
    typical = Statistics(0, np.zeros(dims), np.ones(dims))
    return SpeechModel(described, members, lambda: dict.fromkeys(names, typical)).eval()


def _row(name: str, folder: str, samples: np.ndarray) -> str:
    model = load_model(folder)
    speaker = model.speaker([samples] * 10, RATE)  # 30 s: the statistics are not shrunk
    utterance = [Utterance(model.extract(samples, RATE), SECONDS, "")]
    calls = {
        "predict": lambda: model.predict(samples, RATE, speaker),
        "networks": lambda: log_posteriors(model, utterance, {"": speaker}),
    }
    times: dict[str, list[float]] = {call: [] for call in calls}
    for _ in range(RUNS + 1):
        for call, function in calls.items():
            began = time.process_time()
            function()
            times[call].append(1000 * (time.process_time() - began))
    cells = []
    for values in times.values():
        values = values[1:]  # the first call loads libraries
        cells += [f"{statistics.median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}"]
    return f"| `{name}` | `{model.description.features.name}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
