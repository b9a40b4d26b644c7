"""The optimisers against the classes of torch, bit for bit."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from orchestrator.training.optimizers import Kind, Optimizer

CLASSES = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam}


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def groups(module: nn.Module, decay: float) -> list[tuple[list[Tensor], float]]:
    parameters = list(module.parameters())
    return [(parameters[:1], 0.0), (parameters[1:], decay)]


def steps(module: nn.Module, optimizer: Optimizer | torch.optim.Optimizer, first: int) -> None:
    for number in range(first, first + 5):
        torch.manual_seed(number)
        module.zero_grad(set_to_none=False)
        (module(torch.randn(4, 5)) ** 3).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["adam", "nadam"])
@pytest.mark.parametrize(("rate", "decay"), [(1e-3, 0.0), (3e-2, 1e-3), (0.5, 0.7)])
def test_the_steps_are_those_of_torch(kind: Kind, rate: float, decay: float) -> None:
    """Both classes couple the decay (L2), as the papers do, and beta1 is 0.9."""
    ours, theirs = network(0), network(0)
    optimizer = Optimizer(kind, groups(ours, decay), rate)
    reference = CLASSES[kind](
        [{"params": part, "weight_decay": own} for part, own in groups(theirs, decay)],
        lr=rate,
        betas=(0.9, 0.999),
        decoupled_weight_decay=False,
    )
    steps(ours, optimizer, 0)
    steps(theirs, reference, 0)
    for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, expected)
    states = reference.state_dict()["state"]
    for number, state in enumerate(optimizer.state):
        assert state.keys() == states[number].keys()
        assert all(torch.equal(value, states[number][name]) for name, value in state.items())


@pytest.mark.parametrize("kind", ["adam", "nadam"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_loaded_state_continues_to_the_same_bits(kind: Kind, seed: int) -> None:
    module = network(seed)
    optimizer = Optimizer(kind, groups(module, 0.1), 0.01)
    steps(module, optimizer, 0)
    other = copy.deepcopy(module)
    loaded = Optimizer(kind, groups(other, 0.1), 0.01)
    loaded.load(optimizer.state)
    steps(module, optimizer, 5)
    steps(other, loaded, 5)
    for mine, expected in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, expected)


def test_a_worker_imports_neither_dynamo_nor_scikit_learn() -> None:
    """Both take seconds. The script trains an epoch of a fold as a worker does."""
    script = """
import sys
import numpy as np
from features.context import Turns
from orchestrator.config.parsing import parse
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.runs import fold_run

labels, turns, unknown = np.arange(12) % 2, Turns.none(12), np.full((2, 12), -1)
offsets = np.arange(13) * 4
names = [str(row) for row in range(12)]
frames = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)
dataset = Dataset(
    frames, offsets, None, labels, turns, turns, unknown, names, names, ("a", "b"),
)
parts = np.split(np.arange(12), 3)
for optimizer in ("adam", "nadam"):
    configuration = parse({
        "name": "toy", "corpus": {"root": "nowhere.csv", "classes": ["a", "b"]},
        "model": {"name": "iaan", "hidden_size": 4, "attention_size": 4},
        "training": {"epochs": 1, "batch_size": 4, "optimizer": optimizer},
    })
    run = fold_run(Fold("0", *parts), dataset, configuration)
    run.train_epoch()
    run.finish()
print([name for name in ("torch._dynamo", "sklearn") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.strip() == "[]"
