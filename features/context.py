"""The transactional context of an utterance, from the manifest alone.

Labels play no role: an utterance with any label, or without a label, can be context.

Source: IAAN (Yeh, Lin and Lee, ICASSP 2019), section 2.1.
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
    # One number less than the dialogue has turns; numbers from the own place on move up by one.
    draws = np.random.default_rng(seed).integers(0, length - 1, size=(2, len(rows_of)))
    draws += draws >= place
    own[rows_of], other[rows_of] = rows[starts_of + draws]
    return own, other
