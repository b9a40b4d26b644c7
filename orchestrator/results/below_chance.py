"""A score below chance is a sign of a mistake. Names the causes that the sweep's record shows."""

import math
from collections.abc import Iterator
from typing import Any

from features.sets import FEATURES
from features.sets.base import by_speaker
from orchestrator.ledger.records import SweepRecord
from orchestrator.metrics import Interval


def below_chance(
    ua: Interval, chance: float, sweep: SweepRecord, hyperparameters: dict[str, Any]
) -> list[str]:
    """Sentences if the whole interval of `ua` is below `chance`; otherwise no sentences.

    The first sentence says that something is wrong. Each other sentence is a likely cause.
    hyperparameters : of the trial
    """
    if math.isnan(ua.high) or ua.high >= chance:
        return []
    features = sweep.features_of(hyperparameters)
    normalize = features.get("normalize") or _default(str(features["name"]))
    return [
        f"Something is wrong: UA is {ua.value:.1%} (95 %: {ua.low:.1%} to {ua.high:.1%}), below "
        f"chance ({chance:.1%}) by more than its interval. A model without any knowledge would "
        f"score better. Do not use these scores before you know the cause.",
        *_causes(sweep, str(normalize)),
    ]


def _default(features: str) -> str:
    """The default of `normalize` of a feature set; `none` if the set is not known."""
    known = FEATURES.get(features)
    return str(known.model_fields["normalize"].default) if known else "none"


def _causes(sweep: SweepRecord, normalize: str) -> Iterator[str]:
    audit = sweep.audit
    coverage = audit.coverage
    if by_speaker(normalize) and coverage is not None and coverage.one_class:
        yield (
            f"Likely cause: {coverage.one_class_share:.0%} of the labelled utterances are from "
            f"speakers with one class only, and features.normalize: {normalize} subtracts each "
            f"speaker's own mean. This also removes the difference between the classes. Set "
            f"features.normalize: train."
        )
    single = [
        fold.name
        for fold in audit.folds
        if sum(map(bool, fold.parts["test"].classes.values())) == 1
    ]
    if single:
        yield (
            f"Likely cause: in {len(single)} of {len(audit.folds)} folds the test part has one "
            f"class only. The training part then has fewer utterances of this class, and a model "
            f"that follows the frequencies of the classes predicts another class. Use a scheme "
            f"with several classes in each test part, for example stratified_group_k_fold."
        )
    untrained = sorted(
        {
            name
            for fold in audit.folds
            for name, count in fold.parts["test"].classes.items()
            if count and not fold.parts["train"].classes.get(name)
        }
    )
    if untrained:
        yield (
            f"Likely cause: some folds test classes that do not occur in their training part: "
            f"{', '.join(untrained)}. Use another scheme, or leave these classes out of "
            f"corpus.classes."
        )
    yield (
        "Possible cause: labels that belong to other recordings, for example after a table was "
        "sorted by one column only. Listen to some utterances, and compare them with their labels."
    )
