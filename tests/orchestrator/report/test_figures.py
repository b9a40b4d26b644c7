"""The numbers in the figures against the files of the sweep."""

import numpy as np
from sklearn.metrics import confusion_matrix

from orchestrator.ledger.ledger import Ledger
from tests.support.made_sweep import CLASSES
from tests.support.report_page import Page, best_of


def test_figures_hold_the_numbers_of_the_files(mixed: Ledger, page: Page) -> None:
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
        assert len(traces) == 4  # UA and loss of the training and validation parts
        values = [r["ua"] for r in rows if (r["fold"], r["split"]) == (fold, "validation")]
        assert values in [trace["y"] for trace in traces]
