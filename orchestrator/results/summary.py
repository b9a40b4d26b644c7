"""The results of a sweep as plain values: the object that `ser report --json` prints."""

import math
from typing import Any

from orchestrator.results.baselines import LabelBaselines
from orchestrator.results.findings import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, Best, Findings


def summarise(findings: Findings) -> dict[str, Any]:
    """A dictionary of plain values. Scores are in 0..1. None replaces NaN.

    Keys: `sweep`, `selection`, `metric` (the score that selects epochs and trials), `optimistic`,
    `classes`, `chance`, `trials` (number by status), `best` (`trial`, `number`, `model`, `status`,
    `score`, `hyperparameters`, `pooled`, `mean_over_folds`, `folds`, `confusion`, `context`),
    `nested`, `nested_unavailable`, `optimism`, `label_baselines` (`score`, `nested`, `beaten`, and
    `given`: known unit -> `ua`, `leaks`, `explained`, `folds`), `alarm` (sentences if UA is below
    chance), `warnings`, `notes`.

    `chance` and `best` are None if no trial has a score. `nested` and `optimism` are then None too,
    and also if there is no validation part; `nested_unavailable` gives the reason.
    `label_baselines` is None if no trial has a score, or if an older version started the sweep.
    """
    sweep, best, nested = findings.sweep, findings.best, findings.nested
    estimate = optimism = None
    if best and nested:
        means = {"ua": nested.ua, "wa": nested.wa}
        estimate = {"pooled": nested.pooled, "mean_over_folds": means, "choices": nested.choices}
        optimism = {
            "pooled": {
                "ua": best.pooled.ua.value - nested.pooled.ua,
                "wa": best.pooled.wa.value - nested.pooled.wa,
            },
            "mean_over_folds": {
                "ua": best.trial.ua.value - nested.ua.value,
                "wa": best.trial.wa.value - nested.wa.value,
            },
        }
    content = {
        "sweep": sweep.name,
        "selection": sweep.selection,
        "metric": sweep.metric,
        "optimistic": sweep.optimistic,
        "classes": sweep.classes,
        "chance": {"ua": best.chance_ua, "wa": best.chance_wa} if best else None,
        "trials": findings.counts,
        "best": _best(best) if best else None,
        "nested": estimate,
        "nested_unavailable": findings.nested_reason or None,
        "optimism": optimism,
        "label_baselines": _labels(findings.labels) if findings.labels else None,
        "alarm": findings.alarm,
        "warnings": findings.warnings,
        "notes": sweep.notes,
    }
    return {key: plain(value) for key, value in content.items()}


def _best(best: Best) -> dict[str, Any]:
    record, folds, pooled = best.trial.record, best.trial.folds, best.pooled
    bootstrap = {
        "level": 0.95,
        "method": "percentile bootstrap over speakers",
        "speakers": pooled.speakers,
        "samples": BOOTSTRAP_SAMPLES,
        "seed": BOOTSTRAP_SEED,
    }
    return {
        "trial": record.id,
        "number": record.number,
        "model": record.model,
        "status": record.status,
        "score": record.score,
        "hyperparameters": record.hyperparameters,
        "pooled": {
            "ua": pooled.ua,
            "wa": pooled.wa,
            "recalls": pooled.recalls,
            "interval": bootstrap,
        },
        "mean_over_folds": {
            "ua": best.trial.ua,
            "wa": best.trial.wa,
            "recalls": best.recalls,
            "interval": {"level": 0.95, "method": "t over folds", "folds": len(folds)},
        },
        "folds": [
            {"fold": fold.fold, "epoch": fold.epoch, "selection_score": fold.selection_score}
            | fold.test._asdict()
            for fold in folds
        ],
        "confusion": best.confusion.tolist(),
        "context": best.context,
    }


def _labels(labels: LabelBaselines) -> dict[str, Any]:
    return {
        "score": labels.score,
        "nested": labels.nested,
        "beaten": labels.beaten,
        "given": {
            each.given: {
                "ua": each.ua,
                "leaks": each.leaks,
                "explained": labels.explained(each),
                "folds": {fold: values[each.given] for fold, values in labels.folds.items()},
            }
            for each in labels.baselines
        },
    }


def plain(value: Any) -> Any:
    """Named tuples become dictionaries. NaN and infinity, which JSON lacks, become None."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
