"""Every registered model as a fold run."""

import pytest
import torch

from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.runs import fold_run
from ser_models import MODELS
from tests.support.training import in_form, resumed, trained, with_model


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_to_the_same_bits_with_and_without_an_interruption(
    name: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data, config = in_form(name, dataset), with_model(configuration, name)
    straight = fold_run(folds[0], data, config)
    rows = trained(straight, 3)
    assert straight.ended
    interrupted = fold_run(folds[0], data, config)
    first_rows = trained(interrupted, 1)
    second = resumed(interrupted)
    assert first_rows + trained(second, 2) == rows
    assert straight.finish() == second.finish()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in MODELS if not MODELS[name].fitted])
def test_every_network_trains_and_resumes_on_a_gpu(
    name: str, precision: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data, config = in_form(name, dataset), with_model(configuration, name, precision=precision)
    first = fold_run(folds[0], data, config, torch.device("cuda"))
    first.train_epoch()
    second = resumed(first)
    losses = [run.train_epoch()[-1]["loss"] for run in (first, second)]
    assert losses[1] == pytest.approx(losses[0], 1e-3)
    assert second.finish().predictions
