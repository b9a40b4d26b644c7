"""A sweep as an Optuna study in an SQLite file, which `optuna-dashboard` opens."""

import datetime
import warnings
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from search_spaces import Space


def write_study(ledger: Ledger, path: str) -> int:
    """Write the finished trials of a sweep to a new SQLite file. Returns their number.

    The study has the sweep's name. A trial keeps its number, its hyperparameters with their ranges,
    its score after each epoch, and its state. A trial ends at the time of its record's file, and
    starts its training seconds before. Optuna's best trial is a complete one, but the best trial
    of a sweep may be a pruned one.

    Raises UsageError if the file exists, NoSweepError if there is no sweep.
    """
    import optuna

    sweep, records = ledger.sweep(), ledger.records()
    if Path(path).exists():
        raise UsageError(f"--optuna: {path} exists already. Choose another name, or remove it")
    space = Space.model_validate(sweep.space) if sweep.space else None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{Path(path).absolute()}",
        study_name=sweep.name,
        direction="maximize",
    )
    part = "validation" if sweep.selection == "validation" else "test"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([f"{part}_{sweep.metric}"])
    study.set_user_attr("score", f"{sweep.metric} of the part that selects, mean over folds")
    study.set_user_attr("model", sweep.model)
    study.set_user_attr("selection", sweep.selection)
    study.add_trials([_frozen(ledger, record, space) for record in records])
    return len(records)


def _frozen(ledger: Ledger, record: TrialRecord, space: Space | None) -> Any:
    from optuna.trial import FrozenTrial, TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = states.get(record.status, TrialState.FAIL)
    attributes = {"trial": record.id, "status": record.status, "seconds": record.seconds}
    if record.reason:
        attributes["reason"] = record.reason
    (info,) = ledger.trial_storage(record.id).inspect(["trial.json"])
    ended = info.mtime.astimezone().replace(tzinfo=None)  # Optuna has local times
    return FrozenTrial(
        number=record.number,
        trial_id=record.number,
        state=state,
        value=record.score,  # of a pruned trial too, as Optuna does, so that charts show it
        datetime_start=ended - datetime.timedelta(seconds=record.seconds),
        datetime_complete=ended,
        params=record.hyperparameters,
        distributions=_distributions(record.hyperparameters, space),
        user_attrs=attributes,
        system_attrs={},
        intermediate_values=dict(enumerate(record.curve, start=1)),
    )


def _distributions(point: dict[str, Any], space: Space | None) -> dict[str, Any]:
    """The range of each hyperparameter, as the search space suggests it to Optuna."""
    if space is None or not point:
        return {}
    import optuna

    asked = optuna.trial.FixedTrial(point)
    space.suggest(asked)
    return asked.distributions
