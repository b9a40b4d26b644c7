import numpy as np

from features.context import ABSENT
from orchestrator.batches import Dataset, evaluation_batches, make_batch, training_batches


def test_a_batch_holds_turns_and_their_context(dataset: Dataset) -> None:
    rows = np.asarray([0, 9, 17])
    batch = make_batch(dataset, rows)
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
    assert dataset.padded(np.asarray([last])).lengths[0] == np.diff(dataset.offsets)[-1]
    nothing = dataset.padded(np.asarray([ABSENT, ABSENT]))
    assert nothing.lengths.tolist() == [0, 0]
    assert nothing.values.shape == (2, 1, dataset.dims)


def test_an_epoch_has_every_row_once_in_an_order_of_its_seed(dataset: Dataset) -> None:
    rows = np.arange(5, 40)

    def epoch(seed: int) -> list[np.ndarray]:
        return list(training_batches(dataset, rows, 16, np.random.default_rng(seed)))

    assert [len(batch) for batch in epoch(0)] == [16, 16, 3]
    assert np.array_equal(np.sort(np.concatenate(epoch(0))), rows)
    assert np.array_equal(np.concatenate(epoch(0)), np.concatenate(epoch(0)))
    assert not np.array_equal(np.concatenate(epoch(0)), np.concatenate(epoch(1)))


def test_evaluation_sorts_by_length(dataset: Dataset) -> None:
    rows = np.arange(40)
    order = np.concatenate(list(evaluation_batches(dataset, rows, 7)))
    lengths = np.diff(dataset.offsets)[order]
    assert (np.diff(lengths) >= 0).all()
    assert np.array_equal(np.sort(order), rows)
