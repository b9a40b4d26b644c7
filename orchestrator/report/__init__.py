"""Turns a sweep's folder into a page, two CSV files and a JSON object."""

from typing import Any

from orchestrator.ledger.ledger import Ledger
from orchestrator.results.findings import gather
from orchestrator.report.page import render
from orchestrator.report.summary import summarise
from orchestrator.report.tables import folds_csv, trials_csv

__all__ = ["build", "summary"]


def build(ledger: Ledger) -> list[str]:
    """Write `report/index.html`, `report/trials.csv` and `report/folds.csv` into the sweep.

    Returns their names, relative to the sweep's folder. The same sweep gives the same bytes.
    Raises LedgerError where there is no sweep; trials that failed or have not ended are no
    error, the page counts them.
    """
    findings = gather(ledger)
    files = {
        "report/trials.csv": trials_csv(findings),
        "report/folds.csv": folds_csv(findings),
        "report/index.html": render(findings).encode(),
    }
    for name, data in files.items():
        ledger.storage.write(name, data)
    return sorted(files)


def summary(ledger: Ledger) -> dict[str, Any]:
    """The sweep's result as plain values: see `orchestrator.report.summary.summarise`."""
    return summarise(gather(ledger))
