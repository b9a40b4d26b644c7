"""Copies trials from another sweep: those that the new sweep would train to the same result.

Such a trial has the same id (configuration, folds, data, seed), and the same code trained it to its
end. Pruned trials are not copied, because another search's cutoffs pruned them. Failed trials are
not copied either: they may be tried again.
"""

from collections.abc import Callable
from typing import Any

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from search_spaces import Space


def valid_trials(
    source: Ledger, space: Space, identify: Callable[[dict[str, Any]], str], code: str
) -> list[TrialRecord]:
    """The trials of `source` that a sweep over `space` may copy, in the order of their proposals.

    identify : point of the search space -> its trial id in the new sweep
    code : digest of the code that runs the new sweep (`orchestrator.sweep.identity.combined`)
    """
    valid = []
    for proposal in source.proposals():
        if not space.has(proposal.hyperparameters):
            continue
        record = source.trial(proposal.trial)
        if record is None or record.status != "complete" or record.code != code:
            continue
        if identify(proposal.hyperparameters) == record.id:
            valid.append(record)
    return valid


def copy_trials(source: Ledger, ledger: Ledger, trials: list[str]) -> None:
    """Copy finished trials. Each gets its place in the list as its number.

    Trials that `ledger` has already stay as they are. A trial whose files were damaged in the
    meantime is not copied, so the new sweep trains it.
    """
    for number, trial in enumerate(trials):
        if ledger.trial(trial) is not None or (record := source.trial(trial)) is None:
            continue
        origin, target = source.trial_storage(trial), ledger.trial_storage(trial)
        for name in record.files:
            target.write(name, origin.read(name))
        ledger.write_trial(record.model_copy(update={"number": number}))
