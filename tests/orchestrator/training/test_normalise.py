"""`normalize: train`: each fold has the mean and deviation of its own training part."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from features.sets import FEATURES
from features.statistics import Statistics, normalise
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.runs import fold_run
from tests.support.training import (
    KilledError,
    cross_validated,
    in_form,
    resumed,
    trained,
    trial_files,
    with_model,
)

MODELS = ["iaan", "ssa_crnn_r", "linear_svm", "cmn"]


def configured(configuration: Configuration, model: str, normalize: str) -> Configuration:
    return with_model(configuration, model).with_values({"features.normalize": normalize})


def of_training(data: Dataset, fold: Fold) -> Statistics:
    """By definition: over all frames of the training utterances, and of no other."""
    own = [data.frames[data.offsets[row] : data.offsets[row + 1]] for row in fold.train]
    frames = np.concatenate(own).astype(np.float64)
    return Statistics(len(frames), frames.mean(axis=0), frames.std(axis=0))


def raw(model: str, dataset: Dataset, folds: list[Fold]) -> Dataset:
    """Frames whose columns have very different means, and the statistics of each fold."""
    data = in_form(model, dataset)
    shifts = 10.0 ** np.arange(data.dims)
    data = dataclasses.replace(data, frames=(data.frames * 7 + shifts).astype(np.float32))
    statistics = {fold.name: of_training(data, fold) for fold in folds}
    return dataclasses.replace(data, statistics=statistics)


@pytest.mark.parametrize("model", MODELS)
def test_training_is_that_on_z_scores_of_the_training_part(
    model: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """To the same bits, context turns included, though the shared frames are not normalised."""
    data = raw(model, dataset, folds)
    before = data.frames.copy()
    for fold in folds:
        _, mean, deviation = of_training(data, fold)
        scores = normalise(data.frames, mean, deviation).astype(np.float32)
        ready = dataclasses.replace(data, frames=scores, statistics={})
        run = fold_run(fold, data, configured(configuration, model, "train"))
        expected = fold_run(fold, ready, configured(configuration, model, "none"))
        assert trained(run, 2) == trained(expected, 2)
        assert run.finish().predictions == expected.finish().predictions
        for name, tensor in expected.best_weights.items():
            assert torch.equal(run.best_weights[f"network.{name}"], tensor)
    np.testing.assert_array_equal(data.frames, before)


@pytest.mark.parametrize("model", MODELS)
def test_statistics_travel_with_checkpoints_and_weights(
    model: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data = raw(model, dataset, folds)
    run = fold_run(folds[1], data, configured(configuration, model, "train"))
    trained(run, 1)
    again = resumed(run)
    mean = run.best_weights["mean"].numpy()
    np.testing.assert_array_equal(mean, data.statistics[folds[1].name].mean)
    for name, tensor in run.best_weights.items():
        assert torch.equal(again.best_weights[name], tensor)
    assert again.finish().predictions == run.finish().predictions


@pytest.mark.parametrize("model", ["iaan", "ssa_crnn_r"])
def test_a_killed_trial_ends_as_one_without_a_kill(
    model: str,
    tmp_path: Path,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
) -> None:
    data, config = raw(model, dataset, folds), configured(configuration, model, "train")
    cross_validated(tmp_path / "whole", data, folds, config)
    with pytest.raises(KilledError):
        cross_validated(tmp_path / "killed", data, folds, config, kill_after=2)
    cross_validated(tmp_path / "killed", data, folds, config)
    assert trial_files(tmp_path / "killed") == trial_files(tmp_path / "whole")


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_set_has_the_value(name: str) -> None:
    features = FEATURES[name].model_validate({"normalize": "train"})
    assert (features.name, features.normalize, features.group) == (name, "train", None)


@pytest.mark.parametrize("model", ["iaan", "acrnn", "linear_svm", "cmn"])
def test_a_configuration_may_name_the_value(model: str) -> None:
    raw = {
        "name": "x",
        "corpus": {"root": "m.csv", "classes": ["a", "b"]},
        "model": {"name": model},
        "features": {"normalize": "train"},
    }
    assert parse(raw).features.normalize == "train"
