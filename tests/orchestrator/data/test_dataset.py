"""Utterances as pieces and as padded batches."""

import dataclasses

import numpy as np
import pytest

from features.context import ABSENT
from orchestrator.data.dataset import Dataset


def test_the_last_utterance_has_all_its_frames(dataset: Dataset) -> None:
    last = len(dataset.labels) - 1
    batch = dataset.padded(dataset.pieces(np.asarray([last])))
    assert batch.lengths.tolist() == [np.diff(dataset.offsets)[-1]]


def test_absent_utterances_give_a_batch_without_frames(dataset: Dataset) -> None:
    batch = dataset.padded(dataset.whole(np.asarray([ABSENT, ABSENT])))
    assert batch.lengths.tolist() == [0, 0]
    assert batch.values.shape == (2, 1, dataset.dims)


@pytest.mark.parametrize("segment", [2, 4, 6, 100])
def test_segments_cover_each_utterance_in_order_and_the_last_one_is_full(
    dataset: Dataset, segment: int
) -> None:
    cut = dataclasses.replace(dataset, segment=segment)
    rows = np.asarray([3, 0, 11, 4, 5])
    pieces = cut.pieces(rows)
    expected = []
    for row in rows:
        begin, end = (int(offset) for offset in cut.offsets[row : row + 2])
        starts = list(range(begin, end, segment))
        starts[-1] = max(begin, end - segment)  # a shorter utterance is one segment
        expected += [(row, start, min(segment, end - begin)) for start in starts]
    assert list(zip(*pieces, strict=True)) == expected
    batch = cut.padded(pieces)
    for values, start, length in zip(batch.values.numpy(), *pieces[1:], strict=True):
        assert np.array_equal(values[:length], cut.frames[start : start + length])
        assert (values[length:] == 0).all()
