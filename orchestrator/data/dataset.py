"""The corpus as training reads it: features, labels and context turns.

The features of a run are in a file that the processes of a node share (`features.cache`). A dataset
that is pickled, as on the way to a worker, has no frames: the worker opens the file of its node.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from features.cache import CachedFrames
from features.context import Turns
from features.signal import FRAMES_PER_SECOND
from features.statistics import Statistics
from ser_models.sequences import Padded

Indices = NDArray[np.int64]

GPU_SHARE = 0.1
"""The largest share of a GPU's free memory for a copy of all frames. Each worker has a copy."""


class Pieces(NamedTuple):
    """Utterances as a network reads them: whole, or cut into segments. All arrays are (pieces,).

    rows : the utterance of each piece; the pieces of an utterance are neighbours
    starts, lengths : the first frame of each piece in the dataset's array, and its frames
    """

    rows: Indices
    starts: Indices
    lengths: Indices

    def take(self, positions: Indices) -> "Pieces":
        """Return the pieces at `positions`, in that order."""
        return Pieces(*(part[positions] for part in self))


@dataclass(frozen=True)
class Dataset:
    """All data that training reads.

    frames : (frames, dims) float32, utterance after utterance: an array, or a file that all workers
        of a node share. They are normalised, except for the values `train` and `none` of
        `features.normalize`
    offsets : (utterances + 1,) int64; utterance i is frames[offsets[i]:offsets[i + 1]]
    segment : frames of a segment; only an utterance with fewer frames has a shorter one. None:
        whole utterances
    labels : (utterances,) int64 class; negative if the utterance serves as context only
    own, other : context turns that the model reads, as rows
    previous : (2, utterances) int64 classes of the last turns of the same speaker and of the other
        speaker; negative without such a turn or its class. For analysis: no network reads them
    ids, speakers : (utterances,) str
    classes : names of the classes
    groups : columns of each group of descriptors, by name (`FeatureSet.groups`)
    picture : the columns that show an utterance to people; None if there is nothing to draw
    frame : seconds of a frame, after pooling. Without meaning if an utterance is one vector
    statistics : fold -> statistics of its training part, from which the fold's network computes
        z-scores; empty if `features.normalize` is not `train`
    copy : `frames` on a GPU; None if batches are made on the host
    """

    frames: NDArray[np.float32] | CachedFrames
    offsets: Indices
    segment: int | None
    labels: Indices
    own: Turns
    other: Turns
    previous: Indices
    ids: list[str]
    speakers: list[str]
    classes: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    picture: slice | None = None
    frame: float = 1 / FRAMES_PER_SECOND
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    copy: torch.Tensor | None = None

    def on(self, device: torch.device) -> "Dataset":
        """Return the dataset with a copy of its frames on a GPU, if the GPU has room for it.

        Batches are then made on the GPU. `benchmarks/gpu.py` compares this with batches that are
        made on the host and copied.
        """
        if device.type != "cuda":
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.frames.nbytes > GPU_SHARE * free:
            return self
        return replace(self, copy=torch.tensor(np.asarray(self.frames), device=device))

    @property
    def dims(self) -> int:
        """Number of values in a frame."""
        return int(self.frames.shape[1])

    def whole(self, rows: Indices) -> Pieces:
        """Return the utterances `rows` in one piece each."""
        starts = self.offsets[rows]
        return Pieces(rows, starts, self.offsets[rows + 1] - starts)

    def pieces(self, rows: Indices) -> Pieces:
        """Return the utterances `rows` as networks read them: in segments if there are any.

        The last segment of a longer utterance ends with it, and so overlaps the one before. This is
        our choice, close to the released code of Chen et al. 2018. docs/models.md has a comparison
        with a short segment.
        """
        rows, starts, lengths = self.whole(rows)
        if self.segment is None:
            return Pieces(rows, starts, lengths)
        counts = -(-lengths // self.segment)
        owner = np.repeat(np.arange(len(rows)), counts)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        last = np.maximum(lengths - self.segment, 0)[owner]
        begins = np.minimum(number * self.segment, last)
        lengths = np.minimum(lengths[owner], self.segment)
        return Pieces(rows[owner], starts[owner] + begins, lengths)

    def padded(self, pieces: Pieces) -> Padded:
        """Return pieces as one batch, with zeros after the frames of each piece."""
        return self._end_to_end(pieces, np.arange(len(pieces.rows) + 1))

    def context(self, turns: Turns, rows: Indices) -> Padded:
        """Return the context turns of each of the utterances `rows` as one batch.

        The frames of an utterance's turns are laid end to end, those of the oldest turn first. An
        utterance without turns gets a row of length 0.

        turns : `own` or `other`
        """
        chosen = turns.take(rows)
        return self._end_to_end(self.whole(chosen.rows), chosen.offsets)

    def _end_to_end(self, pieces: Pieces, offsets: Indices) -> Padded:
        """Return a batch whose row i has the pieces from offsets[i] to offsets[i + 1]."""
        ends = np.concatenate([[0], np.cumsum(pieces.lengths)])
        lengths = np.diff(ends[offsets])
        time = max(int(lengths.max(initial=0)), 1)
        owner = np.repeat(np.arange(len(lengths)), np.diff(offsets))
        places = ends[:-1] - ends[offsets[:-1]][owner]
        if self.copy is not None:
            # The frames to copy, and their places in the flat batch.
            within = np.arange(ends[-1]) - np.repeat(ends[:-1], pieces.lengths)
            begins = np.stack([pieces.starts, owner * time + places])
            frames = torch.from_numpy(np.repeat(begins, pieces.lengths, axis=1) + within)
            if self.copy.device.type == "cuda":
                frames = frames.pin_memory()  # or else the host would wait for the GPU
            source, target = frames.to(self.copy.device, non_blocking=True)
            flat = self.copy.new_zeros(len(lengths) * time, self.dims)
            flat.index_copy_(0, target, self.copy.index_select(0, source))
            return Padded(flat.unflatten(0, (-1, time)), torch.from_numpy(lengths))
        values = np.zeros((len(lengths), time, self.dims), np.float32)
        array = np.asarray(self.frames)
        for i, place, start, length in zip(
            owner, places, pieces.starts, pieces.lengths, strict=True
        ):
            values[i, place : place + length] = array[start : start + length]
        if isinstance(self.frames, CachedFrames):
            self.frames.release()
        return Padded(torch.from_numpy(values), torch.from_numpy(lengths))
