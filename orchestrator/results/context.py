"""Scores of test utterances by the number of previous turns that have the same emotion.

Source: the context analysis of IAAN (Yeh, Lin and Lee, ICASSP 2019).
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from orchestrator.metrics import Label, scores

CASES = {2: "both", 1: "one", 0: "none"}


class ContextCase(NamedTuple):
    """Test utterances whose true class is also the class of `same` of their two previous turns.

    same : `both`, `one` or `none`; a turn that is absent or has no class counts as different
    share : of all test utterances, 0..1
    classes : number of utterances of each class
    recalls : recall of each class; NaN for a class that does not occur
    """

    same: str
    utterances: int
    share: float
    ua: float
    wa: float
    recalls: dict[Label, float]
    classes: dict[Label, int]


def context_cases(predictions: pa.Table, classes: list[str]) -> list[ContextCase]:
    """The cases that occur, `both` first. The list is empty if no utterance has a previous turn.

    predictions : with the columns `truth`, `prediction`, and `own_previous` and `other_previous`:
        the class of the last turn of the same speaker and of the other speaker, or null
    """
    own, other = predictions["own_previous"], predictions["other_previous"]
    if own.null_count == other.null_count == len(predictions):
        return []
    truth, guess, own, other = (
        np.asarray(column.to_pylist(), dtype=object)
        for column in (predictions["truth"], predictions["prediction"], own, other)
    )
    same = (own == truth).astype(int) + (other == truth)
    cases = []
    for count, name in CASES.items():
        rows = same == count
        if rows.any():
            scored = scores(truth[rows].tolist(), guess[rows].tolist(), classes)
            counts: dict[Label, int] = {
                label: int((truth[rows] == label).sum()) for label in classes
            }
            cases.append(ContextCase(name, int(rows.sum()), float(rows.mean()), *scored, counts))
    return cases
