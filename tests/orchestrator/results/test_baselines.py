"""The verdict on a score beside the label-only baselines."""

import math
from pathlib import Path

import pytest

from orchestrator.data.baselines import Baseline
from orchestrator.metrics import Interval
from orchestrator.results.baselines import LabelBaselines
from orchestrator.results.findings import gather
from tests.support.made_sweep import make_sweep

CHANCE = Baseline("nothing", Interval(0.25, 0.25, 0.25), False)
DIALOGUE = Baseline("dialogue", Interval(0.70, 0.65, 0.75), True)
SPEAKER = Baseline("speaker", Interval(0.30, 0.20, 0.40), False)


def beside(score: tuple[float, float, float], *baselines: Baseline) -> LabelBaselines:
    return LabelBaselines(Interval(*score), True, [CHANCE, *baselines], {})


@pytest.mark.parametrize(
    ("score", "baselines", "verdict"),
    [
        ((0.80, 0.71, 0.90), (DIALOGUE,), None),
        ((0.80, 0.70, 0.90), (DIALOGUE,), "same dialogue, without any sound, have 70.0%."),
        ((0.60, 0.50, 0.69), (DIALOGUE, SPEAKER), "is 60.0% (50.0% to 69.0%). Guesses from"),
        ((0.35, 0.29, 0.40), (SPEAKER,), "same speaker, without any sound, have 30.0%."),
        ((0.35, 0.31, 0.40), (SPEAKER,), None),
        ((0.30, 0.26, 0.34), (), None),
        ((0.26, 0.20, 0.32), (), "A guess without any knowledge has 25.0%."),
        ((0.20, 0.15, 0.24), (), "is 20.0% (15.0% to 24.0%). A guess"),
        ((0.26, math.nan, math.nan), (), None),
        ((0.25, math.nan, math.nan), (), "nested UA, mean over folds, is 25.0%. A guess"),
    ],
)
def test_a_score_must_be_above_the_highest_baseline_by_its_interval(
    score: tuple[float, float, float], baselines: tuple[Baseline, ...], verdict: str | None
) -> None:
    labels = beside(score, *baselines)
    assert labels.beaten == (verdict is None)
    assert verdict is None or verdict in str(labels.verdict())
    assert (labels.verdict() is None) == (verdict is None)


@pytest.mark.parametrize(
    ("score", "share"), [(0.85, 0.75), (0.70, 1.0), (0.40, 1.0), (0.25, None), (0.20, None)]
)
def test_the_explained_share_is_of_the_score_above_chance(
    score: float, share: float | None
) -> None:
    labels = beside((score, score, score), DIALOGUE, SPEAKER)
    assert labels.explained(DIALOGUE) == (None if share is None else pytest.approx(share))
    assert labels.explained(SPEAKER) is labels.explained(CHANCE) is None
    (sentence,) = labels.leaks()
    assert ("could explain" in sentence) == (share is not None)


def test_one_fold_has_the_interval_over_speakers(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"], folds=1)
    record = ledger.sweep()
    fold = record.audit.folds[0].model_copy(update={"label_baselines": {"nothing": 0.25}})
    audit = record.audit.model_copy(update={"folds": [fold]})
    ledger.write_sweep(record.model_copy(update={"audit": audit}))
    findings = gather(ledger)
    assert findings.best is not None
    assert findings.nested is not None
    assert findings.labels is not None
    assert findings.labels.score == findings.best.pooled.ua
    assert findings.labels.score.value == pytest.approx(findings.nested.ua.value)
    assert findings.labels.beaten
