"""Scores, predictions and best weights of one fold."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.batches import make_batch
from orchestrator.training.runs import fold_run
from tests.support.training import in_form, trained, with_model


def test_scores_equal_those_of_scikit_learn(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(folds[0], dataset, configuration)
    row = trained(run, 2)[-1]
    logits = run.predict(folds[0].validation)
    truth, predicted = dataset.labels[folds[0].validation], logits.argmax(1).numpy()
    assert row["ua"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert row["wa"] == pytest.approx(accuracy_score(truth, predicted))
    assert row["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth)).item()
    )


def test_the_best_weights_are_those_of_the_first_epoch_with_the_highest_score(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(folds[0], dataset, configuration.with_values({"training.epochs": 12}))
    rows = [row for row in trained(run, 12) if row["split"] == "validation"]
    best = max(rows, key=lambda row: row["ua"])  # the first of equal scores
    assert run.best_epoch == best["epoch"]
    run.finish()
    again = run.evaluate("validation")
    assert (again["ua"], again["loss"]) == pytest.approx((best["ua"], best["loss"]))


def test_finish_scores_the_test_part_once_with_posteriors_of_every_utterance(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(folds[0], dataset, configuration)
    assert all(row["split"] != "test" for row in trained(run, 2))
    added, predictions, *_ = run.finish()
    assert [(row["split"], row["epoch"]) for row in added] == [("test", run.best_epoch)]
    assert [p["utterance"] for p in predictions] == [dataset.ids[i] for i in sorted(folds[0].test)]
    hits = [p["truth"] == p["prediction"] for p in predictions]
    assert added[0]["wa"] == pytest.approx(np.mean(hits))
    for p in predictions:
        posteriors = {name: p[f"posterior_{name}"] for name in dataset.classes}
        assert sum(posteriors.values()) == pytest.approx(1)
        assert max(posteriors, key=posteriors.__getitem__) == p["prediction"]


def test_labels_of_the_test_part_change_its_scores_only(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    permuted = dataset.labels.copy()
    permuted[folds[0].test] = np.random.default_rng(0).permutation(permuted[folds[0].test])
    assert not np.array_equal(permuted, dataset.labels)
    run = fold_run(folds[0], dataset, configuration)
    blind = fold_run(folds[0], dataclasses.replace(dataset, labels=permuted), configuration)
    assert trained(run, 4) == trained(blind, 4)
    (test,), predictions, *_ = run.finish()
    (blind_test,), blind_predictions, *_ = blind.finish()
    assert [p["prediction"] for p in predictions] == [p["prediction"] for p in blind_predictions]
    assert test["wa"] != blind_test["wa"]


def test_the_posterior_of_an_utterance_is_the_mean_over_its_segments(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data = in_form("acrnn", dataset)
    run = fold_run(folds[0], data, with_model(configuration, "acrnn"))
    run.model.eval()
    rows = folds[0].test[::-1].copy()
    for row, posterior in zip(rows, run.predict(rows).exp(), strict=True):
        starts = range(data.offsets[row], data.offsets[row + 1], 4)  # the last one overlaps
        batch = make_batch(data, data.pieces(np.asarray([row])))
        assert len(batch.current.values) == len(starts)
        with torch.no_grad():
            segments = torch.softmax(run.model(batch.current).logits.double(), 1)
        torch.testing.assert_close(posterior, segments.mean(0), atol=1e-6, rtol=0)


def test_a_model_learns_the_speakers_of_the_training_part_only(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data, config = in_form("ssa_crnn_r", dataset), with_model(configuration, "ssa_crnn_r")
    run = fold_run(folds[0], data, config)
    training_speakers = {data.speakers[row] for row in folds[0].train}
    assert run.model.speaker_output.out_features == len(training_speakers) == 2
    for row, name in enumerate(data.speakers):
        assert (run.speaker_of[row] >= 0) == (name in training_speakers)
    # Other names for the other speakers change nothing.
    names = [n if n in training_speakers else f"x{row}" for row, n in enumerate(data.speakers)]
    renamed = fold_run(folds[0], dataclasses.replace(data, speakers=names), config)
    assert trained(renamed, 3) == trained(run, 3)


def test_predictions_have_the_classes_of_the_previous_turns(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(folds[0], dataset, with_model(configuration, "bigru_att"))
    run.train_epoch()
    seen = set()
    for prediction in run.finish().predictions:
        row = dataset.ids.index(prediction["utterance"])
        for key, turns in (("own_previous", dataset.own), ("other_previous", dataset.other)):
            turn = turns.newest[row]
            label = dataset.labels[turn] if turn >= 0 else -1
            expected = dataset.classes[label] if label >= 0 else None
            assert prediction[key] == expected
            seen.add(expected)
    assert None in seen
    assert len(seen) > 2
