"""Speed of the extraction, beside pools without a storage, openSMILE's own pool, and PyTorch.

    python benchmarks/extraction.py MANIFEST [--step 2] [--rounds 3]

MANIFEST is a corpus of 16 kHz recordings, for example nEMO's `manifest.csv`. `--step 2` takes each
second recording. All sides use two processes and run in turn, in each round. Every time is that of
a whole command, with its start. A ratio is the other side's seconds by ours in the same round:
above 1, we are faster. Log-mel of one core is also timed without start and decoding, in CPU
seconds. Prints Markdown tables. Use a quiet machine with two cores: 89 min of speech and three
rounds take about five minutes.
"""

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv as pc
from spread import spread

from features import audio
from features.manifest import read_manifest
from features.recordings import Recordings
from features.sets import FEATURES, emobase_lld45, logmel3d
from features.signal import SAMPLE_RATE

WORKERS = 2
MODELS = {"emobase_lld45": "iaan", "logmel3d": "acrnn_r"}
TARGETS = {
    ("emobase_lld45", "bare"): 0.85,
    ("emobase_lld45", "process_files"): 1.0,
    ("logmel3d", "torch"): 0.8,
}
SIDES = {
    "bare": "a pool that computes the same features and stores nothing",
    "process_files": "`opensmile.Smile.process_files`, which stores nothing",
    "torch": "a pool with PyTorch in float32 that stores nothing",
}

_samples: Callable[[str], np.ndarray]
_extract: Callable[[np.ndarray], np.ndarray]


def torch_log_mel() -> Callable[[np.ndarray], np.ndarray]:
    """Log-mel as a user would write it in PyTorch, in float32 on one thread."""
    import torch

    torch.set_num_threads(1)
    window = torch.from_numpy(logmel3d._HAMMING.astype(np.float32))
    filters = torch.from_numpy(logmel3d._FILTERS)

    def slope(x: "torch.Tensor") -> "torch.Tensor":
        n = len(x)
        x = torch.nn.functional.pad(x.T[None], (2, 2), mode="replicate")[0].T
        return (x[3 : n + 3] - x[1 : n + 1] + 2 * (x[4:] - x[:n])) / 10

    @torch.inference_mode()
    def log_mel(samples: np.ndarray) -> np.ndarray:
        frames = torch.from_numpy(samples).unfold(0, logmel3d.WINDOW, logmel3d.HOP) * window
        spectrum = torch.fft.rfft(frames, logmel3d.FFT)
        power = (spectrum.real**2 + spectrum.imag**2) @ filters
        static = torch.log(power.clamp_min(logmel3d.FLOOR))
        delta = slope(static)
        return torch.cat([static, delta, slope(delta)], dim=1).numpy()

    return log_mel


def exact_log_mel(samples: np.ndarray) -> np.ndarray:
    """The 40 static columns in float64."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, logmel3d.WINDOW)[:: logmel3d.HOP]
    spectrum = np.fft.rfft(frames.astype(np.float64) * logmel3d._HAMMING, logmel3d.FFT)
    power = (spectrum.real**2 + spectrum.imag**2) @ logmel3d._mel_filters()
    return np.log(np.maximum(power, logmel3d.FLOOR))


def start(root: str, name: str, side: str) -> None:
    """Prepare a worker process of a pool."""
    global _samples, _extract
    recordings = Recordings.open(root, own=True)
    if side == "torch":
        import soundfile

        log_mel = torch_log_mel()
        _samples = lambda file: soundfile.read(os.path.join(root, file), dtype="float32")[0]  # noqa: E731
        _extract = log_mel
    else:
        _samples = lambda file: audio.decode(audio.fetch(recordings, file))  # noqa: E731
        extract = FEATURES[name]().load().extract
        _extract = lambda samples: extract(samples, SAMPLE_RATE)  # noqa: E731


def work(file: str) -> int:
    return len(_extract(_samples(file)))


def run_side(manifest: str, name: str, side: str) -> None:
    """Compute the features of all recordings, as a program of its own."""
    table = read_manifest(manifest)
    files = table.table["file"].to_pylist()
    if side == "process_files":
        import opensmile

        smile = opensmile.Smile(
            str(emobase_lld45.CONFIG_FILE), "all", num_workers=WORKERS, multiprocessing=True
        )
        print(len(smile.process_files([os.path.join(table.root, file) for file in files])))
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(WORKERS, start, (table.root, name, side)) as pool:
        print(sum(pool.imap_unordered(work, files, chunksize=4)))


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall time of a command, and the CPU time of all its processes."""
    # A core for each process, on every side. Joblib counts this variable as the number of CPUs.
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment = kept | {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": str(WORKERS)}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def commands(manifest: Path, name: str, classes: str, rounds: int, folder: Path) -> None:
    """Print the table of whole commands of a feature set."""
    sides = ["bare", "process_files"] if name == "emobase_lld45" else ["bare", "torch"]
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in ("ser extract", *sides)}
    own = [sys.executable, str(Path(__file__).resolve())]
    for number in range(rounds):
        config = folder / f"{name}{number}.yaml"
        config.write_text(
            f"corpus: {{root: {manifest}, classes: [{classes}]}}\n"
            f"model: {{name: {MODELS[name]}}}\nstorage: {folder}/{name}{number}\n"
        )
        program = [sys.executable, "-m", "orchestrator.cli", "extract", str(config)]
        times["ser extract"].append(seconds(program, folder))
        for side in sides:
            times[side].append(seconds([*own, str(manifest), "--side", name, side], folder))
    print(f"\n| {name}: whole command | seconds | CPU seconds | ratio of seconds | target |")
    print("|---|---|---|---|---|")
    for side, values in times.items():
        wall, cpu = ([value[i] for value in values] for i in (0, 1))
        ratios = [other / mine[0] for other, mine in zip(wall, times["ser extract"], strict=True)]
        ratio = spread(ratios, 2) if side in SIDES else ""
        target = f"{TARGETS.get((name, side), '')}"
        row = (SIDES.get(side, f"`{side}`"), spread(wall, 1), spread(cpu, 1), ratio, target)
        print(f"| {' | '.join(row)} |", flush=True)


def one_core(manifest: Path, rounds: int) -> None:
    """Print the table of log-mel on one core, without start and decoding."""
    table = read_manifest(str(manifest))
    recordings = table.recordings()
    files = table.table["file"].to_pylist()
    files = files[:: max(1, len(files) // 300)]
    signals = [audio.decode(audio.fetch(recordings, file)) for file in files]
    length = sum(map(len, signals)) / SAMPLE_RATE
    sides = {"ours": lambda x: logmel3d.extract(x, SAMPLE_RATE), "torch": torch_log_mel()}
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds + 1):
        for side, compute in sides.items():
            began = time.process_time()
            for signal in signals:
                compute(signal)
            speeds[side].append(length / (time.process_time() - began))
    speeds = {side: values[1:] for side, values in speeds.items()}  # the first round warms up
    errors = {
        side: max(np.abs(f(x)[:, : logmel3d.BANDS] - exact_log_mel(x)).max() for x in signals)
        for side, f in sides.items()
    }
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["torch"], strict=True)]
    print("\n| logmel3d: one core | seconds of speech a CPU second | ratio | target | error |")
    print("|---|---|---|---|---|")
    for side, name in (("ours", "`logmel3d.extract`"), ("torch", "PyTorch, float32")):
        ratio = f"{spread(ratios, 2)} | 0.8" if side == "ours" else "|"
        print(f"| {name} | {spread(speeds[side], 0)} | {ratio} | {errors[side]:.1e} |")


def main() -> None:
    """Run one side as a program, or all sides in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", nargs=2)
    options = parser.parse_args()
    if options.side:
        run_side(str(options.manifest), *options.side)
        return
    whole = read_manifest(str(options.manifest))
    rows = whole.table.take(list(range(0, len(whole.table), options.step)))
    files = [f"{Path(whole.root).resolve()}/{file}" for file in rows["file"].to_pylist()]
    classes = ", ".join(sorted({label for label in rows["emotion"].to_pylist() if label}))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = folder / "manifest.csv"
        columns = rows.set_column(rows.schema.get_field_index("file"), "file", [files])
        kept = [c for c in columns.schema.names if columns[c].null_count < len(columns)]
        pc.write_csv(columns.select(kept), manifest)
        print(f"{len(files)} recordings, load of the machine {os.getloadavg()[0]:.1f}")
        for features in MODELS:
            commands(manifest, features, classes, options.rounds, folder)
        one_core(manifest, max(options.rounds, 7))


if __name__ == "__main__":
    main()
