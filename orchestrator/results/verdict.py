"""Sentences that say which model of a study is ahead, and whether it is really ahead."""

import math
from collections.abc import Iterator
from typing import Any

from orchestrator.metrics import Interval
from orchestrator.results.study import Pair, Study
from orchestrator.results.summary import plain


def verdict(found: Study) -> Iterator[str]:
    """Sentences that say which model is ahead, and whether it is really ahead of the next one."""
    ranked = found.ranking
    if not ranked:
        yield "No sweep has a score, so no model is ahead."
        return
    best = ranked[0]
    kind = "UA, selected on the test part (optimistic)" if best.record.optimistic else "nested UA"
    ua = best.score.headline
    over = ", mean over folds" if len(best.score.side.folds) > 1 else ", pooled over speakers"
    name = best.label
    if best.label != best.record.model:
        name += f" ({best.record.model})"
    value = f"{ua.value:.1%}{_between(ua)}"
    if len(ranked) == 1:
        yield f"{name} has a {kind} of {value}{over}."
        yield "There is no other model with a score to compare it with."
        return
    yield f"{name} is ahead: its {kind} is {value}{over}."
    pair = found.pair(best.label, ranked[1].label)
    points = 100 * (ua.value - ranked[1].score.headline.value)
    yield f"The next one is {ranked[1].label}, {points:.1f} points behind{_tests(pair)}."
    if pair.p_value is None:
        yield "No test is possible: there is one fold, and it tests some utterances twice."
    elif pair.differs:
        yield (
            f"{best.label} is really ahead: the difference is significant after Holm's correction."
        )
    else:
        yield (
            "The difference is not significant after Holm's correction. These sweeps do not show "
            f"that {best.label} is really better than {ranked[1].label}."
        )
        if pair.t_test is not None and pair.t_test.low > 0:
            yield (
                f"The interval excludes 0, but it is not corrected for the {len(found.pairs)} "
                f"pairs that were compared."
            )


def _between(interval: Interval) -> str:
    if math.isnan(interval.low):
        return ""
    return f" (95%: {interval.low:.1%} to {interval.high:.1%})"


def _tests(pair: Pair) -> str:
    parts = []
    if pair.t_test is not None and pair.t_holm is not None:
        low, high = (
            f"{round(100 * bound, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
            for bound in (pair.t_test.low, pair.t_test.high)
        )
        parts.append(
            f"95%: {low} to {high}, corrected resampled t-test, {p_value(pair.t_test.p_value)}, "
            f"after Holm {p_value(pair.t_holm)}"
        )
    if pair.mcnemar is not None and pair.mcnemar_holm is not None:
        plain_p, corrected = p_value(pair.mcnemar.p_value), p_value(pair.mcnemar_holm)
        parts.append(f"McNemar, exact, {plain_p}, after Holm {corrected}")
    return f" ({'; '.join(parts)})" if parts else ""


def p_value(value: float) -> str:
    """A p-value with three decimals, as `p = 0.012`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def study_values(found: Study) -> dict[str, Any]:
    """The comparison as plain values, for JSON. Scores are in 0..1. None replaces NaN.

    Keys: `study`, `optimistic`, `classes`, `verdict` (sentences), `models` (best first; then the
    sweeps without a score), `pairs`, `groups` (labels without a significant difference), `across`
    (model and configuration selected for each fold), `across_unavailable`, `seeds`.
    """
    models = []
    for entry in found.entries:
        values: dict[str, Any] = {"sweep": entry.label, "model": entry.record.model}
        if entry.scored is not None:
            pooled = entry.scored.pooled
            values["mean_over_folds"] = {"ua": entry.scored.ua, "wa": entry.scored.wa}
            values["pooled"] = {"ua": pooled.ua, "wa": pooled.wa, "recalls": pooled.recalls}
            values["folds"] = entry.scored.side.folds
        models.append(values)
    models.sort(key=lambda v: -v["mean_over_folds"]["ua"].value if "pooled" in v else math.inf)
    across = None
    if found.across is not None:
        across = {
            "choices": {
                fold: {"sweep": label, "trial": number}
                for fold, (label, number) in found.across.choices.items()
            },
            "mean_over_folds": {"ua": found.across.ua, "wa": found.across.wa},
            "pooled": {"ua": found.across.pooled.ua, "wa": found.across.pooled.wa},
        }
    content = {
        "study": found.name,
        "optimistic": found.record.optimistic,
        "classes": found.record.classes,
        "verdict": list(verdict(found)),
        "models": models,
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "t_test": pair.t_test,
                "t_holm": pair.t_holm,
                "mcnemar": pair.mcnemar,
                "mcnemar_holm": pair.mcnemar_holm,
                "differs": pair.differs,
            }
            for pair in found.pairs
        ],
        "groups": found.groups,
        "across": across,
        "across_unavailable": found.across_reason or None,
        "seeds": {
            label: {
                "ua": {str(seed): ua for seed, ua in spread.ua.items()},
                "own": spread.own,
                "over_seeds": spread.over_seeds,
                "deviation_seeds": spread.deviation_seeds,
                "deviation_folds": spread.deviation_folds,
            }
            for label, spread in found.seeds.items()
        },
    }
    return {key: plain(value) for key, value in content.items()}
