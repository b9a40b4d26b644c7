"""trials.csv, folds.csv and the table of hyperparameters, against the records."""

import csv
import io
from pathlib import Path

from orchestrator.ledger.ledger import Ledger
from orchestrator.report import build
from orchestrator.results.findings import gather
from tests.support.made_sweep import CLASSES, make_sweep
from tests.support.report_page import Page, summary


def test_csv_files_hold_every_trial_and_every_epoch(mixed: Ledger, page: Page) -> None:
    trials = list(csv.DictReader(io.StringIO(mixed.storage.read("report/trials.csv").decode())))
    records = mixed.trials()
    assert [row["trial"] for row in trials] == [record.id for record in records]
    for row, record in zip(trials, records, strict=True):
        assert row["status"] == record.status
        assert (float(row["score"]) if row["score"] else None) == record.score
        assert (int(row["epochs"]), float(row["seconds"])) == (record.epochs, record.seconds)
        rate = record.hyperparameters["training.learning_rate"]
        assert float(row["training.learning_rate"]) == rate
    folds = list(csv.DictReader(io.StringIO(mixed.storage.read("report/folds.csv").decode())))
    scored = [record for record in records if record.status != "failed"]
    assert len(folds) == sum(mixed.folds(record.id).num_rows for record in scored)
    first = mixed.folds(scored[0].id).to_pylist()[0]
    assert [folds[0][key] for key in ("fold", "epoch", "split")] == [
        str(first[key]) for key in ("fold", "epoch", "split")
    ]
    assert float(folds[0]["ua"]) == first["ua"]


def test_context_csv_has_recalls_and_counts_of_each_class(mixed: Ledger, page: Page) -> None:
    read = list(csv.DictReader(io.StringIO(mixed.storage.read("report/context.csv").decode())))
    cases = summary(mixed)["best"]["context"]
    assert [row["same"] for row in read] == [case["same"] for case in cases]
    for row, case in zip(read, cases, strict=True):
        for name in ("utterances", "share", "ua", "wa"):
            assert float(row[name]) == case[name]
        for name in CLASSES:
            assert float(row[f"recall_{name}"]) == case["recalls"][name]
            assert int(row[f"utterances_{name}"]) == case["classes"][name]


def test_a_class_that_a_case_lacks_has_an_empty_recall(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"], folds=1, utterances=12)
    build(ledger, gather(ledger))
    read = list(csv.DictReader(io.StringIO(ledger.storage.read("report/context.csv").decode())))
    absent = [row[f"recall_{c}"] for row in read for c in CLASSES if row[f"utterances_{c}"] == "0"]
    assert absent
    assert set(absent) == {""}


def test_hyperparameters_show_a_range_or_the_values(mixed: Ledger, page: Page) -> None:
    rows = {row[0]: row[1:] for row in page.tables["hyperparameters"][1:]}
    rates = [record.hyperparameters["training.learning_rate"] for record in mixed.trials()]
    assert rows["training.learning_rate"][1] == f"{min(rates):.4g} to {max(rates):.4g}"
    assert rows["training.label_smoothing"][1:] == ["0, 0.1", "2"]
