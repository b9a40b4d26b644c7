"""Writes the report of a sweep: a page and two CSV files."""

from orchestrator.ledger.ledger import Ledger
from orchestrator.report.page import render
from orchestrator.report.tables import folds_csv, trials_csv
from orchestrator.results.findings import Findings


def build(ledger: Ledger, findings: Findings) -> list[str]:
    """Write `report/index.html`, `report/trials.csv` and `report/folds.csv` into the sweep.

    Returns their names, relative to the sweep's folder. The same sweep gives the same bytes.
    """
    files = {
        "report/trials.csv": trials_csv(findings),
        "report/folds.csv": folds_csv(findings),
        "report/index.html": render(findings).encode(),
    }
    for name, data in files.items():
        ledger.storage.write(name, data)
    return sorted(files)
