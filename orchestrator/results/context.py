"""Whether an utterance's emotion is that of the turns before it, and how it is recognised then.

Source: the context analysis of IAAN (Yeh, Lin and Lee, ICASSP 2019).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from orchestrator.metrics import Scores, scores

CASES = {2: "both", 1: "one", 0: "none"}


@dataclass(frozen=True)
class ContextCase:
    """Test utterances whose true class is that of `same` of their two previous turns.

    same : `both`, `one` or `none`; a turn that is absent or has no class equals nothing
    """

    same: str
    utterances: int
    share: float
    scores: Scores


def context_cases(predictions: pa.Table, classes: list[str]) -> list[ContextCase]:
    """The cases that occur, `both` first; none where no utterance has a previous turn.

    predictions : with `truth`, `prediction`, and `own_previous` and `other_previous`, the classes
        of the last turns of the same and of the other speaker or null
    """
    if not {"own_previous", "other_previous"} <= set(predictions.column_names):
        return []
    truth, guess, own, other = (
        np.asarray(predictions[name].to_pylist(), dtype=object)
        for name in ("truth", "prediction", "own_previous", "other_previous")
    )
    if not any(value is not None for value in (*own, *other)):
        return []
    same = (own == truth).astype(int) + (other == truth)
    found = []
    for count, name in CASES.items():
        rows = same == count
        if rows.any():
            scored = scores(truth[rows].tolist(), guess[rows].tolist(), classes)
            found.append(ContextCase(name, int(rows.sum()), float(rows.mean()), scored))
    return found
