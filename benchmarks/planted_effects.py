"""What the demo corpus plants, the models built for it find, and only where it is planted.

    python benchmarks/planted_effects.py [--jobs 2] [--seeds 0 1 2 3 4] [--effects contagion ...]

An effect is a corpus, a fold scheme, models with one configuration each, and hypotheses about
pairs of them. Every seed speaks a fresh corpus, and is the training's too. All models of an effect
train alike, on the same corpora and folds, so differences are paired: intervals are Student's t
over the seeds' differences of pooled UA. The settings were fixed on seeds from 100 on.

Each result is kept in <folder>/results.jsonl as soon as it is there: run again, the benchmark
goes on where it stopped. The table goes to standard output and to <folder>/planted-effects.md.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import torch

from features.corpora.demo import EMOTIONS, DemoSettings, make_demo_corpus
from features.storage import Storage
from orchestrator.batches import Dataset
from orchestrator.config import Configuration, parse
from orchestrator.data import prepare
from orchestrator.fold_run import Row
from orchestrator.folds import Fold
from orchestrator.metrics import Interval, fold_interval, scores
from orchestrator.training import fold_run

EQUAL_WITHIN = 0.05
"""UA: a difference whose interval lies within this on both sides of 0 is called none."""


@dataclass(frozen=True)
class Effect:
    """What is planted, who is to find it, and what is expected.

    corpus : `DemoSettings` without the seed
    models : label -> the configuration's section `model`
    sections : further sections of the configuration, the same for all models
    hypotheses : `a > b` or `a ≈ b` over names of `models`
    """

    name: str
    corpus: DemoSettings
    models: dict[str, dict[str, Any]]
    sections: dict[str, dict[str, Any]]
    hypotheses: tuple[str, ...]

    def settings(self, seed: int) -> DemoSettings:
        """Of the corpus that a seed speaks."""
        return self.corpus.model_copy(update={"seed": seed})

    def configuration(self, model: str, seed: int, folder: Path) -> Configuration:
        """What one model trains with; `folder` holds the benchmark's corpora and features."""
        sections = {**self.sections, "training": {**self.sections["training"], "seed": seed}}
        return parse(
            {
                "corpus": {
                    "root": str(corpus_folder(self.settings(seed), folder) / "manifest.csv"),
                    "classes": EMOTIONS,
                },
                "model": self.models[model],
                **sections,
                "storage": str(folder),
                "name": self.name,
            }
        )


_IAAN = {"hidden_size": 32, "attention_size": 32, "projection_size": 32, "dropout": 0.2}
CONTAGION = Effect(
    name="contagion",
    # Long dialogues in which a tenth of the turns starts anew: what is felt now tells of the next
    # turns and little of turns drawn at random. Bland turns are for the context that predicts,
    # mixed ones for the attention that knows it.
    corpus=DemoSettings(
        dialogues=8, turns=48, own=0.45, other=0.45, bland=0.3, mixed=0.4, speaker_style=0.1
    ),
    models={
        name: {"name": name, **_IAAN} for name in ("iaan", "bigru_iaa", "bigru_att", "rand_iaan")
    },
    sections={
        "features": {"pool": 10},
        "folds": {"scheme": "leave_one_session_out"},
        "training": {"epochs": 15, "patience": 15, "batch_size": 32, "learning_rate": 3e-3},
    },
    hypotheses=("iaan > bigru_iaa", "bigru_iaa > bigru_att", "iaan > rand_iaan"),
)
_ACRNN = {
    "first_maps": 6,
    "maps": 8,
    "conv_layers": 1,
    "linear_size": 48,
    "hidden_size": 32,
    "embedding_size": 64,
}
SPEAKER_STYLE = Effect(
    name="speaker_style",
    # Ten voices that show the same emotion in ways as far apart as two emotions are, heard in
    # training and in the test; without context.
    corpus=DemoSettings(dialogues=4, own=0, other=0, bland=0.1, unlabelled=0, speaker_style=1.5),
    models={
        "ssa_crnn_r": {"name": "ssa_crnn_r", **_ACRNN},
        "acrnn_r": {"name": "acrnn_r", **_ACRNN},
        # As large, and never told who speaks: what is left is due to the second encoder alone.
        "ssa_crnn_r, untold": {"name": "ssa_crnn_r", "speaker_weight": 0.0, **_ACRNN},
    },
    sections={
        "features": {"normalize": "band"},
        "folds": {"scheme": "random_repeated", "folds": 3},
        "training": {"epochs": 12, "patience": 12, "learning_rate": 2e-3},
    },
    hypotheses=("ssa_crnn_r > acrnn_r", "ssa_crnn_r > ssa_crnn_r, untold"),
)
IMBALANCE = Effect(
    name="imbalance",
    # Four of five turns are neutral. Batches are balanced as in the paper, so that the rare
    # classes are repeated; epochs are of few steps, to see the start of training.
    corpus=DemoSettings(
        dialogues=10,
        own=0,
        other=0,
        bland=0.2,
        overlap=0.4,
        unlabelled=0,
        prior=(0.06, 0.06, 0.82, 0.06),
    ),
    models={
        "acrnn_r": {"name": "acrnn_r", "regularizer_weight": 0.1, **_ACRNN},
        "acrnn": {"name": "acrnn", **_ACRNN},
    },
    sections={
        "features": {"normalize": "band"},
        "folds": {"scheme": "stratified_group_k_fold", "folds": 3, "group": "session"},
        "training": {"epochs": 6, "epoch_steps": 18, "patience": 6, "learning_rate": 2e-3},
    },
    hypotheses=("acrnn_r > acrnn",),
)
EFFECTS = (
    CONTAGION,
    replace(
        CONTAGION,
        name="no_contagion",
        corpus=CONTAGION.corpus.model_copy(update={"own": 0.0, "other": 0.0}),
        hypotheses=tuple(pair.replace(">", "≈") for pair in CONTAGION.hypotheses),
    ),
    SPEAKER_STYLE,
    replace(
        SPEAKER_STYLE,
        name="one_style",
        corpus=SPEAKER_STYLE.corpus.model_copy(update={"speaker_style": 0.0}),
        models={name: SPEAKER_STYLE.models[name] for name in ("ssa_crnn_r", "acrnn_r")},
        hypotheses=("ssa_crnn_r ≈ acrnn_r",),
    ),
    IMBALANCE,
    replace(
        IMBALANCE,
        name="imbalance_as_drawn",
        sections=IMBALANCE.sections
        | {"training": IMBALANCE.sections["training"] | {"balanced_batches": False}},
    ),
)


@dataclass(frozen=True)
class Trial:
    """One model of an effect on one seed's corpus."""

    effect: Effect
    model: str
    seed: int

    def key(self) -> str:
        """Of all that decides the result, but for the code: where files lie does not enter."""
        settings = self.effect.settings(self.seed)
        resolved = self.effect.configuration(self.model, self.seed, Path()).resolved()
        sections = {name: resolved[name] for name in ("features", "model", "folds", "training")}
        text = json.dumps([settings.model_dump(mode="json"), sections], sort_keys=True)
        return hashlib.sha1(text.encode()).hexdigest()[:16]


def corpus_folder(settings: DemoSettings, folder: Path) -> Path:
    """Effects that ask for the same corpus share it."""
    digest = hashlib.sha1(settings.model_dump_json().encode()).hexdigest()[:12]
    return folder / "corpora" / digest


def read_results(file: Path) -> dict[str, Row]:
    """Results by key; a line that a killed run left unfinished is passed over."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[row["key"]] = row
    return found


def make_corpora(trials: Iterable[Trial], folder: Path, workers: int) -> None:
    """Speak what the trials need and extract its features: all that Ray is needed for."""
    import ray

    first = {corpus_folder(t.effect.settings(t.seed), folder): t for t in trials}
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
    try:
        for number, (root, trial) in enumerate(first.items(), start=1):
            began = time.monotonic()
            make_demo_corpus(str(root), trial.effect.settings(trial.seed))
            configuration = trial.effect.configuration(trial.model, trial.seed, folder)
            prepare(configuration, Storage.open(str(folder)), lambda done, total, error: None)
            say(f"corpus {number} of {len(first)}: {time.monotonic() - began:.0f} s")
    finally:
        ray.shutdown()


def train_fold(task: tuple[Fold, Dataset, Configuration]) -> tuple[list[Row], int]:
    """Train a fold to its end: predictions of its test part, and the epoch that was chosen."""
    torch.set_num_threads(1)
    fold, dataset, configuration = task
    run = fold_run(fold, dataset, configuration)
    while not run.ended:
        run.train_epoch()
    return run.finish().predictions, run.best_epoch


def cross_validate(trial: Trial, folder: Path, pool: Pool) -> Row:
    """Train all folds of a trial; its result, with UA pooled over all test utterances."""
    began = time.monotonic()
    configuration = trial.effect.configuration(trial.model, trial.seed, folder)
    prepared = prepare(configuration, Storage.open(str(folder)), lambda done, total, error: None)
    tasks = [(fold, prepared.dataset, configuration) for fold in prepared.folds]
    done = pool.map(train_fold, tasks, chunksize=1)
    rows = [row for predictions, _ in done for row in predictions]
    truth, predicted = ([row[name] for row in rows] for name in ("truth", "prediction"))
    found = scores(truth, predicted, EMOTIONS)
    return {
        "key": trial.key(),
        "effect": trial.effect.name,
        "model": trial.model,
        "seed": trial.seed,
        "ua": found.ua,
        "wa": found.wa,
        "epochs": [epoch for _, epoch in done],
        "utterances": len(prepared.dataset.labels),
        "tested": len(rows),
        "seconds": round(time.monotonic() - began, 1),
    }


def verdict(relation: str, difference: Interval) -> str:
    """Whether the interval says what the hypothesis does; without one (a seed) nothing is said."""
    if math.isnan(difference.low):
        return "-"
    if relation == ">":
        return "yes" if difference.low > 0 else "no"
    return "yes" if max(-difference.low, difference.high) <= EQUAL_WITHIN else "no"


def in_words(values: dict[str, Any]) -> str:
    """Settings as they stand in the tables."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def with_interval(interval: Interval, sign: str = "") -> str:
    """Value and bounds, as they stand in the tables; a single seed has no bounds."""
    value, low, high = (format(number, f"{sign}.3f") for number in interval)
    return value if math.isnan(interval.low) else f"{value} ({low} to {high})"


def tables(effect: Effect, seeds: list[int], results: dict[str, Row]) -> str:
    """The effect in Markdown: mean UA of each model, then each hypothesis."""
    rows = {m: [results[Trial(effect, m, s).key()] for s in seeds] for m in effect.models}
    ua = {model: [row["ua"] for row in found] for model, found in rows.items()}
    example = next(iter(rows.values()))[0]
    seconds = sum(row["seconds"] for found in rows.values() for row in found)
    corpus = effect.corpus.model_dump(exclude={"seed"})
    lines = [
        f"## {effect.name}",
        "",
        f"Corpus: {in_words(corpus)}; {example['utterances']:,} utterances at seed {seeds[0]}, "
        f"{example['tested']:,} of them tested. "
        + " ".join(f"{key.capitalize()}: {in_words(v)}." for key, v in effect.sections.items())
        + f" Seeds {', '.join(map(str, seeds))}; the trials took {seconds / 60:.0f} min.",
        "",
        "| model | mean UA (95 %) | chosen epochs, median | hyperparameters |",
        "|---|---|---|---|",
    ]
    for model, found in rows.items():
        epochs = sorted(epoch for row in found for epoch in row["epochs"])
        lines.append(
            f"| {model} | {with_interval(fold_interval(ua[model]))} "
            f"| {epochs[len(epochs) // 2]} | {in_words(effect.models[model])} |"
        )
    lines += ["", "| hypothesis | mean difference (95 %) | by seed | shown |", "|---|---|---|---|"]
    for hypothesis in effect.hypotheses:
        a, relation, b = re.split(" ([>≈]) ", hypothesis)
        by_seed = [first - second for first, second in zip(ua[a], ua[b], strict=True)]
        difference = fold_interval(by_seed)
        lines.append(
            f"| {hypothesis} | {with_interval(difference, '+')} "
            f"| {' '.join(f'{value:+.3f}' for value in by_seed)} "
            f"| {verdict(relation, difference)} |"
        )
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    """Progress, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run what is missing, then print and write the tables."""
    parser = argparse.ArgumentParser()
    names = [effect.name for effect in EFFECTS]
    parser.add_argument("--effects", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="folds that train at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    arguments = parser.parse_args()
    began = time.monotonic()
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    effects = [effect for effect in EFFECTS if effect.name in arguments.effects]
    trials = [Trial(e, m, s) for s in arguments.seeds for e in effects for m in e.models]
    file = folder / "results.jsonl"
    results = read_results(file)
    missing = [trial for trial in trials if trial.key() not in results]
    if missing:
        make_corpora(missing, folder, arguments.jobs)
        # Fresh processes: a fork would inherit threads of torch and pyarrow in whatever state.
        with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
            for number, trial in enumerate(missing, start=1):
                row = results[trial.key()] = cross_validate(trial, folder, pool)
                with file.open("a", encoding="utf-8") as lines:
                    lines.write("\n" + json.dumps(row))  # apart from a line left unfinished
                say(
                    f"{number} of {len(missing)}: {trial.effect.name}, seed {trial.seed}, "
                    f"{trial.model}: UA {row['ua']:.3f} ({row['seconds']:.0f} s)"
                )
    text = "\n".join(tables(effect, arguments.seeds, results) for effect in effects)
    text += (
        "\nShown: `>` where the whole interval is above 0, `≈` where it lies within "
        f"{EQUAL_WITHIN} on both sides of 0.\n"
    )
    text += f"This run took {(time.monotonic() - began) / 60:.1f} min, {arguments.jobs} jobs.\n"
    (folder / "planted-effects.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
