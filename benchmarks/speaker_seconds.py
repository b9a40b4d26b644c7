"""UA on nEMO against the seconds of a new speaker's audio from which the statistics come.

    python benchmarks/speaker_seconds.py NEMO/manifest.csv [STORAGE] [--draws 5]

Trains two models with `normalize: speaker`, leaving one speaker out, and labels all utterances of
this speaker. The statistics of the speaker come from the first seconds of these utterances in a
random order. Each draw has another order. The ways to use the statistics are:

- the rule of `orchestrator.inference.speakers`, which shrinks them towards a typical speaker,
- own statistics alone, whatever their seconds,
- the typical training speaker alone.

The last table has the rule with other constants. UA is the mean over the speakers, in per cent. A
number after ± is half of the 95 % t interval over the draws. The difference has a t interval over
the speakers. One thread, and about 2 minutes of CPU time after the features are extracted.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from nemo_models import EXAMPLE

from features import audio
from features.recordings import Recordings
from features.signal import SAMPLE_RATE
from features.statistics import Statistics
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.data.prepare import plan_folds, prepare
from orchestrator.inference import speakers as rule
from orchestrator.inference.model import Description, Member, SpeechModel
from orchestrator.inference.predict import Utterance, log_posteriors
from orchestrator.inference.speakers import SpeakerStatistics
from orchestrator.metrics import fold_interval, scores
from orchestrator.training.runs import fold_run

SEED = 0
SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, math.inf)
FACTORS = (0.5, 1.0, 2.0)
"""By which the rule's constants, in seconds and in utterances, are multiplied."""
SHORTEST = 0.1
"""Seconds of the last piece of a draw. A shorter rest is left out."""
TRAINING = {"epochs": 10, "patience": 4, "learning_rate": 3e-3, "batch_size": 32}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear_svm": ({}, {}),
    "bigru_att": ({"hidden_size": 32, "attention_size": 32, "dropout": 0.3}, TRAINING),
}
OWN = 1e-9
"""The factor with which all statistics are used as they are."""
WAYS = (*FACTORS, OWN, math.inf)
"""The last one is the typical speaker alone."""
Known = Mapping[str, SpeakerStatistics]


class Corpus:
    """nEMO as one model reads it.

    utterances : by id, with features as extracted
    """

    def __init__(self, model: str, manifest: str, storage: str) -> None:
        self.config = configuration(model, manifest, storage, "speaker")
        as_extracted = configuration(model, manifest, storage, "none")
        if "pool" in type(as_extracted.features).model_fields:
            as_extracted = as_extracted.with_values({"features.pool": 1})
        plans = [plan_folds(config) for config in (self.config, as_extracted)]
        prepared, raw = (prepare(plan, Storage.open(storage), lambda *_: None) for plan in plans)
        self.data, self.folds = prepared.dataset, prepared.folds
        table = plans[0].corpus.manifest.table
        self.files = dict(zip(table["id"].to_pylist(), table["file"].to_pylist(), strict=True))
        self.recordings = Recordings.open(str(Path(manifest).parent))
        parts = np.split(raw.dataset.frames, raw.dataset.offsets[1:-1])
        self.utterances = {
            name: Utterance(values, len(self.samples(name)) / SAMPLE_RATE, speaker, name)
            for name, values, speaker in zip(self.data.ids, parts, self.data.speakers, strict=True)
        }

    def samples(self, name: str) -> npt.NDArray[np.float32]:
        """Return the samples of an utterance at 16 kHz."""
        file = audio.fetch(self.recordings, self.files[name])
        return audio.decode(file, None, None)


def configuration(model: str, manifest: str, storage: str, normalize: str) -> Configuration:
    """Return the configuration of a model."""
    sizes, training = MODELS[model]
    corpus = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["corpus"]
    return parse(
        {
            "name": f"speaker-seconds-{model}",
            "storage": storage,
            "corpus": corpus | {"root": manifest},
            "model": {"name": model, **sizes},
            "features": {"normalize": normalize},
            "folds": {"scheme": "leave_one_speaker_out", "selection": "validation"},
            "training": {"seed": SEED, **training},
        }
    )


def statistics_of(utterances: list[Utterance]) -> SpeakerStatistics:
    """Return the statistics of whole utterances."""
    seconds = sum(utterance.seconds for utterance in utterances)
    return rule.speaker_statistics([utterance.values for utterance in utterances], seconds)


def trained(
    fold: Fold, data: Dataset, config: Configuration, known: Mapping[str, Statistics]
) -> SpeechModel:
    """Train the network of a fold in this process.

    known : speaker -> statistics of all utterances
    """
    run = fold_run(fold, data, config)
    while not run.ended:
        run.train_epoch()
    speakers = sorted({data.speakers[row] for row in fold.train})
    sections = config.model, config.features
    described = Description(config.name, "0" * 10, *sections, data.classes, SEED)
    network = described.network(len(speakers))
    network.load_state_dict(run.best_weights)
    prior = rule.typical([known[name] for name in speakers])
    members = {fold.name: Member(network, len(speakers))}
    return SpeechModel(described, members, lambda: {fold.name: prior}).eval()


@dataclass(frozen=True)
class Speaker:
    """A new speaker, and the model that the other speakers trained."""

    model: SpeechModel
    utterances: list[Utterance]
    labels: npt.NDArray[np.int64]

    def ua(self, utterances: list[Utterance], known: Known) -> float:
        """Return the UA of all utterances with these statistics."""
        predicted = log_posteriors(self.model, utterances, known).argmax(axis=1)
        return scores(self.labels, predicted, range(len(self.model.classes))).ua

    @cached_property
    def with_typical(self) -> float:
        """UA with the typical training speaker alone."""
        any_statistics = statistics_of(self.utterances[:1])
        known = {self.utterances[0].speaker: any_statistics._replace(seconds=0.0)}
        return self.ua(self.utterances, known)

    def by_way(self, utterances: list[Utterance], known: Known) -> list[float]:
        """Return the UA of each of `WAYS` to use the statistics `known`."""
        vectors = self.model.description.features.load().shape == "vector"
        done: dict[tuple[float, ...], float] = {}  # ways with equal weights have equal UA
        found = []
        for way in (*FACTORS, OWN):
            used = {name: weighed(statistics, way) for name, statistics in known.items()}
            weights = tuple(statistics.weight(vectors) for statistics in used.values())
            if weights not in done:
                done[weights] = self.ua(utterances, used)
            found.append(done[weights])
        return [*found, self.with_typical]

    def alone(self) -> list[float]:
        """Return the UA if each utterance is a speaker of its own."""
        apart = [replace(utterance, speaker=utterance.id) for utterance in self.utterances]
        return self.by_way(apart, {each.id: statistics_of([each]) for each in apart})


def weighed(statistics: SpeakerStatistics, factor: float) -> SpeakerStatistics:
    """Return statistics to which the rule gives the weight of other constants."""
    seconds, utterances = statistics.seconds / factor, statistics.utterances / factor
    return statistics._replace(seconds=seconds, utterances=utterances)


def drawn(
    speaker: Speaker, corpus: Corpus, seconds: float, order: npt.NDArray[np.int64]
) -> SpeakerStatistics:
    """Return the statistics of the first `seconds` of a speaker's utterances in this order."""
    values, left = [], seconds
    for row in order:
        utterance = speaker.utterances[row]
        if utterance.seconds <= left:
            values.append(utterance.values)
        else:
            samples = corpus.samples(utterance.id)[: round(left * SAMPLE_RATE)]
            values.append(speaker.model.extract(samples, SAMPLE_RATE))
        left -= utterance.seconds
        if left < SHORTEST:
            break
    given = min(seconds, sum(utterance.seconds for utterance in speaker.utterances))
    return rule.speaker_statistics(values, given)


def measured(
    model: str, manifest: str, storage: str, draws: int
) -> Iterator[tuple[float | None, list[list[float]]]]:
    """Train a model for each speaker. Yield seconds (None: the utterance itself) and their UA.

    UA has the shape (draws, ways).
    """
    corpus = Corpus(model, manifest, storage)
    said: dict[str, list[Utterance]] = {}
    for utterance in corpus.utterances.values():
        said.setdefault(utterance.speaker, []).append(utterance)
    known = {name: statistics_of(utterances).own for name, utterances in said.items()}
    for number, fold in enumerate(corpus.folds):
        rows = np.sort(fold.test)
        utterances = [corpus.utterances[corpus.data.ids[row]] for row in rows]
        speaker = Speaker(
            trained(fold, corpus.data, corpus.config, known), utterances, corpus.data.labels[rows]
        )
        yield None, [speaker.alone()]
        orders = [
            np.random.default_rng([SEED, number, draw]).permutation(len(rows))
            for draw in range(draws)
        ]
        (name,) = {utterance.speaker for utterance in utterances}
        for seconds in SECONDS:
            chosen = orders if seconds < math.inf else orders[:1]  # all audio has no draws
            yield (
                seconds,
                [
                    speaker.by_way(utterances, {name: drawn(speaker, corpus, seconds, order)})
                    for order in chosen
                ],
            )


Table = dict[float | None, npt.NDArray[np.float64]]
"""Seconds -> UA in per cent, (speakers, draws, ways)."""


def cell(values: npt.NDArray[np.float64]) -> str:
    """Return the mean of UA, (speakers, draws), with its interval over the draws."""
    mean, _, high = fold_interval(values.mean(axis=0))
    return f"{mean:.1f}" if math.isnan(high) else f"{mean:.1f} ± {high - mean:.1f}"


def label(seconds: float | None) -> str:
    """Return the name of a row."""
    if seconds is None:
        return "the utterance itself"
    return "all" if seconds == math.inf else f"{seconds:g} s"


def show(model: str, table: Table) -> None:
    """Print the two tables of a model."""
    now, own, typical = (WAYS.index(way) for way in (1.0, OWN, math.inf))
    titles = ["the rule", "own statistics", "typical speaker", "the rule minus own statistics"]
    print(f"\n| audio of the speaker, `{model}` | {' | '.join(titles)} |\n|---|---|---|---|---|")
    for seconds, values in table.items():
        cells = [cell(values[:, :, now]), cell(values[:, :, own]), cell(values[:, :1, typical])]
        mean, low, high = fold_interval((values[:, :, now] - values[:, :, own]).mean(axis=1))
        cells.append(f"{mean:+.1f} ({low:+.1f} to {high:+.1f})")
        print(f"| {label(seconds)} | {' | '.join(cells)} |")
    constants = [f"{factor * rule.ENOUGH:g} s" for factor in FACTORS]
    print(f"\n| audio of the speaker, `{model}` | {' | '.join(constants)} |")
    print("|---" * (len(FACTORS) + 1) + "|")
    for seconds, values in table.items():
        cells = [cell(values[:, :, way]) for way in range(len(FACTORS))]
        print(f"| {label(seconds)} | {' | '.join(cells)} |")
    sys.stdout.flush()


def main(manifest: str, storage: str, draws: int) -> None:
    """Train, measure and print the tables of each model."""
    torch.set_num_threads(1)
    for model in MODELS:
        found: dict[float | None, list[list[list[float]]]] = {}
        for seconds, ua in measured(model, manifest, storage, draws):
            found.setdefault(seconds, []).append(ua)
        show(model, {seconds: 100 * np.asarray(values) for seconds, values in found.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest")
    parser.add_argument("storage", nargs="?", default="runs")
    parser.add_argument("--draws", type=int, default=5, help="random orders of the utterances")
    main(**vars(parser.parse_args()))
