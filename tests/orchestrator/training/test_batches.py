import dataclasses

import numpy as np

from features.context import ABSENT
from orchestrator.training.batches import Dataset, evaluation_batches, make_batch, training_batches


def test_a_batch_holds_turns_and_their_context(dataset: Dataset) -> None:
    rows = np.asarray([0, 9, 17])
    batch = make_batch(dataset, dataset.pieces(rows))
    for position, row in enumerate(rows):
        for sequences, source in (
            (batch.current, row),
            (batch.own, dataset.own[row]),
            (batch.other, dataset.other[row]),
        ):
            length = int(sequences.lengths[position])
            if source == ABSENT:
                assert length == 0
                continue
            expected = dataset.frames[dataset.offsets[source] : dataset.offsets[source + 1]]
            assert np.array_equal(sequences.values[position, :length].numpy(), expected)
            assert (sequences.values[position, length:] == 0).all()
    assert batch.labels.tolist() == dataset.labels[rows].tolist()
    assert dataset.own[0] == ABSENT  # the first turn of a dialogue: the case is covered


def test_the_last_utterance_and_a_batch_of_absent_ones(dataset: Dataset) -> None:
    last = len(dataset.labels) - 1
    assert (
        dataset.padded(dataset.pieces(np.asarray([last]))).lengths[0]
        == np.diff(dataset.offsets)[-1]
    )
    nothing = dataset.padded(dataset.whole(np.asarray([ABSENT, ABSENT])))
    assert nothing.lengths.tolist() == [0, 0]
    assert nothing.values.shape == (2, 1, dataset.dims)


def test_an_epoch_has_every_row_once_in_an_order_of_its_seed(dataset: Dataset) -> None:
    labels = dataset.labels[:35]

    def epoch(seed: int) -> list[np.ndarray]:
        return training_batches(labels, 16, False, np.random.default_rng(seed))

    assert [len(batch) for batch in epoch(0)] == [16, 16, 3]
    assert np.array_equal(np.sort(np.concatenate(epoch(0))), np.arange(35))
    assert np.array_equal(np.concatenate(epoch(0)), np.concatenate(epoch(0)))
    assert not np.array_equal(np.concatenate(epoch(0)), np.concatenate(epoch(1)))


def test_evaluation_sorts_by_length(dataset: Dataset) -> None:
    pieces = dataset.pieces(np.arange(40))
    order = np.concatenate(list(evaluation_batches(pieces, 7)))
    assert (np.diff(pieces.lengths[order]) >= 0).all()
    assert np.array_equal(np.sort(order), np.arange(40))


def test_balanced_batches_hold_as_many_of_each_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 20, 3, 33])
    batches = training_batches(labels, 12, True, np.random.default_rng(0))
    assert len(batches) == 17  # 50 of the most frequent class, three a batch
    for batch in batches:
        assert np.bincount(labels[batch], minlength=4).tolist() == [3, 3, 3, 3]
    times = np.bincount(np.concatenate(batches), minlength=len(labels))
    for name in range(4):  # each is passed as often as the others of its class, or once more
        assert np.ptp(times[labels == name]) <= 1
        assert times[labels == name].min() >= 1


def test_segments_cover_each_utterance_once_and_in_order(dataset: Dataset) -> None:
    cut = dataclasses.replace(dataset, segment=4)
    rows = np.asarray([3, 0, 11])
    pieces = cut.pieces(rows)
    for row in rows:
        mine = pieces.rows == row
        starts, lengths = pieces.starts[mine], pieces.lengths[mine]
        assert starts[0] == cut.offsets[row]
        assert np.array_equal(starts[1:], starts[:-1] + 4)
        assert (lengths[:-1] == 4).all()
        assert 1 <= lengths[-1] <= 4
        assert starts[-1] + lengths[-1] == cut.offsets[row + 1]
    assert np.array_equal(pieces.rows[np.flatnonzero(np.diff(pieces.rows, prepend=-1))], rows)
    batch = cut.padded(pieces)
    for values, start, length in zip(batch.values.numpy(), *pieces[1:], strict=True):
        assert np.array_equal(values[:length], cut.frames[start : start + length])
        assert (values[length:] == 0).all()
