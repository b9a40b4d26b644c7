"""Utterances as pieces and as padded batches."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from features import cache
from features.cache import CachedFrames
from features.context import Turns
from orchestrator.data.dataset import Dataset
from orchestrator.training.batches import make_batch
from tests.support.stores import made_source


def test_the_last_utterance_has_all_its_frames(dataset: Dataset) -> None:
    last = len(dataset.labels) - 1
    batch = dataset.padded(dataset.pieces(np.asarray([last])))
    assert batch.lengths.tolist() == [np.diff(dataset.offsets)[-1]]


def test_utterances_without_context_give_a_batch_without_frames(dataset: Dataset) -> None:
    batch = dataset.context(Turns.none(len(dataset.labels)), np.asarray([5, 6]))
    assert batch.lengths.tolist() == [0, 0]
    assert batch.values.shape == (2, 1, dataset.dims)


@pytest.mark.parametrize("gathered", [False, True], ids=["on the host", "from a copy"])
def test_context_turns_are_laid_end_to_end_in_their_order(dataset: Dataset, gathered: bool) -> None:
    """A GPU gathers the frames of a batch from its copy; here, the copy is on the CPU."""
    if gathered:
        dataset = dataclasses.replace(dataset, copy=torch.from_numpy(dataset.frames))
    contexts = {3: [2, 0], 4: [], 7: [1, 5, 6]}
    turns = Turns.of(
        np.repeat(list(contexts), [len(each) for each in contexts.values()]),
        np.concatenate(list(contexts.values())).astype(np.int64),
        len(dataset.labels),
    )
    rows = [7, 4, 3, 7, 0]
    batch = dataset.context(turns, np.asarray(rows))
    frames = np.split(dataset.frames, dataset.offsets[1:-1])
    for row, values, length in zip(rows, batch.values.numpy(), batch.lengths, strict=True):
        of_turns = [frames[turn] for turn in contexts.get(row, [])]
        expected = np.concatenate([np.zeros((0, dataset.dims)), *of_turns])
        assert length == len(expected)
        np.testing.assert_array_equal(values[:length], expected)
        assert (values[length:] == 0).all()
    assert batch.values.shape[1] == batch.lengths.max()


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


def test_frames_from_a_file_give_the_batches_of_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the pages of the file stay mapped or not. A pickled dataset has no frames."""
    source, frames = made_source(tmp_path / "store")
    labels = np.arange(len(source.offsets) - 1)
    turns = Turns.of(np.asarray([2, 2, 5]), np.asarray([0, 1, 3]), len(labels))
    data = Dataset(
        frames=frames,
        offsets=source.offsets,
        segment=7,
        labels=labels,
        own=turns,
        other=turns,
        previous=np.full((2, len(labels)), -1),
        ids=[str(row) for row in labels],
        speakers=["s"] * len(labels),
        classes=("a",),
    )
    cached = CachedFrames(source, str(tmp_path / "cache"), 10**9)
    sent = pickle.dumps(dataclasses.replace(data, frames=cached))
    assert len(sent) < frames.nbytes / 2
    rows = labels[::-2]
    expected = make_batch(data, data.pieces(rows))
    for large in (10**9, 0):
        monkeypatch.setattr(cache, "LARGE", large)
        of_file = pickle.loads(sent)  # noqa: S301
        for _ in range(2):
            batch = make_batch(of_file, of_file.pieces(rows))
            for got, want in zip(batch[:3], expected[:3], strict=True):
                assert torch.equal(got.values, want.values)
                assert torch.equal(got.lengths, want.lengths)


def test_pieces_from_a_copy_are_those_from_the_host(dataset: Dataset) -> None:
    data = dataclasses.replace(dataset, segment=7)
    copied = dataclasses.replace(data, copy=torch.from_numpy(data.frames))
    pieces = data.pieces(np.arange(len(data.labels))[::-3])
    expected, batch = data.padded(pieces), copied.padded(pieces)
    np.testing.assert_array_equal(batch.values, expected.values)
    np.testing.assert_array_equal(batch.lengths, expected.lengths)
