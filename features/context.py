"""The transactional context of an utterance, from the manifest alone.

Labels play no role: an utterance with any label, or without a label, can be context.

Source: IAAN (Yeh, Lin and Lee, ICASSP 2019), section 2.3.1. The paper does not say how far back
the previous turns may be. The window of 8 turns is from the authors' code.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ABSENT = -1
"""In place of a row: there is no such turn."""
WINDOW = 8
"""Turns before the current turn in which the previous turns are looked up."""

Indices = NDArray[np.int64]


def _codes(values: Sequence[str | None]) -> Indices:
    """(rows,) the number of each value, by its first row; -1 for None."""
    indices = pa.array(values, pa.string()).dictionary_encode().indices
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
    turn = pa.array(turns, pa.int64())
    known = turn.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero((dialogue >= 0) & known)
    order = turn.fill_null(0).to_numpy()[rows]
    rows = rows[np.lexsort((order, dialogue[rows]))]  # stable: equal turns keep their order
    _, begins, place = np.unique(dialogue[rows], return_index=True, return_inverse=True)
    return rows, begins[place]


def previous_turns(
    speakers: Sequence[str],
    dialogues: Sequence[str | None],
    turns: Sequence[int | None],
    window: int = WINDOW,
) -> tuple[Indices, Indices]:
    """The newest turn of the same speaker and of another speaker among the `window` turns before.

    Shapes
    ------
    speakers, dialogues, turns : (utterances,)
    returns : own, other, (utterances,) each: a row, or ABSENT
    """
    own = np.full(len(speakers), ABSENT, dtype=np.int64)
    other = own.copy()
    rows, starts = _in_order(dialogues, turns)
    speaker = _codes(speakers)[rows]
    places = np.arange(len(rows))
    for distance in range(1, min(window, len(rows)) + 1):
        here = places[places - distance >= starts]
        if not len(here):
            break
        before = here - distance
        same = speaker[before] == speaker[here]
        for target, chosen in ((own, same), (other, ~same)):
            free = chosen & (target[rows[here]] == ABSENT)
            target[rows[here[free]]] = rows[before[free]]
    return own, other


def random_turns(
    dialogues: Sequence[str | None], turns: Sequence[int | None], seed: int
) -> tuple[Indices, Indices]:
    """Draw two turns of the same dialogue at random, without the utterance itself (RandIAAN).

    The two turns are different if the dialogue has at least two other turns. Otherwise its one
    other turn is both.

    Shapes
    ------
    dialogues, turns : (utterances,)
    returns : own, other, (utterances,) each: a row, or ABSENT in a dialogue with one turn
    """
    own = np.full(len(dialogues), ABSENT, dtype=np.int64)
    other = own.copy()
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
    own[rows_of], other[rows_of] = rows[starts_of + first], rows[starts_of + second]
    return own, other
