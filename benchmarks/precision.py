"""What bfloat16 brings each model beside float32: the time of an epoch, and the scores.

    python benchmarks/precision.py                      # the time of an epoch
    python benchmarks/precision.py --scores             # the scores too: hours on two cores
    python benchmarks/precision.py --scores --seeds 0 1 2 --epochs 3 --models iaan acrnn_r

Models with context read the planted corpus `contagion`, models of spectrograms `speaker_style`.
Both precisions train the same folds in turn. The GPU is measured too if there is one. With
--scores, the benchmark trains all folds, and prints differences of UA with Student's t interval
over the seeds. It appends each result to <folder>/two-sides.jsonl, so the same command resumes.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import torch
from effects import CONTAGION, SPEAKER_STYLE
from two_sides import (
    Case,
    Side,
    epoch_seconds,
    make_planted,
    score_row,
    shortened,
    speed_row,
    train_sides,
)

SIDES = tuple(Side(name, {"training.precision": name}) for name in ("float32", "bfloat16"))
_BILSTM = {"name": "bilstm_att", "dense_size": 64, "hidden_size": 16, "dropout": 0.3}
_TURNS = dataclasses.replace(CONTAGION, models=CONTAGION.models | {"bilstm_att": _BILSTM})
_SEGMENTS = dataclasses.replace(
    SPEAKER_STYLE,
    models=SPEAKER_STYLE.models | {"acrnn": SPEAKER_STYLE.models["acrnn_r"] | {"name": "acrnn"}},
)
CASES = [
    *(Case(name, name, _TURNS) for name in (*CONTAGION.models, "bilstm_att")),
    *(Case(name, name, _SEGMENTS) for name in ("acrnn", "acrnn_r", "ssa_crnn_r")),
]


def main() -> None:
    """Print a table of times for each device, and a table of scores if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [case.name for case in CASES]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--scores", action="store_true", help="train both sides on all folds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, help="epochs of a fold; the planted effect's if left")
    parser.add_argument("--timed", type=int, default=3, help="epochs to time")
    parser.add_argument("--jobs", type=int, default=2, help="folds to train at the same time")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    arguments = parser.parse_args()
    began, folder = time.monotonic(), arguments.folder.absolute()
    cases = [case for case in CASES if case.name in arguments.models]
    if arguments.epochs is not None:
        cases = [shortened(case, arguments.epochs) for case in cases]
    torch.set_num_threads(1)
    make_planted(cases, [0], folder)
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        place = "CPU seconds, one thread" if device == "cpu" else torch.cuda.get_device_name()
        print(f"\nAn epoch, median (range) of {arguments.timed}: {place}\n")
        print("| model | float32 | bfloat16 | ratio |\n|---|---|---|---|")
        for case in cases:
            data = case.prepared(0, folder)
            configuration = case.configuration(0, folder)
            seconds = epoch_seconds(
                data.folds[0], data.dataset, configuration, SIDES, arguments.timed,
                torch.device(device),
            )  # fmt: skip
            print(f"| {case.name} | {speed_row(seconds, SIDES)} |", flush=True)
        if not arguments.scores:
            continue
        jobs = arguments.jobs if device == "cpu" else 1
        results = train_sides(cases, SIDES, arguments.seeds, folder, jobs, device)
        print("\n| model | UA, float32 | UA, bfloat16 | difference (95 %) | by seed |")
        print("|---|---|---|---|---|")
        for case in cases:
            print(f"| {case.name} | {score_row(case, SIDES, arguments.seeds, results, device)} |")
    print(f"\nThis took {(time.monotonic() - began) / 60:.1f} min.")


if __name__ == "__main__":
    main()
