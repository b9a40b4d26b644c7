"""Target: train on 100 hours of log-mel, with 4 GB of memory for the driver and two workers.

    python benchmarks/data_scale.py [--hours 100] [--steps 100] [--folder FOLDER]

Makes a feature store of invented log-mel, without audio, and runs `ser sweep` on it: two trials of
a small ACRNN at the same time, each in a worker of its own, with so many steps for an epoch. Memory
is read from /proc four times a second. `private` is memory that only this process can use:
anonymous pages and shared memory. Pages of mapped files, among them the program itself, are counted
apart, because the kernel takes them back if memory is short.

Then trains on a store of a tenth of an hour, from the file and from an array in memory in turn, and
compares the times of epochs and the bytes of results. The third table has the time of a batch, if
normalisation, or normalisation and deltas, were computed for each batch instead of once.

The file of 100 hours takes 17 GB of disk. It is deleted afterwards, unless `--folder` is given:
another run then uses the store again.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pacsv
import torch
import yaml
from spread import spread

from features import cache
from features.extract import shards_folder
from features.manifest import read_manifest
from features.sets.logmel3d import BANDS, _delta
from features.shards import write_shard
from features.statistics import normalise
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.prepare import plan_folds, prepare
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.training.cross_validation import Task, cross_validate
from orchestrator.training.fold_run import FoldRun
from orchestrator.training.runs import fold_run

CLASSES = ("ang", "hap", "neu", "sad")
SECONDS, FRAMES = 5, 498
"""Of an utterance. Each file has an hour of one speaker."""
REPEATED = 83
BATCH, SEGMENT = 40, 300
IN_FILE = 3600 // SECONDS
IN_SHARD = 16
SMALL_HOURS, ROUNDS = 0.1, 12
PRIVATE_GB, RATIO = 4.0, 1.1
NAMES = {
    "file": "the file",
    "large file": "the file, unmapped after each batch as a large file is",
    "memory": "an array in memory",
}
MODEL = {
    "name": "acrnn",
    "first_maps": 8,
    "maps": 8,
    "conv_layers": 1,
    "linear_size": 32,
    "hidden_size": 16,
    "embedding_size": 16,
}


def make_corpus(folder: Path, hours: float) -> Path:
    """Write a manifest whose files hold no audio. A hundredth validates, a hundredth tests."""
    count = max(round(hours * IN_FILE), 9)
    number = np.arange(count)
    file, part = number // IN_FILE, number % min(count // 3, 100)
    start = number % IN_FILE * SECONDS
    for name in range(int(file[-1]) + 1):
        (folder / f"{name}.wav").write_bytes(b"no audio")
        os.utime(folder / f"{name}.wav", (1, 1))
    table = {
        "id": [f"u{n:06d}" for n in number],
        "file": [f"{name}.wav" for name in file],
        "speaker": [f"s{name}" for name in file],
        "start": start.astype(float),
        "end": start + float(SECONDS),
        "emotion": [CLASSES[n] for n in np.random.default_rng(0).integers(0, 4, count)],
        "split": np.where(part == 0, "test", np.where(part == 1, "validation", "train")),
    }
    pacsv.write_csv(pa.table(table), folder / "manifest.csv")
    return folder / "manifest.csv"


def make_store(configuration: Configuration) -> None:
    """Write the shards. An utterance repeats a few random frames, so that shards are small."""
    manifest = read_manifest(configuration.corpus.root)
    rows = manifest.table.select(["id", "file", "start", "end", "speaker"]).to_pylist()
    features = Storage.open(configuration.storage).child("features")
    storage = features.child(shards_folder(configuration.features, manifest.root))
    dims = configuration.features.load().dims
    generator = np.random.default_rng(0)
    batches: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, row in enumerate(rows):
        some = generator.standard_normal((FRAMES // REPEATED, dims), np.float32)
        exact = some.astype(np.float64)
        mean = exact.mean(axis=0)
        path = Path(configuration.corpus.root).parent / row["file"]
        batch = batches[row["speaker"]]
        batch.append(
            {
                **row,
                "source": f"{path.stat().st_size}:{path.stat().st_mtime_ns}",
                "audio": row["file"],
                "frames": FRAMES,
                "values": np.tile(some.ravel(), REPEATED),
                "mean": mean,
                "squares": REPEATED * np.square(exact - mean).sum(axis=0),
                "error": None,
            }
        )
        if len(batch) == IN_SHARD or number + 1 == len(rows):
            write_shard(storage, batch)
            batch.clear()
    for batch in batches.values():
        if batch:
            write_shard(storage, batch)


def configured(folder: Path, hours: float, **changed: Any) -> tuple[Path, Configuration]:
    """The configuration, and its file. Makes corpus and store if they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "name": "scale",
        "storage": str(folder / "runs"),
        "corpus": {"root": str(folder / "manifest.csv"), "classes": list(CLASSES)},
        "model": MODEL,
        "folds": {"scheme": "corpus"},
        "training": {"epochs": 1, "batch_size": BATCH, **changed},
        "search": {"space": str(folder / "space.yaml"), "trials": 2, "sampler": "grid",
                   "scheduler": "none"},
        "cluster": {"cache": str(folder / "cache"), "concurrent_trials": 2},
        "trackers": [],
    }  # fmt: skip
    rates = {"parameters": {"training.learning_rate": {"choices": [1e-4, 1e-3]}}}
    (folder / "space.yaml").write_text(yaml.safe_dump(rates))
    (folder / "scale.yaml").write_text(yaml.safe_dump(content))
    configuration = parse(content)
    if not (folder / "made").exists():
        make_corpus(folder, hours)
        make_store(configuration)
        (folder / "made").touch()
    return folder / "scale.yaml", configuration


def memory(process: psutil.Process) -> dict[str, float]:
    """Gigabytes of a process: `private` memory, and pages of mapped `files`."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    kilobytes = {key: int(rest.split()[0]) for key, _, rest in
                 (line.partition(":") for line in lines) if key.startswith("Rss")}  # fmt: skip
    return {
        "private": (kilobytes["RssAnon"] + kilobytes["RssShmem"]) * 1024 / 1e9,
        "files": kilobytes["RssFile"] * 1024 / 1e9,
    }


def maps_frames(process: psutil.Process) -> bool:
    """Whether this process trains: it has mapped a file of frames."""
    return ".f32" in Path(f"/proc/{process.pid}/maps").read_text()


def sweep(file: Path, log: Path) -> tuple[dict[str, dict[str, float]], str]:
    """Run the sweep. Returns the peak memory of each process and of all together, and the log."""
    command = [sys.executable, "-m", "orchestrator.cli", "sweep", str(file), "--set", "name=scale"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    with log.open("wb") as output:
        driver = psutil.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    peaks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    names: dict[int, str] = {driver.pid: "driver"}
    while driver.poll() is None:
        now: dict[str, dict[str, float]] = {}
        for process in [driver, *driver.children(recursive=True)]:
            try:
                if process.pid != driver.pid and not maps_frames(process):
                    continue
                name = names.setdefault(process.pid, f"worker {len(names)}")
                now[name] = memory(process)
            except (psutil.Error, OSError, KeyError):  # the process has ended
                continue
        kinds = ("private", "files")
        now["together"] = {kind: sum(each[kind] for each in now.values()) for kind in kinds}
        for name, each in now.items():
            for kind in kinds:
                peaks[name][kind] = max(peaks[name][kind], each[kind])
        time.sleep(0.25)
    if driver.returncode:
        raise SystemExit(log.read_text())
    return peaks, log.read_text()


def size(folder: Path) -> float:
    """Gigabytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def results(folder: Path, runs: list[FoldRun]) -> dict[str, bytes]:
    """Train the runs to their end. Returns the bytes of all result files but the record."""
    record = TrialRecord(id="0" * 10, number=0, model="acrnn", status="complete",
                         hyperparameters={}, seed=0)  # fmt: skip
    ledger = Ledger(Storage.open(str(folder)))
    task = Task(record, [run.fold.name for run in runs], lambda curve: None, 60.0)
    cross_validate(task, runs, ledger, lambda metrics: None)
    files = (folder / "trials" / record.id).iterdir()
    return {file.name: file.read_bytes() for file in files if file.name != "trial.json"}


def from_both(folder: Path) -> tuple[dict[str, list[float]], bool]:
    """Seconds of an epoch by the source of its frames, and whether the results are equal bytes."""
    _, configuration = configured(folder, SMALL_HOURS, epochs=1000)
    storage = Storage.open(configuration.storage)
    prepared = prepare(plan_folds(configuration), storage, lambda done, total, error: None)
    of_file, (fold,) = prepared.dataset, prepared.folds
    in_memory = replace(of_file, frames=np.array(of_file.frames))
    sides = {"file": of_file, "large file": of_file, "memory": in_memory}
    usual = cache.LARGE
    short = configuration.with_values({"training.epochs": 2})
    written = []
    for name, data in sides.items():
        cache.LARGE = 0 if name == "large file" else usual
        written.append(results(folder / f"results-{name}", [fold_run(fold, data, short)]))
    runs = {name: fold_run(fold, data, configuration) for name, data in sides.items()}
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS + 1):
        for name in [*runs][:: 1 - 2 * (number % 2)]:  # in the other order every second time
            cache.LARGE = 0 if name == "large file" else usual
            began = time.process_time()
            runs[name].train_epoch()
            if number:  # the first epoch warms up
                seconds[name].append(time.process_time() - began)
    cache.LARGE = usual
    return seconds, all(files == written[0] for files in written)


def batch_times() -> dict[str, list[float]]:
    """Milliseconds for the frames of a batch: copied, normalised, or with deltas too."""
    generator = np.random.default_rng(0)
    frames = generator.standard_normal((100_000, 3 * BANDS), np.float32)
    static = np.ascontiguousarray(frames[:, :BANDS])
    mean, deviation = generator.standard_normal(3 * BANDS), np.ones(3 * BANDS)

    def with_deltas(start: int) -> np.ndarray:
        window = static[start : start + SEGMENT + 8]  # a delta reads two frames on either side
        delta = _delta(window)
        planes = np.concatenate([window, delta, _delta(delta)], axis=1)[4:-4]
        return normalise(planes, mean, deviation)

    ways: dict[str, Callable[[int], np.ndarray]] = {
        "copied": lambda start: frames[start : start + SEGMENT],
        "z-scores": lambda start: normalise(frames[start : start + SEGMENT], mean, deviation),
        "z-scores and deltas": with_deltas,
    }
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(2 * ROUNDS):
        starts = generator.integers(0, len(frames) - SEGMENT - 8, BATCH)
        for name, way in ways.items():
            began = time.process_time()
            values = np.zeros((BATCH, SEGMENT, 3 * BANDS), np.float32)
            for row, start in enumerate(starts):
                values[row] = way(int(start))
            times[name].append(1000 * (time.process_time() - began))
    return times


def print_large(folder: Path, hours: float, steps: int) -> None:
    """Run the sweep, and print the memory of its processes."""
    began = time.monotonic()
    file, configuration = configured(folder, hours, epoch_steps=steps)
    print(f"store: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    peaks, log = sweep(file, folder / "log")
    print(log, file=sys.stderr)
    frames, shards = size(folder / "cache"), size(folder / "runs" / "features")
    print(
        f"| {hours:g} hours of log-mel: {frames:.1f} GB of frames, shards of {shards:.1f} GB "
        f"| private memory at its peak | pages of mapped files at their peak |"
    )
    print("|---|---|---|")
    for name, peak in sorted(peaks.items(), key=lambda item: (item[0] == "together", item[0])):
        goal = f" (target: below {PRIVATE_GB:g} GB)" if name == "together" else ""
        print(f"| {name}{goal} | {peak['private']:.2f} GB | {peak['files']:.2f} GB |")
    trials = Ledger(Storage.open(configuration.storage).child("scale")).trials()
    of_trials = " and ".join(f"{trial.seconds:.0f} s" for trial in trials)
    print(f"\nThe trials took {of_trials} for {steps} steps each, and their scores.\n")


def print_small(folder: Path) -> None:
    """Compare the file with an array in memory, and print the times of epochs and of batches."""
    seconds, equal = from_both(folder)
    base = statistics.median(seconds["memory"])
    print(f"| {SMALL_HOURS:g} hours | CPU time of an epoch | ratio (target: at most {RATIO}) |")
    print("|---|---|---|")
    for name, text in NAMES.items():
        ratio = statistics.median(seconds[name]) / base
        print(f"| frames from {text} | {spread(seconds[name], 2)} s | {ratio:.2f} |")
    print(f"\nThe results have {'equal' if equal else 'DIFFERENT'} bytes.")
    print(f"\n| {BATCH} segments of {SEGMENT} frames | CPU time of a batch |")
    print("|---|---|")
    for name, times in batch_times().items():
        print(f"| {name} | {spread(times, 1)} ms |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=100.0)
    parser.add_argument("--steps", type=int, default=100, help="steps of an epoch")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = (arguments.folder or Path(name)).absolute()
        print_large(folder / f"{arguments.hours:g}h", arguments.hours, arguments.steps)
        print_small(folder / "small")


if __name__ == "__main__":
    main()
