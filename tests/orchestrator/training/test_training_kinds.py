"""The ways of training beside plain Adam: segments, speakers, balance, steps, a fitted model."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from features.storage import Storage
from orchestrator.training.batches import Dataset, make_batch
from orchestrator.config.sections import Configuration, parse
from orchestrator.training.cross_validation import Task, cross_validate
from orchestrator.training.fold_run import FoldRun, TrainingError
from orchestrator.data.folds import Fold
from orchestrator.ledger.ledger import Ledger, TrialRecord
from orchestrator.training.gradient import GradientRun, fold_run
from ser_models import MODELS

SMALL = {
    "first_maps": 2,
    "maps": 3,
    "conv_layers": 1,
    "linear_size": 5,
    "hidden_size": 4,
    "embedding_size": 6,
}
SIZES = {
    "iaan": {"hidden_size": 8, "attention_size": 8},
    "bilstm_att": {"dense_size": 8, "hidden_size": 4},
    "linear_svm": {},
}


@pytest.fixture
def configured(configuration: Configuration) -> Callable[..., Configuration]:
    def make(name: str, **training: object) -> Configuration:
        raw = configuration.resolved()
        raw["model"] = {"name": name, **SIZES.get(name, SMALL if "crnn" in name else SIZES["iaan"])}
        raw["features"] = {"name": MODELS[name].features}
        raw["training"] = {"seed": 0}
        if name != "linear_svm":
            raw["training"] |= {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, **training}
        return parse(raw)

    return make


@pytest.mark.parametrize(("name", "kind"), [("iaan", "Adam"), ("ssa_crnn_r", "NAdam")])
def test_optimisers_are_those_of_the_papers(
    name: str,
    kind: str,
    dataset: Dataset,
    folds: list[Fold],
    configured: Callable[..., Configuration],
) -> None:
    """Adam for IAAN, Adam with Nesterov's momentum for SSA-CRNN, beta1 0.9; decay is coupled L2."""
    run = fold_run(folds[0], of(name, dataset), configured(name))
    assert type(run.optimizer).__name__ == kind
    for group in run.optimizer.param_groups:
        assert group["betas"][0] == 0.9
        assert not group["decoupled_weight_decay"]


def of(name: str, dataset: Dataset) -> Dataset:
    """The toy corpus in the form that a model reads: segments of four frames, or one frame each."""
    if name == "linear_svm":
        means = [part.mean(0) for part in np.split(dataset.frames, dataset.offsets[1:-1])]
        offsets = np.arange(len(means) + 1)
        return dataclasses.replace(dataset, frames=np.stack(means), offsets=offsets)
    return dataclasses.replace(dataset, segment=4) if "crnn" in name else dataset


def whole(run: FoldRun) -> list[dict[str, object]]:
    rows = []
    while not run.ended:
        rows += run.train_epoch()
    return rows


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_to_the_same_bits_with_and_without_an_interruption(
    name: str, dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    data, config = of(name, dataset), configured(name)
    straight = fold_run(folds[0], data, config)
    rows = whole(straight)
    first = fold_run(folds[0], data, config)
    before = first.train_epoch()
    second = fold_run(folds[0], data, config)
    second.load_state(first.state())
    assert before + whole(second) == rows
    assert straight.finish() == second.finish()


@pytest.mark.parametrize("name", ["iaan", "ssa_crnn_r", "linear_svm"])
def test_a_trial_of_any_kind_leaves_the_same_files(
    name: str,
    dataset: Dataset,
    folds: list[Fold],
    configured: Callable[..., Configuration],
    tmp_path: Path,
) -> None:
    data, config = of(name, dataset), configured(name)
    ledger = Ledger(Storage.open(str(tmp_path)))
    record = TrialRecord(
        id="0123456789", number=0, model=name, status="complete", hyperparameters={}, seed=0
    )
    task = Task(record, [fold.name for fold in folds], {}, checkpoint_every=0)
    reported: list[dict[str, object]] = []
    done = cross_validate(
        task, [fold_run(fold, data, config) for fold in folds], ledger, reported.append
    )
    assert done.status == "complete"
    assert len(reported) == config.training.last_epoch
    assert {"fold", "utterance", "truth", "prediction"} < set(
        ledger.predictions("0123456789").column_names
    )
    weights = load_file(tmp_path / f"trials/0123456789/fold-{folds[0].name}.safetensors")
    again = fold_run(folds[0], data, config)
    again.model.load_state_dict(weights)
    saved = [
        row for row in ledger.predictions("0123456789").to_pylist() if row["fold"] == folds[0].name
    ]
    np.testing.assert_array_equal(
        again.predict(np.sort(folds[0].test)).exp().numpy(),
        [[row[f"posterior_{c}"] for c in data.classes] for row in saved],
    )


def test_an_utterances_posterior_is_the_mean_over_its_segments(
    dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    data = of("acrnn", dataset)
    run = fold_run(folds[0], data, configured("acrnn"))
    run.model.eval()
    rows = folds[0].test[::-1].copy()
    found = run.predict(rows).exp()
    for row, posterior in zip(rows, found, strict=True):
        starts = range(data.offsets[row], data.offsets[row + 1], 4)
        batch = make_batch(data, data.pieces(np.asarray([row])))
        assert len(batch.current.values) == len(starts)
        with torch.no_grad():
            each = torch.softmax(run.model(batch.current).logits.double(), 1)
        torch.testing.assert_close(posterior, each.mean(0), atol=1e-6, rtol=0)


def test_speakers_are_learned_from_the_training_part_alone(
    dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    data, config = of("ssa_crnn_r", dataset), configured("ssa_crnn_r")
    run = fold_run(folds[0], data, config)
    trained = {data.speakers[row] for row in folds[0].train}
    assert run.model.speaker_output.out_features == len(trained) == 2
    for row, name in enumerate(data.speakers):
        assert (run.speaker_of[row] >= 0) == (name in trained)
    # Names of test speakers changed: nothing of what is trained or predicted may change.
    others = [name if name in trained else f"x{row}" for row, name in enumerate(data.speakers)]
    renamed = fold_run(folds[0], dataclasses.replace(data, speakers=others), config)
    assert whole(renamed) == whole(run)


def test_the_speaker_loss_and_the_penalty_are_part_of_the_gradient(
    dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    data, config = of("ssa_crnn_r", dataset), configured("ssa_crnn_r")

    def gradients(**changed: object) -> dict[str, torch.Tensor]:
        values = {f"model.{key}": value for key, value in changed.items()}
        run = fold_run(folds[0], data, config.with_values(values))
        assert isinstance(run, GradientRun)
        run.model.train()
        run._backward(run.pieces.take(np.arange(12)), 12)
        return {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}

    plain = gradients(speaker_weight=0.0, regularizer="penalty", regularizer_weight=0.0)
    assert (plain["speaker_output.weight"] == 0).all()
    twice, once = gradients(speaker_weight=2.0), gradients(speaker_weight=1.0)
    torch.testing.assert_close(twice["speaker_output.weight"], 2 * once["speaker_output.weight"])
    assert once["speaker_output.weight"].abs().sum() > 0
    penalised = gradients(speaker_weight=0.0, regularizer="penalty", regularizer_weight=0.5)
    moved = {name for name in plain if not torch.allclose(plain[name], penalised[name])}
    assert moved == {"output.linear.weight"}


def test_an_epoch_of_steps_continues_the_passes_where_the_last_one_ended(
    dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    passes = fold_run(folds[0], dataset, configured("iaan"))
    steps = fold_run(folds[0], dataset, configured("iaan", epoch_steps=3))
    assert isinstance(passes, GradientRun)
    assert isinstance(steps, GradientRun)

    def drawn(run: GradientRun, epochs: int) -> list[list[int]]:
        found = []
        for run.epoch in range(1, epochs + 1):
            found += [batch.tolist() for batch in run._batches()]
        return found

    whole_passes = drawn(passes, 3)
    per_pass = len(whole_passes) // 3
    assert per_pass == 2  # so that an epoch of three steps crosses the end of a pass
    assert drawn(steps, 2) == whole_passes


@pytest.mark.parametrize("name", ["iaan", "bilstm_att", "ssa_crnn_r"])
def test_bfloat16_trains_and_scores_in_float(
    name: str, dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    data = of(name, dataset)
    full = fold_run(folds[0], data, configured(name))
    half = fold_run(folds[0], data, configured(name, precision="bfloat16"))
    for run in (full, half):
        run.train_epoch()
    assert all(tensor.dtype != torch.bfloat16 for tensor in half.model.state_dict().values())
    difference = (half.predict(folds[0].test).exp() - full.predict(folds[0].test).exp()).abs().max()
    assert 0 < difference < 0.1


def test_the_support_vector_machine_is_scikit_learns(
    dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    data = of("linear_svm", dataset)
    run = fold_run(folds[0], data, configured("linear_svm"))
    assert [row["split"] for row in whole(run)] == ["train", "validation"]
    train, test = folds[0].train, np.sort(folds[0].test)
    machine = make_pipeline(StandardScaler(), LinearSVC(C=0.001, class_weight="balanced"))
    machine.fit(data.frames[train].astype(np.float64), data.labels[train])
    predicted = machine.predict(data.frames[test].astype(np.float64))
    rows, predictions, _ = run.finish()
    assert [data.classes.index(p["prediction"]) for p in predictions] == predicted.tolist()
    expected = recall_score(data.labels[test], predicted, average="macro")
    assert rows[0]["ua"] == pytest.approx(expected)


def test_a_class_that_nobody_trains_is_named(
    dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    data = of("linear_svm", dataset)
    without = folds[0].train[data.labels[folds[0].train] != 3]
    run = fold_run(dataclasses.replace(folds[0], train=without), data, configured("linear_svm"))
    with pytest.raises(TrainingError, match=r"fold s0: .*\[0, 1, 2\]"):
        run.train_epoch()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "linear_svm"])
def test_every_network_trains_and_resumes_on_a_gpu(
    name: str,
    precision: str,
    dataset: Dataset,
    folds: list[Fold],
    configured: Callable[..., Configuration],
) -> None:
    data, config = of(name, dataset), configured(name, precision=precision)
    device = torch.device("cuda")
    first = fold_run(folds[0], data, config, device)
    first.train_epoch()
    second = fold_run(folds[0], data, config, device)
    second.load_state(first.state())
    assert second.train_epoch()[-1]["loss"] == pytest.approx(first.train_epoch()[-1]["loss"], 1e-3)
    assert second.finish().predictions


def test_predictions_tell_the_classes_of_the_turns_before(
    dataset: Dataset, folds: list[Fold], configured: Callable[..., Configuration]
) -> None:
    run = fold_run(folds[0], dataset, configured("bigru_att"))
    run.train_epoch()
    _, predictions, _ = run.finish()
    seen = set()
    for prediction in predictions:
        row = dataset.ids.index(prediction["utterance"])
        for key, rows in (("own_previous", dataset.own), ("other_previous", dataset.other)):
            label = dataset.labels[rows[row]] if rows[row] >= 0 else -1
            expected = dataset.classes[label] if label >= 0 else None
            assert prediction[key] == expected
            seen.add(expected)
    assert None in seen
    assert len(seen) > 2
