"""What batches from length-sorted groups save, beside batches of a shuffled pass.

    python benchmarks/padding.py [--nemo NEMO/manifest.csv STORAGE]             # shares and seconds
    python benchmarks/padding.py [--nemo NEMO/manifest.csv STORAGE] --scores    # five seeds

Without an option, the benchmark prints the share of real frames for groups of several sizes, and
the CPU seconds of an epoch, for `iaan` and `acrnn_r`. With --scores, it trains all folds with both
kinds of batches, and prints the differences of UA with Student's t interval over the seeds. It
appends each result to <folder>/two-sides.jsonl, so the same command resumes after an interruption.
The features of nEMO must be in STORAGE: run `ser extract` first.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from effects import CONTAGION, SPEAKER_STYLE
from two_sides import Case, Side, epoch_seconds, make_planted, score_row, speed_row, train_sides

from orchestrator.config.sections import GradientTraining
from orchestrator.data.prepare import Prepared
from orchestrator.training import batches
from orchestrator.training.batches import longest_turns, training_batches

PASSES = 10  # over which a share of real frames is measured
GROUPS = (1, 2, 4, 8, 16, 32)


def shuffled_batches(
    labels: np.ndarray, lengths: np.ndarray, size: int, balanced: bool, rng: np.random.Generator
) -> list[np.ndarray]:
    """Return the batches of a pass as version 0.2.0 drew them: without regard to `lengths`."""
    if not balanced:
        order = rng.permutation(len(labels))
        return [order[start : start + size] for start in range(0, len(order), size)]
    classes = np.unique(labels)
    share = size // len(classes)
    members = [np.flatnonzero(labels == name) for name in classes]
    steps = -(-max(map(len, members)) // share)
    columns = []
    for rows in members:
        passes = -(-steps * share // len(rows))
        order = np.concatenate([rng.permutation(rows) for _ in range(passes)])
        columns.append(order[: steps * share].reshape(steps, share))
    return list(np.concatenate(columns, axis=1))


SIDES = (Side("shuffled", rule=shuffled_batches), Side("sorted groups", always_sorted=True))
PLANTED = [
    Case("contagion: iaan, 32 states", "iaan", CONTAGION),
    Case("speaker_style: acrnn_r", "acrnn_r", SPEAKER_STYLE),
]


@dataclass(frozen=True)
class Turns:
    """The labels of the pieces of a fold's training part, and the frames of their three turns."""

    labels: np.ndarray
    frames: np.ndarray  # (3, pieces)
    longest: np.ndarray

    @classmethod
    def of(cls, prepared: Prepared) -> "Turns":
        """Return those of the first fold."""
        data = prepared.dataset
        pieces = data.pieces(prepared.folds[0].train)
        context = [data.whole(rows[pieces.rows]).lengths for rows in (data.own, data.other)]
        frames = np.stack([pieces.lengths, *context])
        return cls(data.labels[pieces.rows], frames, longest_turns(data, pieces))


def real_share(
    turns: Turns,
    lengths: np.ndarray,
    training: GradientTraining,
    rule: Callable[..., list[np.ndarray]],
    group: int = batches.GROUP,
) -> float:
    """Return the share of real frames in the padded turns of `PASSES` passes."""
    real = padded = 0
    with patch.object(batches, "GROUP", group):
        for seed in range(PASSES):
            rng = np.random.default_rng(seed)
            size, balanced = training.batch_size, training.balanced_batches
            for batch in rule(turns.labels, lengths, size, balanced, rng):
                real += turns.frames[:, batch].sum()
                padded += turns.frames[:, batch].max(axis=1).sum() * len(batch)
    return float(real / padded)


def share_rows(name: str, prepared: Prepared, training: GradientTraining) -> list[str]:
    """Return a row for each length that could sort the groups."""
    turns = Turns.of(prepared)
    keys = {"longest turn": turns.longest}
    if turns.frames[1:].any():
        keys |= {"sum of the turns": turns.frames.sum(axis=0), "the piece alone": turns.frames[0]}
    shuffled = real_share(turns, turns.longest, training, shuffled_batches)
    rows = []
    for sorted_by, lengths in keys.items():
        shares = [real_share(turns, lengths, training, training_batches, g) for g in GROUPS]
        cells = " | ".join(f"{share:.2f}" for share in (shuffled, *shares))
        rows.append(f"| {name} | {sorted_by} | {cells} |")
    return rows


def main() -> None:
    """Print the shares and seconds, or the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nemo", nargs=2, metavar=("MANIFEST", "STORAGE"))
    parser.add_argument("--scores", action="store_true", help="train both sides on all folds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=5, help="epochs to time")
    parser.add_argument("--jobs", type=int, default=2, help="folds to train at the same time")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    parser.add_argument("--cases", nargs="+", help="only cases whose name has one of these words")
    arguments = parser.parse_args()
    began, folder = time.monotonic(), arguments.folder.absolute()
    cases = list(PLANTED)
    if arguments.nemo:
        nemo = tuple(arguments.nemo)
        cases += [Case(f"nEMO: {name}", name, nemo=nemo) for name in ("iaan", "acrnn_r")]
    if arguments.cases:
        cases = [case for case in cases if any(word in case.name for word in arguments.cases)]
    if arguments.scores:
        results = train_sides(cases, SIDES, arguments.seeds, folder, arguments.jobs)
        print("| case | UA, shuffled | UA, sorted groups | difference (95 %) | by seed |")
        print("|---|---|---|---|---|")
        for case in cases:
            print(f"| {case.name} | {score_row(case, SIDES, arguments.seeds, results)} |")
        return
    torch.set_num_threads(1)
    make_planted(cases, [0], folder)
    shares, seconds = [], []
    for case in cases:
        configuration, prepared = case.configuration(0, folder), case.prepared(0, folder)
        assert isinstance(configuration.training, GradientTraining)
        shares += share_rows(case.name, prepared, configuration.training)
        measured = epoch_seconds(
            prepared.folds[0], prepared.dataset, configuration, SIDES, arguments.epochs,
            torch.device("cpu"),
        )  # fmt: skip
        seconds.append(f"| {case.name} | {speed_row(measured, SIDES)} |")
    columns = " | ".join(map(str, GROUPS))
    print(f"Share of real frames, by batches in a group (the product has {batches.GROUP})\n")
    print(f"| case | sorted by | shuffled | {columns} |\n|---|---|---{'|---' * len(GROUPS)}|")
    print("\n".join(shares))
    print(f"\nCPU seconds of an epoch, median (range) of {arguments.epochs}, one thread\n")
    print("| case | shuffled | sorted groups | ratio |\n|---|---|---|---|")
    print("\n".join(seconds))
    print(f"\nThis took {(time.monotonic() - began) / 60:.1f} min.")


if __name__ == "__main__":
    main()
