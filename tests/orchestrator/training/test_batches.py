"""Batches of training and of evaluation."""

import numpy as np

from features.context import ABSENT
from orchestrator.data.dataset import Dataset
from orchestrator.training.batches import (
    balanced_weights,
    evaluation_batches,
    make_batch,
    training_batches,
)


def test_a_batch_holds_turns_and_their_context(dataset: Dataset) -> None:
    rows = np.asarray([0, 9, 17])
    batch = make_batch(dataset, dataset.pieces(rows))
    for position, row in enumerate(rows):
        for sequences, source in (
            (batch.current, row),
            (batch.own, dataset.own.newest[row]),
            (batch.other, dataset.other.newest[row]),
        ):
            length = int(sequences.lengths[position])
            if source == ABSENT:
                assert length == 0
                continue
            expected = dataset.frames[dataset.offsets[source] : dataset.offsets[source + 1]]
            assert np.array_equal(sequences.values[position, :length].numpy(), expected)
            assert (sequences.values[position, length:] == 0).all()
    assert batch.labels.tolist() == dataset.labels[rows].tolist()
    assert (
        dataset.own.newest[0] == ABSENT
    )  # the first turn of a dialogue, so the absent case is tested


def test_a_pass_has_every_row_once_in_an_order_that_the_seed_decides() -> None:
    labels = np.arange(35) % 4

    def one_pass(seed: int) -> list[np.ndarray]:
        return training_batches(labels, 16, False, np.random.default_rng(seed))

    assert [len(batch) for batch in one_pass(0)] == [16, 16, 3]
    assert np.array_equal(np.sort(np.concatenate(one_pass(0))), np.arange(35))
    assert np.array_equal(np.concatenate(one_pass(0)), np.concatenate(one_pass(0)))
    assert not np.array_equal(np.concatenate(one_pass(0)), np.concatenate(one_pass(1)))


def test_evaluation_sorts_by_length(dataset: Dataset) -> None:
    pieces = dataset.pieces(np.arange(40))
    order = np.concatenate(list(evaluation_batches(pieces, 7)))
    assert (np.diff(pieces.lengths[order]) >= 0).all()
    assert np.array_equal(np.sort(order), np.arange(40))


def test_balanced_batches_have_the_same_number_of_each_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 20, 3, 33])
    batches = training_batches(labels, 12, True, np.random.default_rng(0))
    assert len(batches) == 17  # three of the 50 pieces of the most frequent class in each batch
    for batch in batches:
        assert np.bincount(labels[batch], minlength=4).tolist() == [3, 3, 3, 3]
    times = np.bincount(np.concatenate(batches), minlength=len(labels))
    for name in range(4):  # pieces of the same class repeat equally often, or once more
        assert np.ptp(times[labels == name]) <= 1
        assert times[labels == name].min() >= 1


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([2, 0, 3, 1], [50, 20, 3, 33])
    weights = balanced_weights(labels, 4)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-7)
    assert weights.numpy()[labels].mean() == np.float32(1)
