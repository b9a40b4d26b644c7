"""States of folds as bytes."""

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.fold_run import FoldRun
from orchestrator.training.runs import fold_run
from orchestrator.training.state import Progress, State, StateError, pack_state, unpack_state
from tests.support.training import Touch, in_form, with_model


@pytest.fixture
def run(dataset: Dataset, folds: list[Fold], configuration: Configuration) -> FoldRun:
    """A fold of IAAN after one epoch."""
    run = fold_run(folds[0], dataset, configuration)
    run.train_epoch()
    return run


@pytest.mark.parametrize("score", [1 / 3, 0.1 + 0.2, 1.0, -math.inf])
def test_a_state_returns_from_bytes_unchanged(score: float) -> None:
    tensors = {
        "model.w": torch.randn(3, 4).t(),  # not contiguous
        "model.count": torch.tensor(5),
        "best.w": torch.zeros(0, 2, dtype=torch.bfloat16),
    }
    progress = Progress(epoch=3, best_epoch=2, best_score=score)
    read = unpack_state(pack_state(State(progress, tensors)), tensors)
    assert read.progress == progress
    assert read.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read.tensors[name].dtype == tensor.dtype
        assert torch.equal(read.tensors[name], tensor)
    assert read.part("model").keys() == {"w", "count"}


def test_a_state_names_weights_best_weights_and_moments(run: FoldRun) -> None:
    progress, tensors = run.state()
    assert (progress.epoch, progress.best_epoch) == (1, 1)
    assert progress.best_score == run.best_score
    weights = run.model.state_dict().keys()
    count = len(list(run.model.parameters()))
    assert tensors.keys() == {
        *(f"{part}.{name}" for part in ("model", "best") for name in weights),
        *(f"optimizer.{i}.{k}" for i in range(count) for k in ("step", "exp_avg", "exp_avg_sq")),
    }
    assert run.templates().keys() == tensors.keys()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04", id="zip"),
        pytest.param(b"text" * 9, id="text"),
        pytest.param(bytes(5000), id="zeros"),
        pytest.param(save({"model.w": torch.zeros(1)}), id="no metadata"),
        pytest.param(save({}, {"progress": "3"}), id="other metadata"),
        pytest.param(save({}, {"progress": '{"epoch": 3}'}), id="incomplete metadata"),
    ],
)
def test_bytes_that_are_not_a_state_raise(data: bytes) -> None:
    with pytest.raises(StateError, match="not the state of a fold: "):
        unpack_state(data, {"model.w": torch.zeros(1)})


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    planted = pickle.dumps(Touch(tmp_path / "touched"))
    with pytest.raises(StateError, match="not the state of a fold: "):
        unpack_state(planted, {})
    assert not (tmp_path / "touched").exists()
    pickle.loads(planted)  # noqa: S301  (proves that the pickle works)
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        pytest.param("iaan", {"model.hidden_size": 10}, r"float32 \(.*\), not ", id="sizes"),
        pytest.param("bilstm_att", {}, "only one of the two has ", id="model"),
        pytest.param("iaan", {"training.optimizer": "nadam"}, "mu_product", id="optimiser"),
        pytest.param("linear_svm", {}, "only one of the two has ", id="no optimiser"),
    ],
)
def test_a_state_of_another_configuration_raises(
    run: FoldRun, model: str, changes: dict[str, Any], reason: str
) -> None:
    config = with_model(run.config, model).with_values(changes)
    other = fold_run(run.fold, in_form(model, run.dataset), config)
    with pytest.raises(StateError, match=f"the state of another model: .*{reason}"):
        unpack_state(pack_state(run.state()), other.templates())


def test_a_state_with_another_type_raises(run: FoldRun) -> None:
    progress, tensors = run.state()
    tensors["model.output.bias"] = tensors["model.output.bias"].half()
    with pytest.raises(StateError, match=r"model\.output\.bias is float16 \(4,\), not float32"):
        unpack_state(pack_state(State(progress, tensors)), run.templates())
