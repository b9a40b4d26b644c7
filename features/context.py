"""The context turns of an utterance, from the manifest alone.

Labels play no role: an utterance with any label, or without a label, can be context.

Source: IAAN (Yeh, Lin and Lee, ICASSP 2019), section 2.3.1. The paper does not say how far back
the previous turns may be. The window of 8 turns is from the authors' code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.columns import arrow_column

ABSENT = -1
"""In place of a row: there is no such turn."""
WINDOW = 8
"""Turns before the current turn in which the previous turns are looked up."""

Indices = NDArray[np.int64]


class Turns(NamedTuple):
    """Context turns of utterances, which may have different numbers of them.

    rows : (turns,) the turns of the first utterance, then those of the second, ...; those of an
        utterance before it are in their order, the oldest first
    offsets : (utterances + 1,) utterance i has the turns rows[offsets[i]:offsets[i + 1]]
    """

    rows: Indices
    offsets: Indices

    @classmethod
    def none(cls, utterances: int) -> "Turns":
        """No turns for any of so many utterances."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(utterances + 1, dtype=np.int64))

    @classmethod
    def of(cls, takers: Indices, turns: Indices, utterances: int) -> "Turns":
        """The turns `turns` of the utterances `takers`. Turns of an utterance keep their order.

        Shapes
        ------
        takers, turns : (turns,) rows
        """
        counts = np.bincount(takers, minlength=utterances)
        return cls(turns[np.argsort(takers, kind="stable")], _offsets(counts))

    @property
    def counts(self) -> Indices:
        """(utterances,) number of turns."""
        return np.diff(self.offsets)

    @property
    def takers(self) -> Indices:
        """(turns,) the utterance that has each turn."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    @property
    def newest(self) -> Indices:
        """(utterances,) the last turn of each utterance, or ABSENT."""
        last = np.append(self.rows, ABSENT)[self.offsets[1:] - 1]
        return np.where(self.counts > 0, last, ABSENT)

    def take(self, utterances: Indices) -> "Turns":
        """The turns of `utterances`, in that order."""
        counts = self.counts[utterances]
        offsets = _offsets(counts)
        shift = np.repeat(self.offsets[utterances] - offsets[:-1], counts)
        return Turns(self.rows[np.arange(offsets[-1]) + shift], offsets)

    def renumbered(self, place: Indices) -> "Turns":
        """The turns by their new rows. A turn without a new row is left out.

        place : the new row of each row, or ABSENT
        """
        rows = place[self.rows]
        kept = rows != ABSENT
        return Turns(rows[kept], _offsets(kept)[self.offsets])


def _offsets(counts: NDArray[np.integer] | NDArray[np.bool_]) -> Indices:
    """(n + 1,) sums of the first 0, 1, ..., n counts."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _codes(values: Sequence[str | None]) -> Indices:
    """(rows,) the number of each value, by its first row; -1 for None."""
    indices = arrow_column(values, pa.string()).dictionary_encode().indices
    return indices.fill_null(-1).to_numpy().astype(np.int64)


def _in_order(
    dialogues: Sequence[str | None], turns: Sequence[int | None]
) -> tuple[Indices, Indices]:
    """Sort the rows that belong to dialogues by dialogue and turn.

    Shapes
    ------
    returns : rows, starts, (turns in dialogues,) each; `starts` holds the position in `rows` of
        the first turn of each row's dialogue
    """
    dialogue = _codes(dialogues)
    turn = arrow_column(turns, pa.int64())
    known = turn.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero((dialogue >= 0) & known)
    order = turn.fill_null(0).to_numpy()[rows]
    rows = rows[np.lexsort((order, dialogue[rows]))]  # stable: equal turns keep their order
    _, begins, place = np.unique(dialogue[rows], return_index=True, return_inverse=True)
    return rows, begins[place]


def turns_before(
    speakers: Sequence[str],
    dialogues: Sequence[str | None],
    turns: Sequence[int | None],
    window: int,
    most: int | None = None,
) -> tuple[Turns, Turns]:
    """The turns of the same speaker and of other speakers among the `window` turns before.

    window : turns of all speakers together
    most : of these, only so many newest turns of the same speaker, and of others. None: all

    Shapes
    ------
    speakers, dialogues, turns : (utterances,)
    returns : own, other
    """
    rows, starts = _in_order(dialogues, turns)
    speaker = _codes(speakers)[rows]
    places = np.arange(len(rows))
    limit = window if most is None else most
    nothing = np.zeros(0, dtype=np.int64)
    found = ([(nothing, nothing)], [(nothing, nothing)])  # rows of takers and turns, newest first
    taken = np.zeros((2, len(rows)), dtype=np.int64)
    for distance in range(1, min(window, len(rows)) + 1):
        here = places[places - distance >= starts]
        if not len(here):
            break
        before = here - distance
        same = speaker[before] == speaker[here]
        for side, chosen in enumerate((same, ~same)):
            free = chosen & (taken[side, here] < limit)
            taken[side, here[free]] += 1
            found[side].append((rows[here[free]], rows[before[free]]))
    sides = []
    for pairs in found:
        takers, context = (np.concatenate(part) for part in zip(*reversed(pairs), strict=True))
        sides.append(Turns.of(takers, context, len(speakers)))
    return sides[0], sides[1]


def previous_turns(
    speakers: Sequence[str], dialogues: Sequence[str | None], turns: Sequence[int | None]
) -> tuple[Turns, Turns]:
    """IAAN's context: the newest turn of the same speaker, and of another one, of WINDOW turns.

    Shapes are those of `turns_before`.
    """
    return turns_before(speakers, dialogues, turns, WINDOW, most=1)


def random_turns(
    dialogues: Sequence[str | None], turns: Sequence[int | None], seed: int
) -> tuple[Turns, Turns]:
    """Draw two turns of the same dialogue at random, without the utterance itself (RandIAAN).

    The two turns are different if the dialogue has at least two other turns. Otherwise its one
    other turn is both. In a dialogue with one turn, that turn has no context.

    Shapes
    ------
    dialogues, turns : (utterances,)
    returns : own, other, with at most one turn for each utterance
    """
    rows, starts = _in_order(dialogues, turns)
    length = np.bincount(starts, minlength=len(rows) + 1)[starts]
    several = length > 1
    rows_of, starts_of, length = rows[several], starts[several], length[several]
    place = np.flatnonzero(several) - starts_of
    generator = np.random.default_rng(seed)
    # Numbers of places without the own one; numbers from it on move up by one.
    first = generator.integers(0, length - 1)
    first += first >= place
    # Without both places: the smaller one must move up the number before the larger one does.
    second = generator.integers(0, np.maximum(length - 2, 1))
    second += second >= np.minimum(first, place)
    second += second >= np.maximum(first, place)
    second = np.where(length > 2, second, first)
    own, other = (
        Turns.of(rows_of, rows[starts_of + drawn], len(dialogues)) for drawn in (first, second)
    )
    return own, other
