"""How long `ser` takes to start, beside an empty Python and the libraries that it does not import.

    python benchmarks/start_up.py

Prints the median and the range of seven runs of each command, in turn. Use a quiet machine.
"""

import statistics
import subprocess
import sys
import time

LIBRARIES = "import optuna, plotly.graph_objects, ray.tune, sklearn.manifold, torch"
RARELY = f"from ser_orchestrator import collect_rarely; collect_rarely(); {LIBRARIES}"
COMMANDS = {
    "python, empty": ["-c", "pass"],
    "import orchestrator": ["-c", "import orchestrator"],
    "ser --help": ["-m", "orchestrator.cli", "--help"],
    "ser corpus, without a corpus": ["-m", "orchestrator.cli", "corpus", "manifest", "missing.csv"],
    "ser status, without a sweep": ["-m", "orchestrator.cli", "status", "missing"],
    "import torch": ["-c", "import torch"],
    "import ray": ["-c", "import ray"],
    "import the libraries of a sweep": ["-c", LIBRARIES],
    "the same, as `ser` collects garbage": ["-c", RARELY],
}
RUNS = 7


def main() -> None:
    """Print a table."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
            seconds[name].append(time.perf_counter() - began)
    print("| command | seconds, median | range |\n|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.2f} | {min(values):.2f} to {max(values):.2f} |")


if __name__ == "__main__":
    main()
