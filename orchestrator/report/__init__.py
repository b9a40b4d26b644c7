"""Writes the report of a sweep: a page and CSV files."""

from orchestrator.ledger.ledger import Ledger
from orchestrator.report.page import render
from orchestrator.report.tables import context_csv, folds_csv, label_baselines_csv, trials_csv
from orchestrator.results.findings import Findings


def build(ledger: Ledger, findings: Findings) -> list[str]:
    """Write `report/index.html` and its CSV files into the sweep.

    The files are `trials.csv`, `folds.csv`, `context.csv` and `label_baselines.csv`. Returns the
    names relative to the sweep's folder. The same sweep gives the same bytes.
    """
    files = {
        "report/trials.csv": trials_csv(findings),
        "report/folds.csv": folds_csv(findings),
        "report/context.csv": context_csv(findings),
        "report/label_baselines.csv": label_baselines_csv(findings),
        "report/index.html": render(findings).encode(),
    }
    for name, data in files.items():
        ledger.storage.write(name, data)
    return sorted(files)
