"""What a sweep may take over from another: trials that it would train to the same result.

That is a trial of the same id (configuration, folds, data, seed) which the same code trained to
its end. One that was pruned was so by another search's cutoffs, and one that failed may be tried
again: both are left.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.ledger.ledger import Ledger, TrialRecord, canonical_json
from search_spaces import Space

DECISIVE = (
    "ser_models/*.py",
    "features/store.py",
    "orchestrator/batches.py",
    "orchestrator/cross_validation.py",
    "orchestrator/fold_run.py",
    "orchestrator/metrics.py",
    "orchestrator/search.py",
    "orchestrator/training.py",
    "search_spaces/__init__.py",
)
"""Source files that decide what a trial's results and a search's proposals are. Features, folds
and context are in a trial's id as what they come to."""


def code() -> dict[str, str]:
    """The first 10 hex digits of the SHA-1 of each decisive source file, by its name."""
    root = Path(__file__).parents[2]
    files = sorted(path for pattern in DECISIVE for path in root.glob(pattern))
    return {
        path.relative_to(root).as_posix(): hashlib.sha1(path.read_bytes()).hexdigest()[:10]
        for path in files
    }


def digest(files: dict[str, str]) -> str:
    """One name for a state of the code: what a trial's record says that it was trained by."""
    return hashlib.sha1(canonical_json(files)).hexdigest()[:10]


def valid_trials(
    source: Ledger, space: Space, identify: Callable[[dict[str, Any]], str], by: str
) -> list[TrialRecord]:
    """The trials of `source` that a sweep over `space` may take over, in the order of proposal.

    identify : the id that a point has in the new sweep
    by : `digest` of the code that runs it
    """
    found = []
    for suggestion in source.suggestions():
        if not space.has(suggestion.hyperparameters):
            continue
        record = source.trial(suggestion.trial)
        if record is None or record.status != "complete" or record.code != by:
            continue
        if identify(suggestion.hyperparameters) == record.id:
            found.append(record)
    return found


def take_over(source: Ledger, ledger: Ledger, trials: list[str]) -> None:
    """Copy ended trials, which then have the numbers of their places in the list.

    Those that are there are left as they are; one whose files are damaged by now is not copied,
    and is trained.
    """
    for number, trial in enumerate(trials):
        if ledger.trial(trial) is not None or (record := source.trial(trial)) is None:
            continue
        origin, target = source.trial_storage(trial), ledger.trial_storage(trial)
        for name in record.files:
            target.write(name, origin.read(name))
        ledger.write_trial(record.model_copy(update={"number": number}))
