"""Do the models find the effects that the demo corpus plants, and only if they are planted?

    python benchmarks/planted_effects.py [--jobs 2] [--seeds 0 1 2 3 4] [--effects contagion ...]
        [--models iaan ...]

An effect is a corpus, a fold scheme, models with one configuration each, and hypotheses about
pairs of models. Each seed gives a new corpus, and seeds the training too. All models of an effect
use the same corpora and folds, so differences are paired: intervals are Student's t over the
differences of pooled UA for each seed. If an effect has a control, the same seeds also give corpora
without the effect. The tables then also show how much larger the differences are with the effect.

The benchmark appends each result to <folder>/results.jsonl. The same command resumes after an
interruption. It prints the tables and writes them to <folder>/planted-effects.md.
"""

import argparse
import hashlib
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
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
from told_speakers import train_speaker_first

from features.corpora.demo import EMOTIONS, make_demo_corpus
from features.storage import Storage
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.data.prepare import Prepared, plan_folds, prepare
from orchestrator.metrics import Interval, fold_interval, scores
from orchestrator.sweep.identity import code, combined
from orchestrator.training.fold_run import Row
from orchestrator.training.runs import fold_run


@dataclass(frozen=True)
class Trial:
    """One model of an effect on one seed's corpus."""

    effect: Effect
    model: str
    seed: int

    def key(self) -> str:
        """Return a digest of everything that decides the result, without the paths of files."""
        settings = self.effect.settings(self.seed)
        resolved = self.effect.configuration(self.model, self.seed, Path()).resolved()
        sections = {name: resolved[name] for name in ("features", "model", "folds", "training")}
        told = self.model in self.effect.told, self.effect.speaker_first.get(self.model, 0)
        content = [settings.model_dump(mode="json"), sections, told, combined(code())]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha1(text.encode()).hexdigest()[:16]

    def prepared(self, folder: Path) -> Prepared:
        """Return the data. The corpus must exist; missing features are extracted."""
        plan = plan_folds(self.effect.configuration(self.model, self.seed, folder))
        return prepare(plan, Storage.open(str(folder)), lambda done, total, error: None)


def differences(hypothesis: str, ua: dict[str, list[float]]) -> list[float]:
    """Return the first UA of `a > b` minus the second, for each seed."""
    first, second = hypothesis.split(" > ")
    return [a - b for a, b in zip(ua[first], ua[second], strict=True)]


def read_results(file: Path) -> dict[str, Row]:
    """Return the results by key. Skip an incomplete line, which an interrupted run leaves."""
    results = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        results[row["key"]] = row
    return results


def make_corpora(trials: Iterable[Trial], folder: Path) -> None:
    """Make the corpora of the trials and extract their features."""
    first = {corpus_folder(t.effect.settings(t.seed), folder): t for t in trials}
    for number, (root, trial) in enumerate(first.items(), start=1):
        began = time.monotonic()
        make_demo_corpus(str(root), trial.effect.settings(trial.seed))
        trial.prepared(folder)
        report(f"corpus {number} of {len(first)}: {time.monotonic() - began:.0f} s")


Task = tuple[Fold, Dataset, Configuration, int]


def train_fold(task: Task) -> tuple[list[Row], int, list[Row]]:
    """Train a fold. Return the test part's predictions, the selected epoch and the embeddings."""
    torch.set_num_threads(1)
    fold, dataset, configuration, speaker_first = task
    run = fold_run(fold, dataset, configuration)
    if speaker_first:
        train_speaker_first(run, speaker_first)
    while not run.ended:
        run.train_epoch()
    done = run.finish()
    return done.predictions, run.best_epoch, done.inspection


def speaker_recognition(inspection: list[Row], name: str) -> float | None:
    """Accuracy of a linear classifier that recognises the speakers of a test part.

    inspection : one row for each utterance, as in inspection.parquet
    name : the column of the embeddings
    returns : accuracy of logistic regression, cross-validated five times inside the test part;
        None if the model has no such embeddings. Chance is 1 / number of speakers
    """
    if not inspection or inspection[0][name] is None:
        return None
    vectors = np.asarray([row[name] for row in inspection])
    speakers = [row["speaker"] for row in inspection]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(cross_val_score(classifier, vectors, speakers, cv=5).mean())


def cross_validate(trial: Trial, folder: Path, pool: Pool) -> Row:
    """Train all folds of a trial. Return its scores, pooled over all test utterances."""
    began = time.monotonic()
    configuration = trial.effect.configuration(trial.model, trial.seed, folder)
    prepared = trial.prepared(folder)
    dataset = prepared.dataset
    if trial.model in trial.effect.told:
        dataset = trial.effect.told[trial.model](dataset)
    first = trial.effect.speaker_first.get(trial.model, 0)
    tasks = [(fold, dataset, configuration, first) for fold in prepared.folds]
    done = pool.map(train_fold, tasks, chunksize=1)
    rows = [row for predictions, _, _ in done for row in predictions]
    recognition = {
        f"speaker by {name}": [speaker_recognition(inspection, name) for _, _, inspection in done]
        for name in ("embedding", "speaker_embedding")
    }
    truth, predicted = ([row[name] for row in rows] for name in ("truth", "prediction"))
    pooled = scores(truth, predicted, EMOTIONS)
    posteriors = [[row[f"posterior_{name}"] for name in EMOTIONS] for row in rows]
    return {
        "key": trial.key(),
        "effect": trial.effect.name,
        "model": trial.model,
        "seed": trial.seed,
        "ua": pooled.ua,
        "wa": pooled.wa,
        "recalls": pooled.recalls,
        "confidence": float(np.max(posteriors, axis=1).mean()),
        "epochs": [epoch for _, epoch, _ in done],
        **recognition,
        "utterances": len(prepared.dataset.labels),
        "tested": len(rows),
        "seconds": round(time.monotonic() - began, 1),
    }


def verdict(difference: Interval) -> str:
    """Return whether the whole interval is above 0; "-" if there is no interval (one seed)."""
    if math.isnan(difference.low):
        return "-"
    return "yes" if difference.low > 0 else "no"


def in_words(values: dict[str, Any]) -> str:
    """Return settings as text for the tables."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def with_interval(interval: Interval, sign: str = "") -> str:
    """Return a value and its bounds as text for the tables. One seed has no bounds."""
    value, low, high = (format(number, f"{sign}.3f") for number in interval)
    return value if math.isnan(interval.low) else f"{value} ({low} to {high})"


def tables(effect: Effect, seeds: list[int], results: dict[str, Row]) -> str:
    """Return an effect in Markdown: the mean UA of each model, then the hypotheses."""
    rows = {m: [results[Trial(effect, m, s).key()] for s in seeds] for m in effect.models}
    ua = {model: [row["ua"] for row in group] for model, group in rows.items()}
    example = next(iter(rows.values()))[0]
    seconds = sum(row["seconds"] for group in rows.values() for row in group)
    corpus = effect.corpus.model_dump(exclude={"seed"})
    lines = [
        f"## {effect.name}",
        "",
        f"Corpus: {in_words(corpus)}; {example['utterances']:,} utterances at seed {seeds[0]}, "
        f"{example['tested']:,} of them tested. "
        + " ".join(f"{key.capitalize()}: {in_words(v)}." for key, v in effect.sections.items() if v)
        + f" Seeds {', '.join(map(str, seeds))}; the trials took {seconds / 60:.0f} min.",
        "",
        f"| model | mean UA (95 %) | recall of {', '.join(EMOTIONS)} | mean highest posterior "
        "| selected epochs, median | hyperparameters |",
        "|---|---|---|---|---|---|",
    ]
    for model, group in rows.items():
        epochs = sorted(epoch for row in group for epoch in row["epochs"])
        lines.append(
            f"| {model} | {with_interval(fold_interval(ua[model]))} | {mean_recalls(group)} "
            f"| {np.mean([row['confidence'] for row in group]):.2f} "
            f"| {epochs[len(epochs) // 2]} "
            f"| {in_words(effect.models[model] | effect.training.get(model, {}))} |"
        )
    if effect.sections["folds"]["scheme"] == "random_repeated":  # training has all speakers
        lines += speaker_table(rows)
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
    """Return a row of the table of hypotheses."""
    difference = fold_interval(by_seed)
    shown = " ".join(f"{value:+.3f}" for value in by_seed)
    return f"| {hypothesis} | {with_interval(difference, '+')} | {shown} | {verdict(difference)} |"


def mean_recalls(rows: list[Row]) -> str:
    """Return the recall of each class, averaged over seeds, as text."""
    return " ".join(f"{np.mean([row['recalls'][name] for row in rows]):.2f}" for name in EMOTIONS)


def speaker_table(rows: dict[str, list[Row]]) -> list[str]:
    """Return a table of how well the embeddings of each model identify the speakers."""
    lines = [
        "",
        "| model | speaker recognised by embedding | by speaker embedding |",
        "|---|---|---|",
    ]
    for model, group in rows.items():
        cells = []
        for name in ("embedding", "speaker_embedding"):
            shares = [share for row in group for share in row[f"speaker by {name}"]]
            cells.append("-" if None in shares or not shares else f"{np.mean(shares):.3f}")
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return lines


def report(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Train the missing models, then print and write the tables."""
    parser = argparse.ArgumentParser()
    names = [effect.name for effect in EFFECTS]
    parser.add_argument("--effects", nargs="+", choices=names, default=names)
    parser.add_argument("--models", nargs="+", help="labels of models; by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="folds to train at the same time")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    arguments = parser.parse_args()
    began = time.monotonic()
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    effects = [effect for effect in EFFECTS if effect.name in arguments.effects]
    if arguments.models:
        try:
            effects = [effect.only(arguments.models) for effect in effects]
        except ValueError as error:
            parser.error(str(error))
    needed = [*effects, *(e.control for e in effects if e.control and e.control not in effects)]
    trials = [Trial(e, m, s) for s in arguments.seeds for e in needed for m in e.models]
    file = folder / "results.jsonl"
    results = read_results(file)
    missing = [trial for trial in trials if trial.key() not in results]
    if missing:
        make_corpora(missing, folder)
        # New processes: a fork would inherit threads of torch and pyarrow in an unknown state.
        with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
            for number, trial in enumerate(missing, start=1):
                row = results[trial.key()] = cross_validate(trial, folder, pool)
                with file.open("a", encoding="utf-8") as lines:
                    lines.write("\n" + json.dumps(row))  # starts a new line after an incomplete one
                report(
                    f"{number} of {len(missing)}: {trial.effect.name}, seed {trial.seed}, "
                    f"{trial.model}: UA {row['ua']:.3f} ({row['seconds']:.0f} s)"
                )
    text = "\n".join(tables(effect, arguments.seeds, results) for effect in effects)
    text += "\nShown: whether the whole interval is above 0.\n"
    text += f"This run took {(time.monotonic() - began) / 60:.1f} min, {arguments.jobs} jobs.\n"
    (folder / "planted-effects.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
