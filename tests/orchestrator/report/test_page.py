"""The page's numbers against the files of the sweep, and pages of unusual sweeps."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

import orchestrator.report
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Audit
from orchestrator.report import build
from orchestrator.results.findings import gather
from tests.support.made_sweep import CLASSES, make_sweep
from tests.support.report_page import MIXED, Page, best_of, page_of, summary


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
    column = page.tables["folds"][0].index("Selects trial")
    assert {row[0]: int(row[column]) for row in page.tables["folds"][1:]} == choices
    assert set(choices.values()) != {best_of(mixed).number}


def test_tables_of_folds_classes_and_trials(mixed: Ledger, page: Page) -> None:
    best = best_of(mixed)
    header, *body = page.tables["folds"]
    names = ["Fold", "Train", "Validation", "Test", "Epoch", "Validation UA", "Test UA"]
    assert header[:7] == names
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
    assert "5 complete, 2 pruned, 1 failed, 1 unfinished" in page.words()
    assert {row[0] for row in page.tables["speakers"][1:]} == {r["speaker"] for r in predictions}


def test_context_table_has_the_counts_of_the_summary(mixed: Ledger, page: Page) -> None:
    cases = summary(mixed)["best"]["context"]
    rows = page.tables["context"][1:]
    assert [int(row[1]) for row in rows] == [case["utterances"] for case in cases]
    assert [row[0] for row in rows] == ["both turns", "one of the two turns", "neither turn"]
    header = page.tables["context"][0]
    assert header[5:] == [*CLASSES, *(f"Share of {name}" for name in CLASSES)]
    for row, case in zip(rows, cases, strict=True):
        assert row[5:9] == [f"{100 * case['recalls'][name]:.1f}%" for name in CLASSES]
        made_of = [case["classes"][name] / case["utterances"] for name in CLASSES]
        assert row[9:] == [f"{100 * share:.1f}%" for share in made_of]


def test_audit_table_has_the_counts_of_the_record(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, [], folds=2)
    audit = ledger.sweep().audit.model_dump()
    part = audit["folds"][1]["parts"]["test"]
    part["lacking"] = {f"s{number:02d}": ["sad", "neu"] for number in range(12)}
    audit["folds"][1] |= {
        "shared": {"speaker": 7},
        "context": {"test": {"unlabelled": 4, "train": 5, "validation": 6, "test": 0}},
    }
    changed = {"audit": Audit.model_validate(audit)}
    ledger.write_sweep(ledger.sweep().model_copy(update=changed))
    page = page_of(ledger)
    first, second = page.tables["audit"][1:]
    assert first == ["Ses01", "300", "60", "80", "4", "2", "0", "0", "0", "9", "", ""]
    assert second[6:10] == ["7", "5", "6", "4"]
    assert second[10].startswith("s00: no sad, neu, s01: no sad, neu, ")
    assert second[10].endswith("s09: no sad, neu, and 2 more")
    assert "160 utterances are labelled. No session occurs in two parts" in page.words()
    assert "Tested utterances: 160 in 1 fold." in page.words()


def test_same_sweep_gives_the_same_bytes(mixed: Ledger, page: Page) -> None:
    before = {name: mixed.storage.read(name) for name in build(mixed, gather(mixed))}
    assert {name: mixed.storage.read(name) for name in build(mixed, gather(mixed))} == before


def test_page_needs_no_network(page: Page) -> None:
    for tag, known in page.elements:
        for attribute in ("src", "href", "action", "data", "srcset", "poster"):
            assert attribute not in known, (tag, known)
    style = Path(str(orchestrator.report.__file__)).parent / "assets/page.css"
    assert "url(" not in style.read_text()
    policy = [str(known.get("content")) for tag, known in page.elements if tag == "meta"]
    assert any(content.startswith("default-src 'none'") for content in policy)
    scripts = [text for known, text in page.scripts if "data-figure" not in known]
    assert sum("plotly.js v" in text[:200] for text in scripts) == 1


def test_provenance_is_on_the_page(page: Page) -> None:
    words = page.words()
    for text in ("9f3c1a77e2", "torch 2.13.0", "2025-01-02T03:04:05", "scheme: leave_one_session"):
        assert text in words
    assert "10,039 utterances, 5,531 labelled, 10 speakers, 5 sessions" in words
    assert words.count("(= UAR)") == 1


def test_held_out_scores_are_labelled_optimistic(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, MIXED, selection="held_out")
    page = page_of(ledger)
    assert {"optimistic-banner", "nested-unavailable"} <= page.ids()
    assert not any("nested" in name for name in page.data)
    tags = sum(known.get("class") == "tag" for _, known in page.elements)
    assert tags >= 6  # three headline scores, recalls, confusion, folds
    assert "optimistic" in page.figure("search")["layout"]["yaxis"]["title"]["text"]
    assert "Validation" not in page.tables["folds"][0]
    # The reported row is the row of the selected epoch.
    rows = [r for r in ledger.folds(best_of(ledger).id).to_pylist() if r["split"] == "test"]
    chosen = [row["ua"] for row in rows if row["selected"]]
    assert len(chosen) == 5
    assert page.data["ua-mean"] == pytest.approx(np.mean(chosen))


@pytest.mark.parametrize(
    ("statuses", "running", "says"),
    [
        pytest.param([], 0, "No trial has finished yet.", id="no trial"),
        pytest.param([], 2, "No trial has finished yet.", id="two running"),
        pytest.param(["failed"], 0, "The only trial failed. Trial 0: loss is", id="one failed"),
        pytest.param(["failed"] * 3, 1, "All 3 trials failed. Trials 0, 1, 2: loss", id="failed"),
    ],
)
def test_sweep_without_a_score(
    tmp_path: Path, statuses: list[str], running: int, says: str
) -> None:
    ledger = make_sweep(tmp_path, statuses, running=running)
    page = page_of(ledger)
    assert re.search(says, page.words())
    assert "no-score" in page.ids()
    assert page.data == {}
    assert len(page.tables.get("trials", [[]])) == 1 + len(statuses)
    assert len(ledger.storage.read("report/trials.csv").splitlines()) == 1 + len(statuses)
    assert len(ledger.storage.read("report/folds.csv").splitlines()) == 1


def test_one_trial_of_one_fold_has_no_optimism(tmp_path: Path) -> None:
    page = page_of(make_sweep(tmp_path, ["complete"], folds=1))
    assert page.data["optimism-pooled"] == 0
    assert page.shown["optimism-pooled"] == "0.0 points"
