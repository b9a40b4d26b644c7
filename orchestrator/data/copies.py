"""Finds copies of a recording in two parts of a fold.

The model can recognise a copy, so the score counts speech that the model knows as new speech. The
audit of the folds sees the same file in two parts. Copies under other names are found after the
extraction, when the contents of the files are known.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from features.context import Indices
from orchestrator.data.audit import (
    PARTS,
    SHOWN,
    TEST,
    TRAIN,
    WORDS,
    AuditError,
    occurrences,
    parts_of,
)
from orchestrator.data.folds import Fold, Promise


def audit_copies(
    table: pa.Table, contents: Indices, folds: Sequence[Fold], scheme: str, promise: Promise
) -> list[str]:
    """Notes about recordings with copies in two parts of a fold; empty if there are no such copies.

    table : the manifest, (utterances,) rows
    contents : (utterances,) equal numbers for copies (`features.copies`)

    Raises AuditError with the names of the copies if the scheme promises to keep a unit apart.
    """
    copied = np.flatnonzero(np.bincount(contents)[contents] > 1)
    if not len(copied):
        return []
    content = np.unique(contents[copied], return_inverse=True)[1]
    first_fold = np.full(content.max() + 1, -1)  # of each content, the first that divides it
    tested = leaked = 0
    for number, fold in enumerate(folds):
        part = parts_of(fold, len(contents))[copied]
        found = occurrences(part, content, len(first_fold))
        tested += len(fold.test)
        leaked += int(found[TRAIN][content[part == TEST]].sum())
        first_fold[(found[1:].sum(axis=0) > 1) & (first_fold < 0)] = number
    divided = np.flatnonzero(first_fold >= 0)
    if not len(divided):
        return []
    listed = [
        _pair(table, folds[first_fold[each]], copied[content == each]) for each in divided[:SHOWN]
    ]
    if len(divided) > SHOWN:
        listed.append(f"and {len(divided) - SHOWN} more")
    if promise.unit is None:
        return [
            f"{leaked} of {tested} tested utterances ({leaked / tested:.0%}), summed over folds, "
            f"are copies of a training utterance. {len(divided)} recordings have copies in two "
            f"parts of a fold: {'; '.join(listed)}."
        ]
    lines = "\n".join(listed)
    raise AuditError(
        f"{scheme} keeps each {promise.unit} in one part, but {len(divided)} recordings have "
        f"copies in two parts of a fold. Remove the copies from the manifest, or give a recording "
        f"and its copies the same {promise.unit}:\n{lines}"
    )


def _pair(table: pa.Table, fold: Fold, rows: Indices) -> str:
    """Two of the copies `rows`: one from the last of their parts, and one from the first."""
    part = parts_of(fold, len(table))[rows]
    rows, part = rows[part > 0], part[part > 0]
    names = [
        f"{_named(table, int(rows[part == number][0]))} ({WORDS[PARTS[number - 1]]} part)"
        for number in (part.max(), part.min())
    ]
    return f"fold {fold.name}: {names[0]} has the same audio as {names[1]}"


def _named(table: pa.Table, row: int) -> str:
    """The file of an utterance, with its times if it is a segment."""
    file, start, end = (table[name][row].as_py() for name in ("file", "start", "end"))
    if start is None and end is None:
        return str(file)
    return f"{file} from {start or 0:.3f} to {'its end' if end is None else format(end, '.3f')} s"
