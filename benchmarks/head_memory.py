"""Memory that a sweep needs on the head node, by the number of trials at the same time.

    python benchmarks/head_memory.py [TRIALS_AT_A_TIME ...]

Starts a cluster on this machine: a head without CPUs for training, and a node with one CPU for each
trial. Then runs a sweep of a small IAAN on a spoken corpus. The table has the memory of the driver,
of the head node's processes and of all their children. It is the peak, during training, of the sum
of proportional set sizes, which count shared memory once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import yaml

from features.corpora.demo import DemoSettings, make_demo_corpus
from orchestrator.sweep.ray_compat import TRAIN_ENVIRONMENT

SETTINGS = DemoSettings(sessions=3, dialogues=3, turns=12, own=0.2, other=0.2)


def configure(folder: Path, corpus: str, at_once: int) -> Path:
    """Write the configuration of a sweep with `at_once` trials at the same time."""
    path = folder / f"{at_once}.yaml"
    content = {
        "name": f"head-{at_once}",
        "storage": str(folder / "runs"),
        "corpus": {"root": corpus, "classes": ["ang", "hap", "neu", "sad"]},
        "model": {"name": "iaan", "hidden_size": 8, "attention_size": 8},
        "training": {"epochs": 12, "patience": 12},
        "search": {"space": "iaan_small", "trials": at_once, "scheduler": "none"},
        "cluster": {"concurrent_trials": at_once},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def kind(process: psutil.Process) -> str:
    """Return the kind of a process, from its title as `ps` shows it."""
    line = " ".join(process.cmdline())
    for mark in ("gcs_server", "dashboard", "log_monitor", "monitor.py", "raylet"):
        if mark in line.split(" ")[0] or mark in line[:200]:
            return mark
    if line.startswith("ray::"):
        return line.split(".")[0].split("(")[0].strip()
    return "driver and others"


def measure(processes: list[psutil.Process]) -> Counter[str]:
    """Return megabytes by kind of process."""
    megabytes: Counter[str] = Counter()
    for process in processes:
        try:
            megabytes[kind(process)] += process.memory_full_info().pss / 1e6
        except psutil.Error:
            continue
    return megabytes


def run(folder: Path, corpus: str, at_once: int) -> Counter[str]:
    """Run a sweep and return the peak memory on the head, by kind of process."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True}
    )
    try:
        cluster.add_node(num_cpus=at_once)
        cluster.wait_for_nodes()
        head = [psutil.Process(p.process.pid) for group in
                cluster.head_node.all_processes.values() for p in group]  # fmt: skip
        command = [sys.executable, "-m", "orchestrator.cli", "sweep"]
        log = folder / f"{at_once}.log"
        with log.open("wb") as output:
            driver = psutil.Popen(
                [*command, str(configure(folder, corpus, at_once))],
                env={**os.environ, "RAY_ADDRESS": cluster.address},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        peak: Counter[str] = Counter()
        while driver.poll() is None:
            of_head = [driver, *driver.children(recursive=True)]
            for process in head:
                of_head += [process, *process.children(recursive=True)]
            now = measure(of_head)
            if now.total() > peak.total():
                peak = now
            time.sleep(1)
        if driver.returncode:
            raise SystemExit(log.read_text())
        return peak
    finally:
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("at_once", type=int, nargs="*", default=[1, 2])
    counts = parser.parse_args().at_once
    os.environ.update(TRAIN_ENVIRONMENT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = make_demo_corpus(str(folder / "corpus"), SETTINGS)
        peaks = {at_once: run(folder, str(corpus), at_once) for at_once in counts}
    kinds = sorted({kind for peak in peaks.values() for kind in peak})
    print("| on the head, MB | " + " | ".join(f"{n} trials" for n in peaks) + " |")
    print("|---" * (1 + len(peaks)) + "|")
    for name in [*kinds, "all"]:
        values = [peak.total() if name == "all" else peak[name] for peak in peaks.values()]
        print(f"| {name} | " + " | ".join(f"{value:.0f}" for value in values) + " |")


if __name__ == "__main__":
    main()
