"""A corpus in memory: three sessions of two speakers, four classes that a small model can learn."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from features.context import previous_turns
from features.manifest import normalise
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold, make_folds
from tests.support.small_sweep import Sweep, Sweeps, small_sweep
from tests.support.sweeps import give_features

torch.set_num_threads(1)  # as in a worker on a CPU: the order of sums changes the results

CLASSES = ("ang", "hap", "neu", "sad")
SESSIONS, TURNS = 3, 32
DIMS = 6


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    return parse(
        {
            "name": "toy",
            "corpus": {"root": "nowhere.csv", "classes": list(CLASSES)},
            "model": {"name": "iaan", "hidden_size": 8, "attention_size": 8, "dropout": 0.2},
            "training": {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "patience": 4},
        }
    )


@pytest.fixture(scope="session")
def table() -> pa.Table:
    rows = [
        {
            "file": f"s{session}_{turn:03d}.wav",
            "speaker": f"s{session}{'ab'[turn % 2]}",
            "session": f"s{session}",
            "dialogue": f"s{session}d{turn // 8}",
            "turn": turn,
            "emotion": (*CLASSES, "xxx")[(turn * 7 + turn // 5 + session) % 5],
        }
        for session in range(SESSIONS)
        for turn in range(TURNS)
    ]
    return normalise(pa.Table.from_pylist(rows))


@pytest.fixture(scope="session")
def dataset(table: pa.Table) -> Dataset:
    generator = np.random.default_rng(0)
    emotions = table["emotion"].to_pylist()
    labels = np.asarray([CLASSES.index(e) if e in CLASSES else -1 for e in emotions])
    lengths = generator.integers(3, 12, size=len(labels))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    means = generator.normal(size=(len(CLASSES) + 1, DIMS))
    frames = generator.normal(size=(offsets[-1], DIMS)) + np.repeat(means[labels], lengths, axis=0)
    own, other = previous_turns(*(table[c].to_pylist() for c in ("speaker", "dialogue", "turn")))
    return Dataset(
        frames.astype(np.float32),
        offsets.astype(np.int64),
        None,
        labels.astype(np.int64),
        own,
        other,
        np.append(labels, -1)[np.stack([own.newest, other.newest])],
        table["id"].to_pylist(),
        table["speaker"].to_pylist(),
        CLASSES,
        picture=slice(0, 1),
    )


@pytest.fixture(scope="session")
def folds(table: pa.Table, dataset: Dataset, configuration: Configuration) -> list[Fold]:
    return make_folds(table, dataset.labels, CLASSES, configuration.folds)


@pytest.fixture(scope="session")
def sweeps(tmp_path_factory: pytest.TempPathFactory, spoken: Path, spoken_features: Path) -> Sweeps:
    """A small sweep of each model on `spoken`, trained when it is first asked for."""
    storage, made = tmp_path_factory.mktemp("sweeps"), dict[str, Sweep]()
    give_features(spoken_features, storage)

    def sweep(model: str) -> Sweep:
        if model not in made:
            made[model] = small_sweep(storage, spoken, model)
        return made[model]

    return sweep
