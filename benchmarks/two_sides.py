"""Two ways of training the same folds in turn: what an epoch costs, and what the networks score."""

import dataclasses
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from effects import Effect, corpus_folder
from nemo_models import configuration as nemo_configuration
from planted_effects import Trial, make_corpora, read_results, with_interval
from spread import spread

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.data.prepare import Prepared, plan_folds, prepare
from orchestrator.metrics import fold_interval, scores
from orchestrator.sweep.identity import code, combined
from orchestrator.training.fold_run import Row
from orchestrator.training.gradient import GradientRun
from orchestrator.training.runs import fold_run


@dataclass(frozen=True)
class Side:
    """A way of training: values of the configuration."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A model on a corpus. `nemo` is (manifest, storage); without it, the corpus is planted."""

    name: str
    model: str
    effect: Effect | None = None
    nemo: tuple[str, str] | None = None

    def trial(self, seed: int) -> Trial:
        """Return the planted trial of a seed."""
        assert self.effect is not None
        return Trial(self.effect, self.model, seed)

    def configuration(self, seed: int, folder: Path) -> Configuration:
        """Return the configuration. A planted corpus has a seed of its own for each `seed`."""
        if self.nemo is None:
            return self.trial(seed).effect.configuration(self.model, seed, folder)
        values = nemo_configuration(self.model, "session", "speaker", *self.nemo)
        return parse(values).with_values({"training.seed": seed})

    def prepared(self, seed: int, folder: Path) -> Prepared:
        """Return the data. The features of nEMO must be in its storage (`ser extract`)."""
        if self.nemo is None:
            return self.trial(seed).prepared(folder)
        plan = plan_folds(self.configuration(seed, folder))
        return prepare(plan, Storage.open(self.nemo[1]), lambda done, total, error: None)


def make_planted(cases: list[Case], seeds: list[int], folder: Path) -> None:
    """Make the missing planted corpora of the cases, and extract their features."""
    missing = []
    for trial in (case.trial(seed) for case in cases if case.effect for seed in seeds):
        corpus = corpus_folder(trial.effect.settings(trial.seed), folder).name
        features = trial.effect.configuration(trial.model, trial.seed, folder).features.name
        marker = folder / "made" / f"{corpus}-{features}"
        if not marker.exists():
            missing.append((trial, marker))
    if missing:
        make_corpora([trial for trial, _ in missing], folder)
    for _, marker in missing:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


def epoch_seconds(
    fold: Fold, dataset: Dataset, configuration: Configuration, sides: tuple[Side, ...],
    epochs: int, device: torch.device,
) -> dict[str, list[float]]:  # fmt: skip
    """Return the seconds of training epochs of each side. The sides take turns.

    On a CPU these are CPU seconds of one thread, on a GPU wall seconds.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    runs = {}
    for side in sides:
        run = fold_run(fold, dataset, configuration.with_values(dict(side.values)), device)
        assert isinstance(run, GradientRun)
        runs[side.name] = run
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(epochs + 1):
        for side in sides if number % 2 else reversed(sides):
            run = runs[side.name]
            run.epoch = number + 1
            run.model.train()
            began = clock()
            run._train()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # the first epoch also sets things up
                seconds[side.name].append(clock() - began)
    return seconds


def speed_row(seconds: dict[str, list[float]], sides: tuple[Side, ...]) -> str:
    """Return cells: median seconds and range of each side, then the ratio of paired epochs."""
    first, second = (seconds[side.name] for side in sides)
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    cells = [spread(values, 2) for values in (first, second, ratios)]
    return " | ".join(cells)


Task = tuple[Fold, Dataset, Configuration, str]


def train_fold(task: Task) -> tuple[list[Row], float]:
    """Train a fold. Return the predictions of its test part and the CPU seconds."""
    torch.set_num_threads(1)
    fold, dataset, configuration, device = task
    began = time.process_time()
    run = fold_run(fold, dataset, configuration, torch.device(device))
    while not run.ended:
        run.train_epoch()
    return run.finish().predictions, time.process_time() - began


def key(case: Case, seed: int, side: Side, device: str) -> str:
    """Return a digest of all that decides a result, without the paths of files."""
    resolved = case.configuration(seed, Path()).with_values(dict(side.values)).resolved()
    sections = {name: resolved[name] for name in ("features", "model", "folds", "training")}
    corpus = case.trial(seed).effect.settings(seed).model_dump(mode="json") if case.effect else None
    content = [case.name, corpus, sections, side.name, device, combined(code())]
    return hashlib.sha1(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def train_sides(
    cases: list[Case], sides: tuple[Side, ...], seeds: list[int], folder: Path, jobs: int,
    device: str = "cpu",
) -> dict[str, Row]:  # fmt: skip
    """Train the missing results and append each to <folder>/two-sides.jsonl; return all by key."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "two-sides.jsonl"
    results = read_results(file)
    wanted = [(case, seed, side) for seed in seeds for case in cases for side in sides]
    missing = [each for each in wanted if key(*each, device) not in results]
    if not missing:
        return results
    make_planted([case for case, _, _ in missing], seeds, folder)
    # New processes: a fork would inherit threads of torch and pyarrow in an unknown state.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for number, (case, seed, side) in enumerate(missing, start=1):
            data = case.prepared(seed, folder)
            configuration = case.configuration(seed, folder).with_values(dict(side.values))
            tasks = [(fold, data.dataset, configuration, device) for fold in data.folds]
            done = pool.map(train_fold, tasks, chunksize=1)
            rows = [row for predictions, _ in done for row in predictions]
            truth, predicted = ([row[name] for row in rows] for name in ("truth", "prediction"))
            ua = scores(truth, predicted, data.dataset.classes).ua
            row = {
                "key": key(case, seed, side, device),
                "case": case.name,
                "seed": seed,
                "side": side.name,
                "ua": ua,
                "cpu_seconds": round(sum(seconds for _, seconds in done), 1),
            }
            results[row["key"]] = row
            with file.open("a", encoding="utf-8") as lines:
                lines.write("\n" + json.dumps(row))  # starts a new line after an incomplete one
            progress = f"{number} of {len(missing)}: {case.name}, seed {seed}, {side.name}"
            print(f"{progress}: UA {ua:.3f}", file=sys.stderr, flush=True)
    return results


def score_row(
    case: Case, sides: tuple[Side, ...], seeds: list[int], results: dict[str, Row],
    device: str = "cpu",
) -> str:  # fmt: skip
    """Return cells: mean UA of each side, then the paired difference with Student's t interval."""
    ua = [[results[key(case, seed, side, device)]["ua"] for seed in seeds] for side in sides]
    differences = [second - first for first, second in zip(*ua, strict=True)]
    cells = [f"{np.mean(values):.3f}" for values in ua]
    cells.append(with_interval(fold_interval(differences), "+"))
    cells.append(" ".join(f"{value:+.3f}" for value in differences))
    return " | ".join(cells)


def shortened(case: Case, epochs: int) -> Case:
    """Return a planted case that trains `epochs` epochs."""
    assert case.effect is not None
    training = case.effect.sections["training"] | {"epochs": epochs, "patience": epochs}
    sections = case.effect.sections | {"training": training}
    return dataclasses.replace(case, effect=dataclasses.replace(case.effect, sections=sections))
