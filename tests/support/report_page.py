"""Reads the page of a report as a browser would."""

import json
import re
from html.parser import HTMLParser
from typing import Any

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.report import build
from orchestrator.results.findings import gather
from orchestrator.results.summary import summarise

MIXED = ["complete", "complete", "pruned", "complete", "failed", "complete", "pruned", "complete"]
"""Statuses of the trials of a typical sweep."""


class Page(HTMLParser):
    """The page's elements, `data` values by id, rows of tables, and JSON of figures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, float] = {}
        self.shown: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self._table = self._data = ""
        self._cell = False
        self._in = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.elements.append((tag, known))
        if tag == "data" and known.get("id"):
            self._data = str(known["id"])
            self.data[self._data] = float(str(known["value"]))
        elif tag == "table":
            self._table = str(known.get("id"))
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
            self._cell = True
        elif tag in ("script", "style"):
            self._in = tag
            if tag == "script":
                self.scripts.append((known, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        elif tag == "data":
            self._data = ""
        elif tag in ("script", "style"):
            self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            known, text = self.scripts[-1]
            self.scripts[-1] = (known, text + data)
        elif not self._in:
            self.text.append(data)
            if self._cell:
                self.tables[self._table][-1][-1] += data
            if self._data:
                self.shown[self._data] = self.shown.get(self._data, "") + data

    def ids(self) -> set[str]:
        return {str(known["id"]) for _, known in self.elements if "id" in known}

    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))

    def figure(self, name: str) -> dict[str, Any]:
        for known, text in self.scripts:
            if known.get("data-figure") == f"figure-{name}":
                return json.loads(text)
        raise KeyError(name)


def page_of(ledger: Ledger) -> Page:
    """The page of a new report."""
    files = build(ledger, gather(ledger))
    names = ["context.csv", "folds.csv", "index.html", "label_baselines.csv", "trials.csv"]
    assert files == [f"report/{name}" for name in names]
    return Page(ledger.storage.read("report/index.html").decode())


def summary(ledger: Ledger) -> dict[str, Any]:
    """The object that `ser report --json` prints."""
    return summarise(gather(ledger))


def best_of(ledger: Ledger) -> TrialRecord:
    """The trial with the highest score."""
    return max((r for r in ledger.trials() if r.score is not None), key=lambda r: r.score or 0)
