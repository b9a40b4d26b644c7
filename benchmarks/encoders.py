"""Speed and memory of the extraction of `encoder_layers`, beside a bare loop over the same files.

    python benchmarks/encoders.py [--recordings 48] [--rounds 2]

Makes recordings of 3 s of coloured noise and a WavLM with random weights: the kernels and strides
of the published models, but few and narrow layers. It is faster than a published encoder, so our
own part weighs more than in a real extraction. The bare loop decodes each file, runs the network of
transformers, and takes the means over time. It stores nothing. Each side has one process with one
thread, and the sides run in turn, in each round.

Every time is that of a whole command. The time of a recording is the difference between the
commands with four times as many recordings and with as many as given, so it has no start in it. CPU
seconds are those of all processes of a command. Memory is that of its largest process. Prints a
Markdown table. Use a quiet machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from spread import spread

from features.signal import SAMPLE_RATE

SECONDS = 3
SPEAKERS = 4
MORE = 4
"""How many times as many recordings the second command of a side reads."""
TARGET = 0.9
SIZES = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "conv_dim": [256] * 7,
    "num_conv_pos_embedding_groups": 4,
}
SIDES = {
    "ours": "`ser extract`",
    "bare": "a loop with transformers that stores nothing",
}


class Cost(NamedTuple):
    """The costs of a command, with all its processes.

    seconds, cpu : wall time and CPU time, in seconds
    memory : of the largest process, in MB
    """

    seconds: float
    cpu: float
    memory: float


def make_encoder(folder: Path) -> None:
    """Save a WavLM with random weights."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    WavLMModel(WavLMConfig(**SIZES)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)


def make_corpus(folder: Path, recordings: int) -> None:
    """Write WAV files of noise, and `few.csv` and `many.csv` with `recordings` and MORE times."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(MORE * recordings):
        noise = random.normal(0, 0.05, SECONDS * SAMPLE_RATE)
        soundfile.write(folder / f"{number:04}.wav", np.cumsum(noise) * 0.01 + noise, SAMPLE_RATE)
        emotion = "ab"[number // SPEAKERS % 2]
        rows.append(f"{number:04}.wav,s{number % SPEAKERS},{number % SPEAKERS // 2},{emotion}\n")
    for name, count in (("few", recordings), ("many", MORE * recordings)):
        (folder / f"{name}.csv").write_text(
            "".join(["file,speaker,session,emotion\n", *rows[:count]])
        )


def bare_loop(manifest: Path, encoder: Path) -> None:
    """Compute the means over time of all hidden states of all files."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    network = AutoModel.from_pretrained(encoder).eval()
    total = 0.0
    for line in manifest.read_text().splitlines()[1:]:
        signal = soundfile.read(manifest.parent / line.split(",")[0], dtype="float32")[0]
        signal = (signal - signal.mean()) / np.sqrt(signal.var() + 1e-7)
        with torch.inference_mode():
            values = torch.from_numpy(signal)[None]
            states = network(values, output_hidden_states=True).hidden_states
            total += float(torch.cat([state.mean(dim=1) for state in states]).sum())
    print(total)


def run(command: list[str], folder: Path) -> Cost:
    """Run a command with one process and one thread. Raises SystemExit if it fails."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment = kept | {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}
    log = folder / "log.txt"
    began = time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment, cwd=folder
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{log.read_text()}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def command(side: str, manifest: Path, encoder: Path, number: int) -> list[str]:
    """The command of a side. `number` gives each of our commands a storage of its own."""
    if side == "bare":
        return [
            sys.executable,
            str(Path(__file__).resolve()),
            "--bare",
            str(manifest),
            str(encoder),
        ]
    name = f"{manifest.stem}{number}"
    config = manifest.with_name(f"{name}.yaml")
    config.write_text(
        f"corpus: {{root: {manifest}, classes: [a, b]}}\nmodel: {{name: layer_sum}}\n"
        f"features: {{name: encoder_layers, encoder: {encoder}}}\n"
        f"storage: {manifest.with_name('storage')}/{name}\n"
    )
    return [sys.executable, "-m", "orchestrator.cli", "extract", str(config)]


def main(recordings: int, rounds: int) -> None:
    """Run both sides in turn, with few and with many recordings; print the table."""
    costs: dict[tuple[str, str], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = folder / "encoder"
        make_encoder(encoder)
        make_corpus(folder, recordings)
        for number in range(rounds):
            for corpus in ("few", "many"):
                for side in SIDES:
                    line = command(side, folder / f"{corpus}.csv", encoder, number)
                    costs.setdefault((side, corpus), []).append(run(line, folder))
    print_table(costs, recordings, MORE * recordings)


def print_table(costs: dict[tuple[str, str], list[Cost]], few: int, many: int) -> None:
    """Print the costs of each side. A ratio above 1 means that we are faster."""
    titles = (
        f"recordings of {SECONDS} s, one process",
        f"whole command, {many} recordings",
        "a recording without the start: wall time",
        "CPU time",
        f"ratio of speeds by wall time (goal: {TARGET})",
        "by CPU time",
        *(f"peak memory, {count} recordings" for count in (few, many)),
    )
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for side, title in SIDES.items():
        whole = spread([cost.seconds for cost in costs[side, "many"]], 1)
        times, ratios = [], []
        for measure in ("seconds", "cpu"):
            each, bare = (
                [
                    1000 * (getattr(long, measure) - getattr(short, measure)) / (many - few)
                    for short, long in zip(costs[name, "few"], costs[name, "many"], strict=True)
                ]
                for name in (side, "bare")
            )
            times.append(f"{spread(each, 0)} ms")
            speeds = [theirs / ours for ours, theirs in zip(each, bare, strict=True)]
            ratios.append(spread(speeds, 2) if side == "ours" else "")
        memory = [
            f"{spread([cost.memory for cost in costs[side, corpus]], 0)} MB"
            for corpus in ("few", "many")
        ]
        print(f"| {' | '.join([title, f'{whole} s', *times, *ratios, *memory])} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bare", nargs=2, type=Path, metavar=("MANIFEST", "ENCODER"))
    options = parser.parse_args()
    if options.bare:
        bare_loop(*options.bare)
    else:
        main(options.recordings, options.rounds)
