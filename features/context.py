"""The transactional context of an utterance, from the manifest alone.

Labels are never looked at: an utterance of whatever label, or of none, can be context.
`previous_turns` and `random_turns` give rows, `previous_ids` and `random_ids` ids.

Source: IAAN (Yeh, Lin and Lee, ICASSP 2019), section 2.1.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ABSENT = -1
WINDOW = 8

Indices = NDArray[np.int64]


def _codes(values: Sequence[str | None]) -> Indices:
    """(rows,) a number for each value in the order of their first rows, -1 for None."""
    indices = pa.array(values, pa.string()).dictionary_encode().indices
    return indices.fill_null(-1).to_numpy().astype(np.int64)


def _in_order(
    dialogues: Sequence[str | None], turns: Sequence[int | None]
) -> tuple[Indices, Indices]:
    """The rows that are in dialogues, dialogue after dialogue, each as it was said.

    Shapes
    ------
    returns : rows, starts, (turns in dialogues,) each; `starts` is where in `rows` the dialogue
        of each begins
    """
    dialogue = _codes(dialogues)
    turn = pa.array(turns, pa.int64())
    known = turn.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero((dialogue >= 0) & known)
    order = turn.fill_null(0).to_numpy()[rows]
    rows = rows[np.lexsort((order, dialogue[rows]))]  # stable: rows of one turn keep their order
    _, begins, place = np.unique(dialogue[rows], return_index=True, return_inverse=True)
    return rows, begins[place]


def previous_turns(
    speakers: Sequence[str],
    dialogues: Sequence[str | None],
    turns: Sequence[int | None],
    window: int = WINDOW,
) -> tuple[Indices, Indices]:
    """The last turn of the same speaker and of another one, among the `window` turns before.

    Shapes
    ------
    speakers, dialogues, turns : (utterances,)
    returns : own, other, (utterances,) each: a row, or ABSENT where there is no such turn
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
    """Two turns drawn at random from the same dialogue, neither the utterance itself (RandIAAN).

    Shapes
    ------
    dialogues, turns : (utterances,)
    returns : own, other, (utterances,) each: a row, or ABSENT in a dialogue of one turn
    """
    own = np.full(len(dialogues), ABSENT, dtype=np.int64)
    other = own.copy()
    rows, starts = _in_order(dialogues, turns)
    length = np.bincount(starts, minlength=len(rows) + 1)[starts]
    several = length > 1
    rows_of, starts_of, length = rows[several], starts[several], length[several]
    place = np.flatnonzero(several) - starts_of
    # Drawn from one fewer and shifted past the utterance's own place.
    draws = np.random.default_rng(seed).integers(0, length - 1, size=(2, len(rows_of)))
    draws += draws >= place
    own[rows_of], other[rows_of] = rows[starts_of + draws]
    return own, other


def previous_ids(
    table: pa.Table, window: int = WINDOW
) -> tuple[list[str | None], list[str | None]]:
    """`previous_turns` of a manifest's table, as ids; None where there is no such turn."""
    speakers, dialogues, turns = (
        table[name].to_pylist() for name in ("speaker", "dialogue", "turn")
    )
    own, other = previous_turns(speakers, dialogues, turns, window)
    return _ids(table, own), _ids(table, other)


def random_ids(table: pa.Table, seed: int) -> tuple[list[str | None], list[str | None]]:
    """`random_turns` of a manifest's table, as ids; None in a dialogue of one turn."""
    own, other = random_turns(table["dialogue"].to_pylist(), table["turn"].to_pylist(), seed)
    return _ids(table, own), _ids(table, other)


def _ids(table: pa.Table, rows: Indices) -> list[str | None]:
    return table["id"].take(pa.array(rows, mask=rows == ABSENT)).to_pylist()
