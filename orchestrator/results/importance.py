"""Which hyperparameters moved the score of a search: fANOVA, as Optuna computes it."""

from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from orchestrator.results.findings import Findings
from search_spaces import Space

FEWEST_TRIALS = 20
"""With fewer complete trials, the forest of fANOVA mostly fits noise. The number is ours."""
MOST_TRIALS = 100
"""The time of fANOVA grows with the square of this number: 100 trials take about two seconds."""


@dataclass(frozen=True)
class Importances:
    """The shares of the variance of the score that each hyperparameter explains.

    shares : key -> share, the largest first; the shares sum to 1. Empty if they are not known
    trials : number of trials that the shares come from
    complete : number of complete trials of the sweep
    reason : why there are no shares, else empty
    """

    shares: dict[str, float]
    trials: int
    complete: int
    reason: str


def importances(findings: Findings) -> Importances:
    """The importance of each hyperparameter that all complete trials have.

    Pruned trials are left out, because their scores come from fewer epochs. Of many complete ones,
    `MOST_TRIALS` are used, at even steps in the order of the search. The same trials give the same
    shares. Source: Hutter, Hoos and Leyton-Brown 2014 (fANOVA), in `optuna.importance`.
    """
    records = [trial.record for trial in findings.trials]
    records = [r for r in records if r.status == "complete" and r.score is not None]
    complete = len(records)
    try:
        space = Space.model_validate(findings.sweep.space)
    except ValidationError:
        return Importances({}, 0, complete, "The sweep has no search space.")
    records = [record for record in records if space.has(record.hyperparameters)]
    if len(records) < FEWEST_TRIALS:
        reason = (
            f"The sweep has {len(records)} complete trial{'s' * (len(records) != 1)}, and fewer "
            f"than {FEWEST_TRIALS} say little about importance."
        )
        return Importances({}, 0, complete, reason)
    if len({record.score for record in records}) == 1:
        return Importances({}, 0, complete, "All complete trials have the same score.")
    if len(records) > MOST_TRIALS:
        steps = np.linspace(0, len(records) - 1, MOST_TRIALS).round().astype(int)
        records = [records[step] for step in steps]

    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
        for record in records:
            fixed = optuna.trial.FixedTrial(record.hyperparameters)
            space.suggest(fixed)  # the distributions of the parameters that are open
            study.add_trial(
                optuna.trial.create_trial(
                    params=record.hyperparameters,
                    distributions=fixed.distributions,
                    value=record.score,
                )
            )
        forest = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=forest)
    finally:
        optuna.logging.set_verbosity(level)
    shares = {key: float(share) for key, share in found.items()}
    if not shares:
        return Importances({}, 0, complete, "No hyperparameter is open in all complete trials.")
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return Importances(dict(ordered), len(records), complete, "")
