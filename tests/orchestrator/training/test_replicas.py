"""Two replicas of a fold in two processes, without Ray."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.fold_run import Replica
from orchestrator.training.gradient import GradientRun
from orchestrator.training.runs import fold_run
from tests.support.training import in_form, with_model

EPOCHS, SIZE = 2, 2


def train_replica(
    index: int, folder: Path, fold: Fold, dataset: Dataset, configuration: dict[str, Any]
) -> None:
    """Train a replica; write its state, and what it passed to `after_step`."""
    from orchestrator.config.parsing import parse

    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=index, world_size=SIZE)
    group = dist.new_group(list(range(SIZE)))
    run = fold_run(fold, dataset, parse(configuration), replica=Replica(index, SIZE, group))
    steps: list[tuple[torch.Tensor, ...]] = []
    own: list[torch.Tensor] = []
    update = run.model.after_step

    def noted(embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        steps.append((embeddings.clone(), labels))
        update(embeddings, labels)

    def note(module: Any, inputs: Any, output: Any) -> None:
        if module.training:
            own.append(output.embedding.detach().clone())

    run.model.after_step = noted  # type: ignore[method-assign]
    run.model.register_forward_hook(note)
    for _ in range(EPOCHS):
        run.train_epoch()
    torch.save((run.model.state_dict(), steps, own), folder / f"{index}.pt")
    dist.destroy_process_group()


def test_replicas_have_the_same_centres_from_the_whole_batch(
    tmp_path: Path,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last batch of a pass may be too small for both: it has one piece here."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    data = in_form("adrnn", dataset)
    alone = fold_run(folds[0], data, with_model(configuration, "adrnn"))
    assert isinstance(alone, GradientRun)
    count = len(alone.pieces.rows)
    size = next(size for size in range(8, count) if count % size == 1)
    training = {"balanced_batches": False, "class_weights": "balanced"}
    config = with_model(configuration, "adrnn", batch_size=size, **training)
    given = (tmp_path, folds[0], data, config.resolved())
    processes.spawn(train_replica, given, nprocs=SIZE, join=True)
    states, steps, own = zip(
        *(torch.load(tmp_path / f"{index}.pt", weights_only=True) for index in range(SIZE)),
        strict=True,
    )
    assert len(steps[0]) == len(steps[1]) == EPOCHS * -(-count // size)
    for (x, labels), (same_x, same_labels) in zip(*steps, strict=True):
        assert torch.equal(x, same_x)
        assert torch.equal(labels, same_labels)
    assert torch.equal(states[0]["centers"], states[1]["centers"])

    reference = fold_run(folds[0], data, config)
    assert isinstance(reference, GradientRun)
    centers = np.zeros(states[0]["centers"].shape)
    used, step = [0, 0], 0
    for reference.epoch in range(1, EPOCHS + 1):
        for batch in reference._batches():
            x, labels = (part.numpy() for part in steps[0][step])
            rows = reference.pieces.rows[batch]
            np.testing.assert_array_equal(labels, data.labels[rows])
            for index in range(SIZE):
                if index < len(batch):  # otherwise this replica has no piece
                    np.testing.assert_array_equal(x[index::SIZE], own[index][used[index]].numpy())
                    used[index] += 1
            for name in range(len(centers)):
                mine = x[labels == name].astype(np.float64)
                centers[name] -= 0.5 * (centers[name] - mine).sum(0) / (1 + len(mine))
            step += 1
    np.testing.assert_allclose(states[0]["centers"].numpy(), centers, atol=1e-5)
    assert np.abs(centers).max() > 1e-3
