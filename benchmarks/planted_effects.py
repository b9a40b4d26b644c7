"""What the demo corpus plants, the models built for it find, and only where it is planted.

    python benchmarks/planted_effects.py [--jobs 2] [--seeds 0 1 2 3 4] [--effects contagion ...]

An effect is a corpus, a fold scheme, models with one configuration each, and hypotheses about
pairs of them. Every seed speaks a fresh corpus, and is the training's too. All models of an effect
train alike, on the same corpora and folds, so differences are paired: intervals are Student's t
over the seeds' differences of pooled UA. Where an effect has a control, the same seeds speak
without what is planted, and the differences' differences are given too.

Each result is kept in <folder>/results.jsonl as soon as it is there: run again, the benchmark
goes on where it stopped. The table goes to standard output and to <folder>/planted-effects.md.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from effects import EFFECTS, Effect, corpus_folder
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.corpora.demo import EMOTIONS, make_demo_corpus
from features.storage import Storage
from orchestrator.sweep import fork
from orchestrator.training.batches import Dataset
from orchestrator.config.sections import Configuration
from orchestrator.data.prepare import prepare
from orchestrator.training.fold_run import Row
from orchestrator.data.folds import Fold
from orchestrator.metrics import Interval, fold_interval, scores
from orchestrator.training.gradient import fold_run
from ser_models.acrnn import CHANNELS


@dataclass(frozen=True)
class Trial:
    """One model of an effect on one seed's corpus."""

    effect: Effect
    model: str
    seed: int

    def key(self) -> str:
        """Of all that decides the result, the code too; where files lie does not enter."""
        settings = self.effect.settings(self.seed)
        resolved = self.effect.configuration(self.model, self.seed, Path()).resolved()
        sections = {name: resolved[name] for name in ("features", "model", "folds", "training")}
        by = fork.digest(fork.code())
        told = self.model in self.effect.told
        text = json.dumps([settings.model_dump(mode="json"), sections, told, by], sort_keys=True)
        return hashlib.sha1(text.encode()).hexdigest()[:16]


def differences(hypothesis: str, ua: dict[str, list[float]]) -> list[float]:
    """How far the first model of `a > b` is ahead, by seed."""
    first, second = hypothesis.split(" > ")
    return [a - b for a, b in zip(ua[first], ua[second], strict=True)]


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


def mark_speakers(dataset: Dataset) -> Dataset:
    """Write who speaks into every frame: a static band of the speaker's own is raised by 3.

    Bands are of deviation 1, and ten speakers' lie four apart.
    """
    bands, names = dataset.dims // CHANNELS, sorted(set(dataset.speakers))
    frames = dataset.frames.copy()
    for row, speaker in enumerate(dataset.speakers):
        begin, end = dataset.offsets[row : row + 2]
        frames[begin:end, names.index(speaker) * bands // len(names)] += 3
    return replace(dataset, frames=frames)


def train_fold(task: tuple[Fold, Dataset, Configuration]) -> tuple[list[Row], int, list[Row]]:
    """Train a fold to its end: predictions of its test part, the chosen epoch, and embeddings."""
    torch.set_num_threads(1)
    fold, dataset, configuration = task
    run = fold_run(fold, dataset, configuration)
    while not run.ended:
        run.train_epoch()
    done = run.finish()
    return done.predictions, run.best_epoch, done.inspection


def voices_told(inspection: list[Row], name: str) -> float | None:
    """How often a linear classifier tells who speaks by a test part's embeddings, those `name`.

    Logistic regression, five parts of the test part in turn; chance is one in the voices.
    """
    if not inspection or inspection[0][name] is None:
        return None
    vectors = np.asarray([row[name] for row in inspection])
    speakers = [row["speaker"] for row in inspection]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(cross_val_score(classifier, vectors, speakers, cv=5).mean())


def cross_validate(trial: Trial, folder: Path, pool: Pool) -> Row:
    """Train all folds of a trial; its result, with UA pooled over all test utterances."""
    began = time.monotonic()
    configuration = trial.effect.configuration(trial.model, trial.seed, folder)
    prepared = prepare(configuration, Storage.open(str(folder)), lambda done, total, error: None)
    dataset = prepared.dataset
    if trial.model in trial.effect.told:
        dataset = mark_speakers(dataset)
    tasks = [(fold, dataset, configuration) for fold in prepared.folds]
    done = pool.map(train_fold, tasks, chunksize=1)
    rows = [row for predictions, _, _ in done for row in predictions]
    voices = {
        f"voice by {name}": [voices_told(inspection, name) for _, _, inspection in done]
        for name in ("embedding", "speaker_embedding")
    }
    truth, predicted = ([row[name] for row in rows] for name in ("truth", "prediction"))
    found = scores(truth, predicted, EMOTIONS)
    posteriors = [[row[f"posterior_{name}"] for name in EMOTIONS] for row in rows]
    return {
        "key": trial.key(),
        "effect": trial.effect.name,
        "model": trial.model,
        "seed": trial.seed,
        "ua": found.ua,
        "wa": found.wa,
        "recalls": found.recalls,
        "confidence": float(np.max(posteriors, axis=1).mean()),
        "epochs": [epoch for _, epoch, _ in done],
        **voices,
        "utterances": len(prepared.dataset.labels),
        "tested": len(rows),
        "seconds": round(time.monotonic() - began, 1),
    }


def verdict(difference: Interval) -> str:
    """Whether the whole interval is above 0; without one (a seed) nothing is said."""
    if math.isnan(difference.low):
        return "-"
    return "yes" if difference.low > 0 else "no"


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
        f"| model | mean UA (95 %) | recall of {', '.join(EMOTIONS)} | mean highest posterior "
        "| chosen epochs, median | hyperparameters |",
        "|---|---|---|---|---|---|",
    ]
    for model, found in rows.items():
        epochs = sorted(epoch for row in found for epoch in row["epochs"])
        lines.append(
            f"| {model} | {with_interval(fold_interval(ua[model]))} | {mean_recalls(found)} "
            f"| {np.mean([row['confidence'] for row in found]):.2f} "
            f"| {epochs[len(epochs) // 2]} | {in_words(effect.models[model])} |"
        )
    if effect.sections["folds"]["scheme"] == "random_repeated":  # the test's voices are known
        lines += voice_table(rows)
    lines += ["", "| hypothesis | mean difference (95 %) | by seed | shown |", "|---|---|---|---|"]
    for hypothesis in effect.hypotheses:
        lines.append(row_of(hypothesis, differences(hypothesis, ua)))
    if effect.control is not None:
        off = {
            model: [results[Trial(effect.control, model, seed).key()]["ua"] for seed in seeds]
            for model in effect.models
        }
        for hypothesis in effect.hypotheses:
            pairs = zip(differences(hypothesis, ua), differences(hypothesis, off), strict=True)
            name = f"{hypothesis}, more than in {effect.control.name}"
            lines.append(row_of(name, [planted - without for planted, without in pairs]))
    return "\n".join(lines) + "\n"


def row_of(hypothesis: str, by_seed: list[float]) -> str:
    """A line of the table of hypotheses."""
    difference = fold_interval(by_seed)
    shown = " ".join(f"{value:+.3f}" for value in by_seed)
    return f"| {hypothesis} | {with_interval(difference, '+')} | {shown} | {verdict(difference)} |"


def mean_recalls(rows: list[Row]) -> str:
    """Recall of each class, the mean over seeds."""
    return " ".join(f"{np.mean([row['recalls'][name] for row in rows]):.2f}" for name in EMOTIONS)


def voice_table(rows: dict[str, list[Row]]) -> list[str]:
    """Of models whose test parts have voices to tell apart: how well their embeddings tell them."""
    lines = []
    for model, found in rows.items():
        cells = []
        for name in ("embedding", "speaker_embedding"):
            told = [share for row in found for share in row[f"voice by {name}"]]
            cells.append("-" if None in told or not told else f"{np.mean(told):.3f}")
        lines.append(f"| {model} | {' | '.join(cells)} |")
    head = [
        "",
        "| model | voice told by its embedding | by its speaker embedding |",
        "|---|---|---|",
    ]
    return head + lines


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
    needed = [*effects, *(e.control for e in effects if e.control and e.control not in effects)]
    trials = [Trial(e, m, s) for s in arguments.seeds for e in needed for m in e.models]
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
    text += "\nShown: where the whole interval is above 0.\n"
    text += f"This run took {(time.monotonic() - began) / 60:.1f} min, {arguments.jobs} jobs.\n"
    (folder / "planted-effects.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
