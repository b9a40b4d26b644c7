"""Models that are fitted in one step."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.fold_run import TrainingError
from orchestrator.training.runs import fold_run
from tests.support.training import in_form, trained, with_model


def test_the_support_vector_machine_predicts_as_in_scikit_learn(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data = in_form("linear_svm", dataset)
    run = fold_run(folds[0], data, with_model(configuration, "linear_svm"))
    assert [row["split"] for row in trained(run, 5)] == ["train", "validation"]
    train, test = folds[0].train, np.sort(folds[0].test)
    machine = make_pipeline(StandardScaler(), LinearSVC(C=0.001, class_weight="balanced"))
    machine.fit(data.frames[train].astype(np.float64), data.labels[train])
    predicted = machine.predict(data.frames[test].astype(np.float64))
    rows, predictions, *_ = run.finish()
    assert [data.classes.index(p["prediction"]) for p in predictions] == predicted.tolist()
    expected = recall_score(data.labels[test], predicted, average="macro")
    assert rows[0]["ua"] == pytest.approx(expected)


def test_a_training_part_without_a_class_raises(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data = in_form("linear_svm", dataset)
    fold = dataclasses.replace(folds[0], train=folds[0].train[data.labels[folds[0].train] != 3])
    run = fold_run(fold, data, with_model(configuration, "linear_svm"))
    with pytest.raises(TrainingError, match=r"fold s0: .*\[0, 1, 2\]"):
        run.train_epoch()
