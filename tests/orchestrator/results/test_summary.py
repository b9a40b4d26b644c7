"""The plain values of a sweep: JSON, and the same numbers as the page and the files."""

import json
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from tests.support.made_sweep import CLASSES, make_sweep
from tests.support.report_page import MIXED, best_of, page_of, summary


def test_summary_is_json_and_agrees_with_the_page(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, MIXED, running=1)
    page = page_of(ledger)
    values = json.loads(json.dumps(summary(ledger), allow_nan=False))
    best = values["best"]
    assert best["trial"] == best_of(ledger).id
    assert best["hyperparameters"] == best_of(ledger).hyperparameters
    assert best["pooled"]["ua"]["value"] == page.data["ua-pooled"]
    low, high = (best["pooled"]["ua"][end] for end in ("low", "high"))
    assert low < page.data["ua-pooled"] < high
    assert best["mean_over_folds"]["wa"]["value"] == page.data["wa-mean"]
    assert len(best["folds"]) == 5
    assert values["nested"]["pooled"]["ua"] == page.data["ua-nested-pooled"]
    assert values["optimism"]["mean_over_folds"]["ua"] == page.data["optimism-mean"]
    assert values["trials"] == {"complete": 5, "pruned": 2, "failed": 1, "unfinished": 1}
    assert values["chance"]["ua"] == 0.25
    assert values["notes"] == ["Synthetic numbers: a test made this sweep."]
    assert not values["optimistic"]


def test_context_cases_are_counted_from_the_predictions(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"])
    best = summary(ledger)["best"]
    rows = ledger.predictions(best["trial"]).to_pylist()
    cases: dict[str, list[dict[str, Any]]] = {"both": [], "one": [], "none": []}
    for row in rows:
        equal = [row["truth"] == row[key] for key in ("own_previous", "other_previous")]
        cases[("none", "one", "both")[sum(equal)]].append(row)
    assert [case["same"] for case in best["context"]] == list(cases)
    for case in best["context"]:
        mine = cases[case["same"]]
        truth, guess = [row["truth"] for row in mine], [row["prediction"] for row in mine]
        assert case["utterances"] == len(mine) > 0
        assert case["share"] == pytest.approx(len(mine) / len(rows))
        assert case["wa"] == pytest.approx(accuracy_score(truth, guess))
        assert case["ua"] == pytest.approx(balanced_accuracy_score(truth, guess))
        assert case["classes"] == {name: truth.count(name) for name in CLASSES}
        recalls = recall_score(truth, guess, labels=CLASSES, average=None)
        assert list(case["recalls"].values()) == pytest.approx(recalls)


def test_held_out_has_no_nested_estimate(tmp_path: Path) -> None:
    values = summary(make_sweep(tmp_path, ["complete"], selection="held_out"))
    assert values["optimistic"]
    assert values["nested"] is None
    assert values["optimism"] is None
    assert "no validation part" in values["nested_unavailable"]


def test_a_sweep_without_a_score_has_no_best(tmp_path: Path) -> None:
    values = summary(make_sweep(tmp_path, ["failed"], running=2))
    assert values["best"] is None
    assert values["chance"] is None
    assert values["nested_unavailable"] == "No finished trial has a score."
    assert values["trials"] == {"complete": 0, "pruned": 0, "failed": 1, "unfinished": 2}


def test_one_fold_has_no_interval_over_folds(tmp_path: Path) -> None:
    values = summary(make_sweep(tmp_path, ["complete"], folds=1))
    assert values["best"]["mean_over_folds"]["ua"]["low"] is None
    assert values["best"]["pooled"]["ua"]["low"] is not None
