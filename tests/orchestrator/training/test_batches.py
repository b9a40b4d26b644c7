"""Batches of training and of evaluation."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.context import ABSENT
from orchestrator.data.dataset import Dataset
from orchestrator.training.batches import (
    GROUP,
    evaluation_batches,
    longest_turns,
    make_batch,
    training_batches,
)

PASSES = [
    pytest.param([40, 30, 30, 20], 12, id="small"),
    pytest.param([300, 290, 310, 280], 40, id="even classes"),
    pytest.param([500, 60, 21, 10], 40, id="rare classes"),
    pytest.param([65, 64], 8, id="a batch more than two groups"),
]
"""Pieces of each class, and pieces of a batch."""


def made(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and lengths of pieces: each class has lengths of its own."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    return labels, generator.integers(20, 200, len(labels)) + 20 * labels


def padded_frames(batches: list[np.ndarray], lengths: np.ndarray) -> int:
    return sum(len(batch) * lengths[batch].max() for batch in batches)


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
    assert dataset.own[0] == ABSENT  # the first turn of a dialogue, so the absent case is tested


@pytest.mark.parametrize(("counts", "size"), PASSES)
def test_a_pass_has_every_piece_once_and_one_smaller_batch(counts: list[int], size: int) -> None:
    labels, lengths = made(counts)
    smaller = set()
    for seed in range(20):
        batches = training_batches(labels, lengths, size, False, np.random.default_rng(seed))
        assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(len(labels)))
        sizes = [len(batch) for batch in batches]
        rest = len(labels) % size
        assert sorted(sizes) == sorted([size] * (len(labels) // size) + [rest] * (rest > 0))
        if rest:
            smaller.add(round(lengths[batches[sizes.index(rest)]].mean(), 6))
    assert len(smaller) > 5 or len(labels) % size == 0  # not always the longest pieces


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize(("counts", "size"), PASSES)
def test_the_generator_alone_decides_the_pass(counts: list[int], size: int, balanced: bool) -> None:
    labels, lengths = made(counts)

    def one_pass(seed: int) -> list[list[int]]:
        generator = np.random.default_rng(seed)
        batches = training_batches(labels, lengths, size, balanced, generator)
        return [batch.tolist() for batch in batches]

    assert one_pass(0) == one_pass(0)
    first, second = one_pass(0), one_pass(1)
    assert first != second
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize(("counts", "size"), PASSES)
def test_batches_are_less_padded_than_shuffled_ones(
    counts: list[int], size: int, balanced: bool
) -> None:
    labels, lengths = made(counts)
    ours, shuffled = 0, 0
    for seed in range(10):
        generator = np.random.default_rng(seed)
        batches = training_batches(labels, lengths, size, balanced, generator)
        ours += padded_frames(batches, lengths)
        # Pieces of equal length keep the order in which they were drawn.
        batches = training_batches(labels, np.ones_like(lengths), size, balanced, generator)
        shuffled += padded_frames(batches, lengths)
    # Every batch needs all pieces of a class that has no more of them than a batch takes.
    whole_class = balanced and min(counts) <= size // len(counts)
    assert ours <= (1 if whole_class else 0.9) * shuffled


def test_lengths_of_batches_come_in_random_order() -> None:
    labels, lengths = made([640])
    batches = training_batches(labels, lengths, 16, False, np.random.default_rng(0))
    longest = [lengths[batch].max() for batch in batches]
    assert len(batches) == 5 * GROUP
    rising = np.mean(np.diff(longest) > 0)
    assert 0.3 < rising < 0.7  # a sorted group would rise seven times of eight


def test_a_batch_has_pieces_from_a_part_of_the_corpus_only_by_length() -> None:
    """A group is drawn from the whole corpus: neighbours in a pass are seldom neighbours again."""
    labels, lengths = made([64 * 32])
    together = []
    for seed in range(2):
        batches = training_batches(labels, lengths, 16, False, np.random.default_rng(seed))
        together.append({(i, j) for batch in batches for i in batch for j in batch if i < j})
    shared = len(together[0] & together[1]) / len(together[0])
    assert shared < 0.15  # 0.007 if shuffled; 1 if the whole corpus were sorted without ties


def test_evaluation_sorts_by_length(dataset: Dataset) -> None:
    pieces = dataset.pieces(np.arange(40))
    order = np.concatenate(list(evaluation_batches(pieces, 7)))
    assert (np.diff(pieces.lengths[order]) >= 0).all()
    assert np.array_equal(np.sort(order), np.arange(40))


@pytest.mark.parametrize(("counts", "size"), PASSES)
def test_balanced_batches_have_the_same_number_of_each_class(counts: list[int], size: int) -> None:
    labels, lengths = made(counts)
    batches = training_batches(labels, lengths, size, True, np.random.default_rng(0))
    share = size // len(counts)
    assert len(batches) == -(-max(counts) // share)  # the most frequent class once
    for batch in batches:
        assert np.bincount(labels[batch]).tolist() == [share] * len(counts)
    times = np.bincount(np.concatenate(batches), minlength=len(labels))
    for name in range(len(counts)):  # pieces of a class repeat equally often, or once more
        assert np.ptp(times[labels == name]) <= 1
        assert times[labels == name].min() >= 1


@pytest.mark.parametrize("rare", [10, 20, 40])
def test_a_repeated_piece_is_once_in_a_batch(rare: int) -> None:
    """Copies of a piece have the same length. Sorting must not bring them into one batch."""
    labels, lengths = made([400, rare])
    for seed in range(5):
        for batch in training_batches(labels, lengths, 20, True, np.random.default_rng(seed)):
            assert len(set(batch.tolist())) == 20


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=5),
    st.integers(1, 50),
    st.booleans(),
    st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_any_sizes_give_whole_passes(
    counts: list[int], size: int, balanced: bool, seed: int
) -> None:
    labels, lengths = made(counts, seed)
    size = max(size, len(counts))
    batches = training_batches(labels, lengths, size, balanced, np.random.default_rng(seed))
    times = np.bincount(np.concatenate(batches), minlength=len(labels))
    assert times.min() >= 1
    assert balanced or times.max() == 1
    assert min(map(len, batches)) >= 1
    assert max(map(len, batches)) <= size


def test_the_length_of_a_piece_is_that_of_its_longest_turn(dataset: Dataset) -> None:
    sizes = np.diff(dataset.offsets)
    for data in (dataset, dataclasses.replace(dataset, segment=4)):
        pieces = data.pieces(np.arange(40))
        batch = make_batch(data, pieces)
        padded = [turns.lengths.numpy() for turns in batch[:3]]
        assert longest_turns(data, pieces).tolist() == np.max(padded, axis=0).tolist()
    alone = dataclasses.replace(
        dataset, own=np.full_like(dataset.own, ABSENT), other=np.full_like(dataset.own, ABSENT)
    )
    assert longest_turns(alone, alone.pieces(np.arange(40))).tolist() == sizes[:40].tolist()


def test_sorted_batches_have_the_classes_of_a_random_batch() -> None:
    """Although one class is much longer than the others, no batch has more of it than its share."""
    labels = np.repeat([0, 1, 2], [400, 200, 200])
    lengths = np.random.default_rng(0).integers(1, 100, 800) + 1000 * (labels == 0)
    for seed in range(3):
        batches = training_batches(labels, lengths, 32, False, np.random.default_rng(seed))
        counts = np.stack([np.bincount(labels[batch], minlength=3) for batch in batches])
        assert (abs(counts[:, 0] - 16) <= 3).all()
        assert (abs(counts[:, 1:] - 8) <= 4).all()
        # Within a class, the lengths of a batch are alike.
        spread = np.mean([np.ptp(lengths[b][labels[b] == 0]) for b in batches])
        assert spread < 35
