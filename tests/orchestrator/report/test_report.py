"""The report against its sources: a sweep is written through the ledger, built, and read back."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.made_sweep import CLASSES, make_sweep
from tests.support.report_page import Page, best_of, page_of
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from orchestrator.ledger.ledger import (
    Ledger,
)
from orchestrator.report import build, summary

MIXED = ["complete", "complete", "pruned", "complete", "failed", "complete", "pruned", "complete"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return make_sweep(tmp_path_factory.mktemp("mixed"), MIXED, running=1)


@pytest.fixture(scope="module")
def page(mixed: Ledger) -> Page:
    return page_of(mixed)


def test_headline_is_recomputed_from_the_files(mixed: Ledger, page: Page) -> None:
    best = best_of(mixed)
    rows = mixed.predictions(best.id).to_pylist()
    truth, guess = [row["truth"] for row in rows], [row["prediction"] for row in rows]
    assert page.data["ua-pooled"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert page.data["wa-pooled"] == pytest.approx(accuracy_score(truth, guess))
    tests = [row for row in mixed.folds(best.id).to_pylist() if row["split"] == "test"]
    assert page.data["ua-mean"] == pytest.approx(np.mean([row["ua"] for row in tests]))
    assert page.data["wa-mean"] == pytest.approx(np.mean([row["wa"] for row in tests]))
    for name in ("ua-pooled", "ua-mean", "wa-pooled", "wa-mean"):
        assert page.shown[name] == f"{100 * page.data[name]:.1f}%"
    assert f"Trial {best.number} ({best.id}) has the highest mean UA on the validation part" in (
        page.words()
    )
    interval = stats.t.interval(
        0.95, 4, np.mean([r["ua"] for r in tests]), stats.sem([r["ua"] for r in tests])
    )
    assert f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" in page.words()
    assert "Chance: 25.0%" in page.words()


def test_nested_and_optimism_are_recomputed_from_the_files(mixed: Ledger, page: Page) -> None:
    tables = {r.number: mixed.folds(r.id).to_pylist() for r in mixed.trials() if r.score}
    ids = {record.number: record.id for record in mixed.trials()}
    ua, truth, guess, choices = [], [], [], {}
    for fold in [f"Ses{number:02d}" for number in range(1, 6)]:
        highest = {
            number: max(
                row["ua"] for row in rows if (row["fold"], row["split"]) == (fold, "validation")
            )
            for number, rows in tables.items()
        }
        choice = max(highest, key=lambda number: (highest[number], -number))
        choices[fold] = choice
        ua += [r["ua"] for r in tables[choice] if (r["fold"], r["split"]) == (fold, "test")]
        for row in mixed.predictions(ids[choice]).to_pylist():
            if row["fold"] == fold:
                truth.append(row["truth"])
                guess.append(row["prediction"])
    assert len(ua) == 5
    assert page.data["ua-nested-mean"] == pytest.approx(np.mean(ua))
    assert page.data["ua-nested-pooled"] == pytest.approx(balanced_accuracy_score(truth, guess))
    for part in ("pooled", "mean"):
        plain, nested = page.data[f"ua-{part}"], page.data[f"ua-nested-{part}"]
        assert page.data[f"optimism-{part}"] == pytest.approx(plain - nested)
    column = page.tables["folds"][0].index("Would choose trial")
    assert {row[0]: int(row[column]) for row in page.tables["folds"][1:]} == choices
    assert set(choices.values()) != {best_of(mixed).number}


def test_tables_of_folds_classes_and_trials(mixed: Ledger, page: Page) -> None:
    best = best_of(mixed)
    header, *body = page.tables["folds"]
    assert header[:7] == [
        "Fold",
        "Train",
        "Validation",
        "Test",
        "Epoch",
        "Validation UA",
        "Test UA",
    ]
    rows = mixed.folds(best.id).to_pylist()
    for line in body:
        epochs = max(row["epoch"] for row in rows if row["fold"] == line[0])
        test = next(r for r in rows if r["fold"] == line[0] and r["split"] == "test")
        assert line[1:4] == ["300", "60", "80"]
        assert line[4] == f"{test['epoch']} of {epochs}"
        assert line[6] == f"{100 * test['ua']:.1f}%"
        assert line[8:12] == [f"{100 * test[f'recall_{name}']:.1f}%" for name in CLASSES]
    predictions = mixed.predictions(best.id).to_pylist()
    truth, guess = ([row[key] for row in predictions] for key in ("truth", "prediction"))
    counts = confusion_matrix(truth, guess, labels=CLASSES)
    assert [[int(cell) for cell in row[-4:]] for row in page.tables["classes"][1:]] == (
        counts.tolist()
    )
    recalls = recall_score(truth, guess, labels=CLASSES, average=None)
    assert [row[1] for row in page.tables["classes"][1:]] == [f"{100 * r:.1f}%" for r in recalls]
    trials = page.tables["trials"][1:]
    assert [line[2] for line in trials] == MIXED
    assert [line[1] for line in trials] == [record.id for record in mixed.trials()]
    assert trials[4][-1] == "loss is not finite in fold Ses03, epoch 2"
    assert "5 complete, 2 pruned, 1 failed, 1 not ended" in page.words()
    assert {row[0] for row in page.tables["speakers"][1:]} == {r["speaker"] for r in predictions}


def test_figures_hold_the_same_numbers(mixed: Ledger, page: Page) -> None:
    best = best_of(mixed)
    predictions = mixed.predictions(best.id).to_pylist()
    truth, guess = ([row[key] for row in predictions] for key in ("truth", "prediction"))
    shares = confusion_matrix(truth, guess, labels=CLASSES, normalize="true")
    np.testing.assert_allclose(page.figure("confusion")["data"][0]["z"], shares)
    search = {trace["name"]: trace for trace in page.figure("search")["data"]}
    records = mixed.trials()
    for status in ("complete", "pruned"):
        chosen = [record for record in records if record.status == status]
        assert search[status]["x"] == [record.number for record in chosen]
        assert search[status]["y"] == [record.score for record in chosen]
    assert search["failed (no score)"]["x"] == [4]
    expected = [max(r.score or 0 for r in records[: end + 1]) for end in range(len(records))]
    assert search["best so far"]["y"] == expected
    curves = page.figure("curves")["data"]
    rows = mixed.folds(best.id).to_pylist()
    for fold in {row["fold"] for row in rows}:
        traces = [trace for trace in curves if trace["name"] == fold]
        assert len(traces) == 4  # train and validation, UA and loss
        values = [r["ua"] for r in rows if (r["fold"], r["split"]) == (fold, "validation")]
        assert values in [trace["y"] for trace in traces]


def test_summary_is_json_and_agrees_with_the_page(mixed: Ledger, page: Page) -> None:
    found = json.loads(json.dumps(summary(mixed), allow_nan=False))
    assert found["best"]["trial"] == best_of(mixed).id
    assert found["best"]["hyperparameters"] == best_of(mixed).hyperparameters
    assert found["best"]["pooled"]["ua"]["value"] == page.data["ua-pooled"]
    low, high = (found["best"]["pooled"]["ua"][end] for end in ("low", "high"))
    assert low < page.data["ua-pooled"] < high
    assert found["best"]["mean_over_folds"]["wa"]["value"] == page.data["wa-mean"]
    assert found["nested"]["pooled"]["ua"] == page.data["ua-nested-pooled"]
    assert found["optimism"]["mean_over_folds"]["ua"] == page.data["optimism-mean"]
    assert found["trials"] == {"complete": 5, "pruned": 2, "failed": 1, "unfinished": 1}
    assert found["chance"]["ua"] == 0.25
    assert found["notes"] == ["Synthetic numbers: this sweep was made by a test."]
    assert len(found["best"]["folds"]) == 5
    assert not found["optimistic"]


def test_context_cases_are_counted_from_the_predictions(mixed: Ledger, page: Page) -> None:
    best = summary(mixed)["best"]
    rows = mixed.predictions(best["trial"]).to_pylist()
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
    shown = page.tables["context"][1:]
    assert [int(cells[1]) for cells in shown] == [case["utterances"] for case in best["context"]]


def test_csv_files_hold_every_trial_and_every_epoch(mixed: Ledger, page: Page) -> None:
    text = mixed.storage.read("report/trials.csv").decode()
    trials = list(csv.DictReader(io.StringIO(text)))
    records = mixed.trials()
    assert [row["trial"] for row in trials] == [record.id for record in records]
    for row, record in zip(trials, records, strict=True):
        assert row["status"] == record.status
        assert (float(row["score"]) if row["score"] else None) == record.score
        assert (
            float(row["training.learning_rate"])
            == (record.hyperparameters["training.learning_rate"])
        )
    folds = list(csv.DictReader(io.StringIO(mixed.storage.read("report/folds.csv").decode())))
    scored = [record for record in records if record.status != "failed"]
    assert len(folds) == sum(mixed.folds(record.id).num_rows for record in scored)
    first = mixed.folds(scored[0].id).to_pylist()[0]
    assert {
        key: str(value) for key, value in first.items() if key in ("fold", "epoch", "split")
    } == {key: folds[0][key] for key in ("fold", "epoch", "split")}
    assert float(folds[0]["ua"]) == first["ua"]


def test_same_sweep_gives_the_same_bytes(mixed: Ledger, page: Page) -> None:
    before = {name: mixed.storage.read(name) for name in build(mixed)}
    assert {name: mixed.storage.read(name) for name in build(mixed)} == before


def test_page_needs_no_network(page: Page) -> None:
    for tag, known in page.elements:
        for attribute in ("src", "href", "action", "data", "srcset", "poster"):
            assert attribute not in known, (tag, known)
    assert "url(" not in (Path(str(page_css())).read_text())
    policy = [str(known.get("content")) for tag, known in page.elements if tag == "meta"]
    assert any(content.startswith("default-src 'none'") for content in policy)
    scripts = [text for known, text in page.scripts if "data-figure" not in known]
    assert sum("plotly.js v" in text[:200] for text in scripts) == 1


def page_css() -> Path:
    import orchestrator.report

    return Path(str(orchestrator.report.__file__)).parent / "page.css"


def test_provenance_is_on_the_page(page: Page) -> None:
    words = page.words()
    for text in ("9f3c1a77e2", "torch 2.13.0", "2025-01-02T03:04:05", "scheme: leave_one_session"):
        assert text in words
    assert words.count("(= UAR)") == 1
