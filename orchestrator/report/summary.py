"""The findings as one JSON-able object: what `ser report --json` prints."""

import math
from typing import Any

from orchestrator.metrics import Interval, Scores
from orchestrator.results.findings import BOOTSTRAP_SAMPLES, BOOTSTRAP_SEED, Findings


def summarise(findings: Findings) -> dict[str, Any]:
    """A dictionary of plain values; scores are in 0..1, and None where there is none (NaN).

    Keys: `sweep`, `selection`, `metric` (what chose epochs and trials), `optimistic`, `classes`,
    `chance`, `trials` (by status), `best` (`trial`, `number`, `status`, `score`,
    `hyperparameters`, `pooled`, `mean_over_folds`, `folds`, `confusion`, `context`), `nested`,
    `optimism`, `warnings`, `notes`. `chance` and `best` are None where no trial has a score,
    `nested` and `optimism` also where there is no validation part; `nested_unavailable` then says
    why.
    """
    best, nested = findings.best, findings.nested
    optimism = None
    if best and nested:
        optimism = {
            "pooled": {
                "ua": best.pooled.ua.value - nested.pooled.ua,
                "wa": best.pooled.wa.value - nested.pooled.wa,
            },
            "mean_over_folds": {
                "ua": best.ua.value - nested.ua.value,
                "wa": best.wa.value - nested.wa.value,
            },
        }
    content = {
        "sweep": findings.name,
        "selection": findings.selection,
        "metric": findings.metric,
        "optimistic": findings.optimistic,
        "classes": findings.classes,
        "chance": {"ua": best.chance_ua, "wa": best.chance_wa} if best else None,
        "trials": findings.counts,
        "best": _best(findings),
        "nested": _nested(findings),
        "nested_unavailable": findings.nested_reason or None,
        "optimism": optimism,
        "warnings": findings.warnings,
        "notes": notes(findings),
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def notes(findings: Findings) -> list[str]:
    """What sweep.yaml wants said wherever its numbers are shown."""
    found = findings.sweep.get("notes") or []
    return [found] if isinstance(found, str) else [str(note) for note in found]


def _best(findings: Findings) -> dict[str, Any] | None:
    best = findings.best
    if best is None:
        return None
    record = best.trial.record
    return {
        "trial": record.id,
        "number": record.number,
        "model": record.model,
        "status": record.status,
        "score": record.score,
        "hyperparameters": record.hyperparameters,
        "pooled": {
            "ua": _interval(best.pooled.ua),
            "wa": _interval(best.pooled.wa),
            "recalls": {str(k): _interval(v) for k, v in best.pooled.recalls.items()},
            "interval": {
                "level": 0.95,
                "method": "percentile bootstrap over speakers",
                "speakers": best.pooled.speakers,
                "samples": BOOTSTRAP_SAMPLES,
                "seed": BOOTSTRAP_SEED,
            },
        },
        "mean_over_folds": {
            "ua": _interval(best.ua),
            "wa": _interval(best.wa),
            "recalls": {name: _interval(value) for name, value in best.recalls.items()},
            "interval": {"level": 0.95, "method": "t over folds", "folds": len(best.trial.folds)},
        },
        "folds": [
            {"fold": fold.fold, "epoch": fold.epoch, "selection_score": fold.selection_score}
            | _scores(fold.test)
            for fold in best.trial.folds
        ],
        "confusion": best.confusion.tolist(),
        "context": [
            {"same": case.same, "utterances": case.utterances, "share": case.share}
            | _scores(case.scores)
            for case in best.context
        ],
    }


def _nested(findings: Findings) -> dict[str, Any] | None:
    nested = findings.nested
    if nested is None:
        return None
    return {
        "pooled": _scores(nested.pooled),
        "mean_over_folds": {"ua": _interval(nested.ua), "wa": _interval(nested.wa)},
        "choices": nested.choices,
    }


def _interval(value: Interval) -> dict[str, float]:
    return {"value": value.value, "low": value.low, "high": value.high}


def _scores(value: Scores) -> dict[str, Any]:
    recalls = {str(name): recall for name, recall in value.recalls.items()}
    return {"ua": value.ua, "wa": value.wa, "recalls": recalls}


def _plain(value: Any) -> Any:
    """JSON has no NaN: None takes its place."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
