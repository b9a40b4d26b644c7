"""The transactional context of an utterance, from the manifest alone.

Source: IAAN (Yeh, Lin and Lee, ICASSP 2019), section 2.1.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

ABSENT = -1
WINDOW = 8

Indices = NDArray[np.int64]


def _dialogues(dialogues: Sequence[str | None], turns: Sequence[int | None]) -> Iterator[list[int]]:
    """Rows of each dialogue in the order in which they were said; rows of none are left out."""
    rows: dict[str, list[int]] = {}
    for row, dialogue in enumerate(dialogues):
        if dialogue is not None and turns[row] is not None:
            rows.setdefault(dialogue, []).append(row)
    for said in rows.values():
        yield sorted(said, key=lambda row: (turns[row], row))


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
    for rows in _dialogues(dialogues, turns):
        for position, row in enumerate(rows):
            for before in reversed(rows[max(0, position - window) : position]):
                target = own if speakers[before] == speakers[row] else other
                if target[row] == ABSENT:
                    target[row] = before
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
    generator = np.random.default_rng(seed)
    own = np.full(len(dialogues), ABSENT, dtype=np.int64)
    other = own.copy()
    for rows in _dialogues(dialogues, turns):
        if len(rows) < 2:
            continue
        for position, row in enumerate(rows):
            # Drawn from one fewer and shifted past the utterance's own place.
            draws = generator.integers(0, len(rows) - 1, size=2)
            own[row], other[row] = (rows[draw + (draw >= position)] for draw in draws)
    return own, other
