"""Training by gradient descent."""

import dataclasses

import numpy as np
import pytest
import torch

from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.batches import make_batch
from orchestrator.training.fold_run import Replica, TrainingError
from orchestrator.training.gradient import GradientRun
from orchestrator.training.runs import fold_run
from tests.support.training import in_form, resumed, trained, with_model


def gradient_run(fold: Fold, dataset: Dataset, configuration: Configuration) -> GradientRun:
    run = fold_run(fold, dataset, configuration)
    assert isinstance(run, GradientRun)
    return run


def test_a_fold_learns(dataset: Dataset, folds: list[Fold], configuration: Configuration) -> None:
    run = fold_run(folds[0], dataset, configuration.with_values({"training.epochs": 30}))
    rows = trained(run, 15)
    assert max(row["ua"] for row in rows if row["split"] == "validation") > 0.6  # chance is 0.25
    assert rows[-2]["loss"] < rows[0]["loss"]


@pytest.mark.parametrize("name", ["iaan", "adrnn"])
def test_an_epoch_depends_on_seed_fold_and_epoch_alone(
    name: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data, config = in_form(name, dataset), with_model(configuration, name)
    alone = trained(fold_run(folds[1], data, config), 3)
    torch.manual_seed(123)  # the state of the process does not matter
    first, second = (fold_run(fold, data, config) for fold in folds[:2])
    interleaved = [row for _ in range(3) for run in (first, second) for row in run.train_epoch()]
    assert [row for row in interleaved if row["fold"] == folds[1].name] == alone
    other = config.with_values({"training.seed": 1})
    assert trained(fold_run(folds[1], data, other), 3) != alone


def test_scores_and_predictions_do_not_move_the_centres(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(folds[0], in_form("adrnn", dataset), with_model(configuration, "adrnn"))
    assert not run.model.centers.any()
    run.train_epoch()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert before["centers"].any(dim=1).all()  # each class has moved
    run.evaluate("validation")
    run.finish()
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_training_restores_the_generator_of_the_process(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    before = torch.get_rng_state()
    fold_run(folds[0], dataset, configuration).train_epoch()
    assert torch.equal(before, torch.get_rng_state())


def test_a_resumed_fold_trains_to_the_same_bits(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    straight = fold_run(folds[0], dataset, configuration)
    expected = trained(straight, 4)
    run = fold_run(folds[0], dataset, configuration)
    trained(run, 2)
    second = resumed(run)
    assert trained(second, 2) == expected[4:]
    assert second.best_epoch == straight.best_epoch
    for name, tensor in straight.state().tensors.items():
        assert torch.equal(tensor, second.state().tensors[name])


def test_weight_decay_applies_to_the_projections_only(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """A decay larger than any gradient changes only the two projections, with their biases."""

    def after_one_step(decay: float) -> dict[str, torch.Tensor]:
        changed = configuration.with_values(
            {"training.weight_decay": decay, "training.batch_size": 1000}
        )
        run = fold_run(folds[0], dataset, changed)
        run.train_epoch()
        return run.model.state_dict()

    plain, decayed = after_one_step(0.0), after_one_step(1e6)
    different = {name for name in plain if not torch.equal(plain[name], decayed[name])}
    layers = ("projection", "output")
    assert different == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


def test_the_first_step_of_iaan_adds_the_decay_to_the_gradients_of_the_projections(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """Adam's first step is rate * g / (|g| + 1e-8), for g = gradient + decay * value (L2)."""
    rate, decay = 0.013, 0.7
    config = configuration.with_values(
        {"training.weight_decay": decay, "training.learning_rate": rate}
    )
    run = gradient_run(folds[0], dataset, config)
    before = {name: p.detach().numpy().copy() for name, p in run.model.named_parameters()}
    run.model.train()
    run._step(run.pieces.take(np.arange(16)))
    for name, parameter in run.model.named_parameters():
        projection = name.split(".")[0] in ("projection", "output")
        gradient = parameter.grad.numpy() + (decay * before[name] if projection else 0)
        expected = before[name] - rate * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(parameter.detach().numpy(), expected, atol=1e-6, err_msg=name)


def test_smoothed_labels_share_a_tenth_among_all_classes(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """The target is 0.9 of the label and 0.1 / C of each class, here written out."""
    smooth = configuration.with_values(
        {"training.label_smoothing": 0.1, "training.batch_size": 1000, "model.dropout": 0.0}
    )
    run, other = (gradient_run(folds[0], dataset, smooth) for _ in range(2))
    pieces = run.pieces.take(np.arange(20))
    run._backward(pieces, pieces)
    batch = make_batch(dataset, pieces)
    output = other.model(batch.current, batch.own, batch.other)
    logarithms = torch.log_softmax(output.logits, dim=1)
    count = len(dataset.classes)
    truth = torch.nn.functional.one_hot(batch.labels, count).float()
    loss = -((0.9 * truth + 0.1 / count) * logarithms).sum(1).mean()
    loss.backward()
    for mine, expected in zip(run.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)


@pytest.mark.parametrize("name", ["iaan", "ssa_crnn_r"])
def test_class_weights_make_the_loss_the_weighted_mean_of_the_batch(
    name: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """The weights are scikit-learn's, from the pieces of the training part alone."""
    from sklearn.utils.class_weight import compute_class_weight

    data, plain = in_form(name, dataset), with_model(configuration, name, balanced_batches=False)
    values = {"training.label_smoothing": 0.1, "model.dropout": 0.0}
    config = plain.with_values(values | {"training.class_weights": "balanced"})
    run, other = (gradient_run(folds[0], data, config) for _ in range(2))
    # Ten pieces of the first class and two of the others: the batch is not like the training part.
    labels = data.labels[run.pieces.rows]
    chosen = [np.flatnonzero(labels == c)[: 10 if c == 0 else 2] for c in range(4)]
    pieces = run.pieces.take(np.concatenate(chosen))
    run._backward(pieces, pieces)
    batch = make_batch(data, pieces)
    output = other.model(batch.current, batch.own, batch.other)
    weights = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    assert np.ptp(weights) > 0.1
    weight = torch.from_numpy(weights).float()
    loss = torch.nn.functional.cross_entropy(
        output.logits, batch.labels, weight, label_smoothing=0.1
    )
    speakers = torch.from_numpy(other.speaker_of[pieces.rows])
    extra = other.model.extra_loss(output, batch.labels, speakers)  # has no weights
    if extra is not None:
        loss = loss + extra / len(pieces.rows) + output.penalty
    loss.backward()
    for mine, expected in zip(run.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_the_gradients_of_replicas_sum_to_the_gradient_of_one_process(
    weights: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    """Shares of 7 and 6 pieces, with other shares of the classes."""
    values = {"training.class_weights": weights, "model.dropout": 0.0}
    alone, shared = (
        gradient_run(folds[0], dataset, configuration.with_values(values)) for _ in range(2)
    )
    batch = alone.pieces.take(np.arange(13))
    alone._backward(batch, batch)
    for index in range(2):  # a second share adds its gradients, as the sum over replicas does
        shared._backward(batch.take(np.arange(index, 13, 2)), batch)
    for mine, expected in zip(shared.model.parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)


def test_patience_ends_a_fold(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    hopeless = configuration.with_values(
        {"training.learning_rate": 1e-12, "training.epochs": 50, "training.patience": 3}
    )
    run = fold_run(folds[0], dataset, hopeless)
    trained(run, 50)
    assert run.epoch == run.best_epoch + 3 < 50


def test_outputs_that_are_not_finite_raise_with_fold_epoch_and_remedy(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    frames = dataset.frames.copy()
    frames[dataset.offsets[folds[0].train[0]]] = np.nan
    run = fold_run(folds[0], dataclasses.replace(dataset, frames=frames), configuration)
    message = r"fold s0, epoch 1: .*smaller training.learning_rate \(now 0.01\)"
    with pytest.raises(TrainingError, match=message):
        run.train_epoch()


@pytest.mark.parametrize(("name", "kind"), [("iaan", "adam"), ("ssa_crnn_r", "nadam")])
def test_optimisers_are_those_of_the_papers(
    name: str, kind: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = gradient_run(folds[0], in_form(name, dataset), with_model(configuration, name))
    assert run.optimizer.kind == kind
    assert run.optimizer.learning_rate == 0.01


def test_the_speaker_loss_and_the_penalty_are_part_of_the_gradient(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data, config = in_form("ssa_crnn_r", dataset), with_model(configuration, "ssa_crnn_r")

    def gradients(**changed: object) -> dict[str, torch.Tensor]:
        values = {f"model.{key}": value for key, value in changed.items()}
        run = gradient_run(folds[0], data, config.with_values(values))
        run.model.train()
        pieces = run.pieces.take(np.arange(12))
        run._backward(pieces, pieces)
        return {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}

    plain = gradients(speaker_weight=0.0, regularizer="penalty", regularizer_weight=0.0)
    assert (plain["speaker_output.weight"] == 0).all()
    twice, once = gradients(speaker_weight=2.0), gradients(speaker_weight=1.0)
    torch.testing.assert_close(twice["speaker_output.weight"], 2 * once["speaker_output.weight"])
    assert once["speaker_output.weight"].abs().sum() > 0
    penalised = gradients(speaker_weight=0.0, regularizer="penalty", regularizer_weight=0.5)
    changed = {name for name in plain if not torch.allclose(plain[name], penalised[name])}
    assert changed == {"output.linear.weight"}


def test_the_local_losses_of_mdnn_are_part_of_the_gradient(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data = in_form("mdnn", dataset)
    config = with_model(configuration, "mdnn").with_values({"model.dropout": 0.0})
    run, other = (gradient_run(folds[0], data, config) for _ in range(2))
    pieces = run.pieces.take(np.arange(20))
    run._backward(pieces, pieces)
    batch = make_batch(data, pieces)
    output = other.model(batch.current)
    assert output.parts.shape == (20, 6, len(data.classes))
    loss = torch.nn.functional.cross_entropy(output.logits, batch.labels)
    for group in range(6):
        loss += torch.nn.functional.cross_entropy(output.parts[:, group], batch.labels) / 6
    loss.backward()
    for mine, expected in zip(run.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad)


def test_an_epoch_of_steps_continues_the_pass_of_the_epoch_before(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    passes = gradient_run(folds[0], dataset, configuration)
    steps = gradient_run(folds[0], dataset, configuration.with_values({"training.epoch_steps": 3}))

    def batches(run: GradientRun, epochs: int) -> list[list[int]]:
        drawn = []
        for run.epoch in range(1, epochs + 1):
            drawn += [batch.tolist() for batch in run._batches()]
        return drawn

    three_passes = batches(passes, 3)
    assert len(three_passes) == 3 * 2  # so an epoch of three steps crosses the end of a pass
    assert batches(steps, 2) == three_passes


@pytest.mark.parametrize("name", ["iaan", "ssa_crnn_r"])
@pytest.mark.parametrize("steps", [None, 1, 5])
def test_replicas_draw_the_same_batches(
    name: str,
    steps: int | None,
    dataset: Dataset,
    folds: list[Fold],
    configuration: Configuration,
) -> None:
    config = with_model(configuration, name, epoch_steps=steps)
    data = in_form(name, dataset)
    drawn = []
    for replica in (Replica(), Replica(0, 2), Replica(1, 2)):
        run = fold_run(folds[1], data, config, replica=replica)
        assert isinstance(run, GradientRun)
        torch.manual_seed(replica.index)  # the state of the process does not matter
        drawn.append([])
        for run.epoch in (3, 1, 2):  # a resumed fold starts at any epoch
            drawn[-1].append([batch.tolist() for batch in run._batches()])
    assert drawn[0] == drawn[1] == drawn[2]
    assert drawn[0][0] != drawn[0][1] != drawn[0][2]


@pytest.mark.parametrize("name", ["iaan", "bilstm_att", "ssa_crnn_r", "adrnn", "mdnn"])
def test_bfloat16_trains_and_scores_in_float32(
    name: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data = in_form(name, dataset)
    posteriors = []
    for precision in ("float32", "bfloat16"):
        run = fold_run(folds[0], data, with_model(configuration, name, precision=precision))
        run.train_epoch()
        assert all(tensor.dtype != torch.bfloat16 for tensor in run.model.state_dict().values())
        posteriors.append(run.predict(folds[0].test).exp())
    difference = (posteriors[0] - posteriors[1]).abs().max()
    assert 0 < difference < 0.1
