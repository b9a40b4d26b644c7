"""Three rules for the last segment of an utterance, which is shorter than the others.

    python benchmarks/tail_segments.py NEMO/manifest.csv [--splits 4] [--folder runs/tails]

`equal`: the last segment has the frames that are left, and the posterior of an utterance is the
mean over its segments. `frames`: the same, but each segment weighs as much as it has frames.
`overlap`, the rule of the program: the last segment is full and overlaps the one before.

ACRNN is trained on random 80/20 splits of nEMO (with segments of 3 s and of 1.5 s) and of the
planted corpus speaker_style_mild (1 s, because its utterances are short). `equal` and `frames`
share each trained network. Each training has the same number of epochs, and none is selected: a
score is the mean over the last three epochs. Differences are paired by split, with Student's t.
"""

import argparse
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from effects import MILD
from nemo_models import configuration as nemo_configuration
from planted_effects import corpus_folder, make_demo_corpus, report, row_of
from sklearn.metrics import balanced_accuracy_score, log_loss

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset, Indices, Pieces
from orchestrator.data.folds import Fold
from orchestrator.data.prepare import plan_folds, prepare
from orchestrator.training.fold_run import FoldRun, Row
from orchestrator.training.runs import fold_run

RULES = ("equal", "frames", "overlap")
TRAINED = 800  # utterances of a training part, to keep the measurement small
SCORED = 3  # the last epochs


class ShortTails(Dataset):
    """The last segment of an utterance has only the frames that the others leave."""

    def pieces(self, rows: Indices) -> Pieces:
        """Return segments as `Dataset.pieces` does, but without overlap."""
        rows, starts, lengths = super().pieces(rows)
        begins = starts - self.offsets[rows]
        overlap = -begins % self.segment  # the other segments begin at multiples of `segment`
        return Pieces(rows, starts + overlap, lengths - overlap)


def posteriors(run: FoldRun, rows: Indices, by_frames: bool) -> np.ndarray:
    """(rows, classes): the mean over the segments of each utterance, or its mean by frames."""
    pieces = run.dataset.pieces(rows)
    of_pieces = np.empty((len(pieces.rows), len(run.dataset.classes)))
    for positions, output in run.outputs(rows):
        of_pieces[positions] = torch.softmax(output.logits.double(), dim=1).numpy()
    weights = pieces.lengths if by_frames else np.ones(len(pieces.rows))
    first = np.flatnonzero(np.diff(pieces.rows, prepend=-1))
    sums = np.add.reduceat(of_pieces * weights[:, None], first)
    return sums / np.add.reduceat(weights, first)[:, None]


def train(task: tuple[Fold, Dataset, Configuration]) -> list[Row]:
    """Train with both ways to cut. Return the scores of the rules, for all and for cut utterances.

    An utterance is cut if it has at least two segments.
    """
    torch.set_num_threads(1)
    fold, dataset, config = task
    rng = np.random.default_rng(0)
    fold = replace(fold, train=np.sort(rng.permutation(fold.train)[:TRAINED]))
    rows = np.sort(fold.test)
    labels = dataset.labels[rows]
    cut = np.diff(dataset.offsets)[rows] > dataset.segment
    scores = []
    for data in (ShortTails(**vars(dataset)), dataset):
        run = fold_run(fold, data, config)
        for epoch in range(config.training.epochs):
            run.train_epoch()
            if epoch < config.training.epochs - SCORED:
                continue
            for rule in ("equal", "frames") if isinstance(data, ShortTails) else ("overlap",):
                p = posteriors(run, rows, rule == "frames")
                for part, chosen in (("all", np.full(len(rows), True)), ("cut", cut)):
                    truth, of = labels[chosen], p[chosen]
                    ua = balanced_accuracy_score(truth, of.argmax(1))
                    loss = log_loss(truth, of, labels=range(of.shape[1]))
                    shares = {"rule": rule, "part": part, "utterances": len(truth)}
                    scores.append(shares | {"ua": ua, "loss": loss})
    return scores


def cases(manifest: str, folder: Path, splits: int) -> dict[str, list[Configuration]]:
    """Return the configurations of each table, whose folds are `splits` splits in all."""
    folds = {"scheme": "random_repeated", "selection": "validation"}
    found: dict[str, list[Configuration]] = {}
    for segment in (300, 150):
        raw = nemo_configuration("acrnn", "80-20", "speaker", manifest, str(folder))
        raw["folds"] = {**folds, "folds": splits, "seed": 0}
        raw["features"]["segment"] = segment
        found[f"nEMO, {segment / 100:g} s"] = [parse(raw)]
    planted = []
    for seed in range(splits // 2):
        raw = MILD.configuration("acrnn_r", seed, folder).resolved()
        raw["model"] = {**MILD.models["acrnn_r"], "name": "acrnn"}
        raw["folds"] = {**folds, "folds": 2, "seed": seed}
        raw["features"]["segment"] = 100
        raw["training"] |= {"epochs": 8, "patience": 8}
        planted.append(parse(raw))
        settings = MILD.settings(seed)
        make_demo_corpus(str(corpus_folder(settings, folder)), settings)
    found["speaker_style_mild, 1 s"] = planted
    return found


def table(case: str, results: list[list[Row]]) -> str:
    """Return the rules of one case in Markdown: means over splits, then differences."""
    lines = [f"**{case}**", "", "| rule | UA, all | UA, cut | loss, all | loss, cut |"]
    lines.append("|---|---|---|---|---|")
    by_split = {
        (rule, part, score): [
            float(np.mean([s[score] for s in split if (s["rule"], s["part"]) == (rule, part)]))
            for split in results
        ]
        for rule in RULES
        for part in ("all", "cut")
        for score in ("ua", "loss")
    }
    for rule in RULES:
        columns = [(rule, part, score) for score in ("ua", "loss") for part in ("all", "cut")]
        cells = " | ".join(f"{np.mean(by_split[column]):.3f}" for column in columns)
        lines.append(f"| `{rule}` | {cells} |")
    tested = [sum(s["utterances"] for s in split if s["part"] == "cut") for split in results]
    whole = [sum(s["utterances"] for s in split if s["part"] == "all") for split in results]
    lines += ["", f"{100 * sum(tested) / sum(whole):.0f} % of the test utterances are cut.", ""]
    lines += ["| difference | mean (95 %) | by split | above 0 |", "|---|---|---|---|"]
    for first, second in (("frames", "equal"), ("overlap", "equal"), ("overlap", "frames")):
        for score in ("ua", "loss"):
            for part in ("all", "cut"):
                pairs = zip(*(by_split[r, part, score] for r in (first, second)), strict=True)
                name = f"{score.replace('ua', 'UA')}, {part}: {first} - {second}"
                lines.append(row_of(name, [a - b for a, b in pairs]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train the splits that FOLDER/tails.jsonl lacks, then print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest")
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1, help="folds to train at the same time")
    parser.add_argument("--folder", type=Path, default=Path("runs/tails"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tails.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {tuple(row["key"]): row["scores"] for row in map(json.loads, lines)}
    every = cases(arguments.manifest, folder, arguments.splits)
    for case, configurations in every.items():
        for config in configurations:
            keys = [(case, config.training.seed, f"{n}") for n in range(config.folds.folds)]
            if all(key in done for key in keys):
                continue
            prepared = prepare(plan_folds(config), Storage.open(str(folder)), lambda *_: None)
            tasks = [(fold, prepared.dataset, config) for fold in prepared.folds]
            with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
                for key, scores in zip(keys, pool.imap(train, tasks), strict=True):
                    done[key] = scores
                    with file.open("a", encoding="utf-8") as out:
                        out.write(json.dumps({"key": key, "scores": scores}) + "\n")
                    report(f"{key}: done")
    for case in every:
        print(table(case, [scores for key, scores in done.items() if key[0] == case]))


if __name__ == "__main__":
    main()
