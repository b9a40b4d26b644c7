"""How long `predict` of a loaded model takes for an utterance of 3 s, on one core.

    python benchmarks/latency.py

Trains a small sweep of each model in this process, loads its best trial, and prints the median and
the range of 20 calls: of `predict`, with the features and the mean over three networks, and of the
same networks alone, on features that are ready. The two are timed in turn. Use a quiet machine.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and PyTorch
sys.path.insert(0, str(Path(__file__).parents[1]))  # for tests.support, which is not installed

import torch

from features.corpora.demo import DemoSettings, make_demo_corpus
from features.storage import Storage
from orchestrator import load_model
from orchestrator.inference.exported import write_model
from orchestrator.inference.predict import Utterance, log_posteriors
from tests.support.signals import RATE
from tests.support.small_sweep import small_sweep
from tests.support.voices import voice

MODELS = ("bigru_att", "linear_svm", "mdnn")
SECONDS, RUNS = 3.0, 20


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    samples = voice("hap", 0, 0, SECONDS)
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = DemoSettings(sessions=3, dialogues=3, turns=12, own=0.2, other=0.2)
        manifest = Path(make_demo_corpus(str(folder / "corpus"), settings))
        for model in MODELS:
            sweep, _ = small_sweep(folder, manifest, model, sizes={})
            export = folder / f"exported-{model}"
            write_model(load_model(str(sweep)), Storage.open(str(export)))
            lines.append(_row(model, str(export), samples))
    print("| model | features | `predict`, ms | range | its networks alone, ms | range |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))


def _row(name: str, folder: str, samples: object) -> str:
    model = load_model(folder)
    speaker = model.speaker([samples] * 4, RATE)  # 12 s: the statistics are not shrunk
    utterance = [Utterance(model.extract(samples, RATE), SECONDS, "")]
    calls = {
        "predict": lambda: model.predict(samples, RATE, speaker),
        "networks": lambda: log_posteriors(model, utterance, {"": speaker}),
    }
    times: dict[str, list[float]] = {call: [] for call in calls}
    for _ in range(RUNS + 1):
        for call, function in calls.items():
            began = time.perf_counter()
            function()
            times[call].append(1000 * (time.perf_counter() - began))
    cells = []
    for values in times.values():
        values = values[1:]  # the first call loads libraries
        cells += [f"{statistics.median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}"]
    return f"| `{name}` | `{model.description.features.name}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
