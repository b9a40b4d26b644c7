"""A score below chance: when it is said, and which causes are named."""

import math
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import SpeakerCoverage
from orchestrator.metrics import Interval
from orchestrator.report import build
from orchestrator.results.below_chance import below_chance
from orchestrator.results.findings import gather
from orchestrator.results.summary import summarise
from tests.support.made_sweep import all_wrong, make_sweep

COVERAGE = SpeakerCoverage(
    speakers=29, labelled_speakers=29, one_class=26, one_class_share=0.9, one_utterance=1, short=3
)
LOW = Interval(0.2, 0.15, 0.24)


def made(folder: Path, coverage: SpeakerCoverage | None = None, **changed: Any) -> Ledger:
    """A sweep; `changed` are counts of the classes, by part, of its first fold."""
    ledger = make_sweep(folder, ["complete"])
    record = ledger.sweep()
    folds = list(record.audit.folds)
    parts = dict(folds[0].parts)
    for part, classes in changed.items():
        parts[part] = parts[part].model_copy(update={"classes": classes})
    folds[0] = folds[0].model_copy(update={"parts": parts})
    audit = record.audit.model_copy(update={"coverage": coverage, "folds": folds})
    ledger.write_sweep(record.model_copy(update={"audit": audit}))
    return ledger


@pytest.mark.parametrize(
    ("low", "high"), [(0.15, 0.25), (0.15, 0.4), (0.3, 0.5), (math.nan, math.nan)]
)
def test_nothing_is_said_unless_the_whole_interval_is_below(
    low: float, high: float, tmp_path: Path
) -> None:
    sweep = made(tmp_path, COVERAGE).sweep()
    assert below_chance(Interval(0.2, low, high), 0.25, sweep, {}) == []


def test_a_speaker_s_own_mean_is_a_cause_if_it_was_used(tmp_path: Path) -> None:
    sweep = made(tmp_path, COVERAGE).sweep()
    first, cause, _ = below_chance(LOW, 0.25, sweep, {})
    assert "UA is 20.0% (95 %: 15.0% to 24.0%), below chance (25.0%)" in first
    assert "90% of the labelled utterances are from speakers with one class only" in cause
    assert "features.normalize: speaker" in cause
    for value in ("train", "none"):  # the search chose another
        assert len(below_chance(LOW, 0.25, sweep, {"features.normalize": value})) == 2
    other = {"features.name": "compare_functionals"}  # with its default, which is by speaker too
    assert "features.normalize: speaker" in below_chance(LOW, 0.25, sweep, other)[1]
    assert len(below_chance(LOW, 0.25, sweep, other | {"features.normalize": "train"})) == 2
    assert len(below_chance(LOW, 0.25, made(tmp_path / "other").sweep(), {})) == 2


def test_parts_with_one_class_and_without_a_class_are_causes(tmp_path: Path) -> None:
    single = made(tmp_path / "single", test={"ang": 80, "hap": 0, "neu": 0, "sad": 0}).sweep()
    _, cause, _ = below_chance(LOW, 0.25, single, {})
    assert "in 1 of 5 folds the test part has one class only" in cause
    absent = made(tmp_path / "absent", train={"ang": 0, "hap": 9, "neu": 9, "sad": 9}).sweep()
    _, cause, _ = below_chance(LOW, 0.25, absent, {})
    assert (
        "Likely cause: some folds test classes that do not occur in their training part: ang."
        in cause
    )


def test_the_page_says_it_first(tmp_path: Path) -> None:
    assert gather(made(tmp_path / "right", COVERAGE)).alarm == []
    ledger = all_wrong(made(tmp_path / "wrong", COVERAGE))
    findings = gather(ledger)
    assert len(findings.alarm) == 3
    assert summarise(findings)["alarm"] == findings.alarm
    build(ledger, findings)
    page = ledger.storage.read("report/index.html").decode()
    body = page[page.index("<main>") :].replace("&#39;", "'")
    assert body.index("Something is wrong") < body.index('class="notes"')
    for sentence in findings.alarm:
        assert sentence in body
