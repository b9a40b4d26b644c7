import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from orchestrator.training.batches import Dataset, make_batch
from orchestrator.config.sections import Configuration
from orchestrator.training.fold_run import FoldRun, TrainingError, derived_seed, seeded
from orchestrator.data.folds import Fold
from orchestrator.training.gradient import fold_run

CPU = torch.device("cpu")


def epochs(run: FoldRun, count: int) -> list[dict[str, object]]:
    return [row for _ in range(count) for row in run.train_epoch()]


def test_a_fold_learns(dataset: Dataset, folds: list[Fold], configuration: Configuration) -> None:
    run = fold_run(folds[0], dataset, configuration.with_values({"training.epochs": 30}))
    rows = epochs(run, 15)
    assert max(row["ua"] for row in rows if row["split"] == "validation") > 0.6  # chance is 0.25
    assert rows[-2]["loss"] < rows[0]["loss"]


def test_an_epoch_depends_on_seed_fold_and_epoch_alone(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    alone = epochs(fold_run(folds[1], dataset, configuration), 3)
    torch.manual_seed(123)  # whatever state the process is in
    first, second = (fold_run(fold, dataset, configuration) for fold in folds[:2])
    interleaved = [row for _ in range(3) for run in (first, second) for row in run.train_epoch()]
    assert [row for row in interleaved if row["fold"] == folds[1].name] == alone
    other = configuration.with_values({"training.seed": 1})
    assert epochs(fold_run(folds[1], dataset, other), 3) != alone


def test_training_leaves_the_process_generators_alone(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    before = torch.get_rng_state()
    fold_run(folds[0], dataset, configuration).train_epoch()
    assert torch.equal(before, torch.get_rng_state())


def test_state_goes_on_to_the_same_bits(
    dataset: Dataset, folds: list[Fold], configuration: Configuration, tmp_path: object
) -> None:
    straight = fold_run(folds[0], dataset, configuration)
    expected = epochs(straight, 4)
    run = fold_run(folds[0], dataset, configuration)
    epochs(run, 2)
    path = tmp_path / "state.pt"
    torch.save(run.state(), path)
    resumed = fold_run(folds[0], dataset, configuration)
    resumed.load_state(torch.load(path, weights_only=True))
    assert epochs(resumed, 2) == expected[4:]
    assert resumed.best_epoch == straight.best_epoch
    for name, tensor in straight.best_weights.items():
        assert torch.equal(tensor, resumed.best_weights[name])


def test_scores_are_scikit_learns(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(folds[0], dataset, configuration)
    row = epochs(run, 2)[-1]
    logits = run.predict(folds[0].validation)
    truth, predicted = dataset.labels[folds[0].validation], logits.argmax(1).numpy()
    assert row["ua"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert row["wa"] == pytest.approx(accuracy_score(truth, predicted))
    assert row["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth)).item()
    )


def test_the_selected_weights_are_those_of_the_best_epoch(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(folds[0], dataset, configuration.with_values({"training.epochs": 12}))
    rows = [row for row in epochs(run, 12) if row["split"] == "validation"]
    best = max(rows, key=lambda row: row["ua"])  # the first of equals
    assert run.best_epoch == best["epoch"]
    run.finish()
    again = run.evaluate("validation")
    assert (again["ua"], again["loss"]) == pytest.approx((best["ua"], best["loss"]))


def test_finish_scores_the_test_part_once_with_posteriors_of_every_utterance(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(folds[0], dataset, configuration)
    assert all(row["split"] != "test" for row in epochs(run, 2))
    added, predictions, _ = run.finish()
    assert [(row["split"], row["epoch"]) for row in added] == [("test", run.best_epoch)]
    assert [p["utterance"] for p in predictions] == [dataset.ids[i] for i in sorted(folds[0].test)]
    hits = [p["truth"] == p["prediction"] for p in predictions]
    assert added[0]["wa"] == pytest.approx(np.mean(hits))
    for p in predictions:
        posteriors = {name: p[f"posterior_{name}"] for name in dataset.classes}
        assert sum(posteriors.values()) == pytest.approx(1)
        assert max(posteriors, key=posteriors.__getitem__) == p["prediction"]


def test_labels_of_the_test_part_change_nothing_but_its_scores(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    permuted = dataset.labels.copy()
    permuted[folds[0].test] = np.random.default_rng(0).permutation(permuted[folds[0].test])
    assert not np.array_equal(permuted, dataset.labels)
    honest = fold_run(folds[0], dataset, configuration)
    blind = fold_run(folds[0], dataclasses.replace(dataset, labels=permuted), configuration)
    assert epochs(honest, 4) == epochs(blind, 4)
    (test,), predictions, _ = honest.finish()
    (other_test,), other_predictions, _ = blind.finish()
    assert [p["prediction"] for p in predictions] == [p["prediction"] for p in other_predictions]
    assert test["wa"] != other_test["wa"]


def test_weight_decay_reaches_the_projections_only(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """With a decay that drowns the gradient, only the projections' weights change otherwise."""

    def after_one_step(decay: float) -> dict[str, torch.Tensor]:
        changed = configuration.with_values(
            {"training.weight_decay": decay, "training.batch_size": 1000}
        )
        run = fold_run(folds[0], dataset, changed)
        run.train_epoch()
        return run.model.state_dict()

    plain, decayed = after_one_step(0.0), after_one_step(1e6)
    different = {name for name in plain if not torch.equal(plain[name], decayed[name])}
    assert different == {"projection.weight", "output.weight"}


def test_smoothed_labels_share_a_tenth_among_all_classes(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """The gradient is that of 0.9 of the label and 0.1 / C of each class, written out."""
    smooth = configuration.with_values(
        {"training.label_smoothing": 0.1, "training.batch_size": 1000, "model.dropout": 0.0}
    )
    run, other = (fold_run(folds[0], dataset, smooth) for _ in range(2))
    pieces = run.pieces.take(np.arange(20))
    run._backward(pieces, 20)
    batch = make_batch(dataset, pieces)
    output = other.model(batch.current, batch.own, batch.other)
    logarithms = torch.log_softmax(output.logits, dim=1)
    count = len(dataset.classes)
    truth = torch.nn.functional.one_hot(batch.labels, count).float()
    loss = -((0.9 * truth + 0.1 / count) * logarithms).sum(1).mean()
    loss.backward()
    for mine, expected in zip(run.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)


def test_patience_ends_a_fold(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    hopeless = configuration.with_values(
        {"training.learning_rate": 1e-12, "training.epochs": 50, "training.patience": 3}
    )
    run = fold_run(folds[0], dataset, hopeless)
    while not run.ended:
        run.train_epoch()
    assert run.epoch == run.best_epoch + 3 < 50


def test_numbers_that_are_not_finite_name_fold_epoch_and_remedy(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    frames = dataset.frames.copy()
    frames[dataset.offsets[folds[0].train[0]]] = np.nan
    run = fold_run(folds[0], replace(dataset, frames=frames), configuration)
    with pytest.raises(TrainingError, match=r"fold s0, epoch 1: .*training.learning_rate"):
        run.train_epoch()


def test_seeds_differ_by_what_they_are_for() -> None:
    seeds = {derived_seed(*parts) for parts in [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1)]}
    assert len(seeds) == 4
    assert derived_seed(0, "a", 1) == derived_seed(0, "a", 1)
    with seeded(CPU, "x"):
        first = torch.rand(3)
    with seeded(CPU, "x"):
        assert torch.equal(first, torch.rand(3))
