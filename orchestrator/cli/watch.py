"""The status of a sweep: one table, or a live view of a running sweep."""

import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.results.status import StatusReader

EVERY = 2.0
"""Seconds between two looks at the storage."""
SILENCE = 30.0
"""Seconds without a sign of life of the driver after which the view ends."""
QUIET = 60.0
"""Seconds without a line on an output that is not a terminal, as long as only epochs advance."""
SHOWN = 8
"""Running trials that the table names."""


def print_status(values: dict[str, Any], folder: str) -> None:
    """The status as a table; see `orchestrator.results.status.StatusReader.read`."""
    Console(markup=False, emoji=False).print(status_table(values, folder))


def status_table(values: dict[str, Any], title: str) -> Table:
    """Items and values in two columns."""
    table = Table("item", "value", title=Text(title), title_justify="left")
    for name, value in status_rows(values).items():
        table.add_row(name, Text(value))  # reasons of failures may hold brackets
    return table


def status_rows(values: dict[str, Any]) -> dict[str, str]:
    """The rows of the table."""
    finished = _finished(values)
    best, fold_epochs = values["best"], values["fold_epochs"]
    rows = {
        "sweep": f"{values['name']}, model {values['model']}",
        "trials": f"{finished} of {values['trials']} finished: {_counts(values)}",
        "folds": f"{values['folds']} in each trial, up to {values['epochs']} epochs",
        "best score": "no score yet" if best is None else f"{best['score']:.4f} ({best['id']})",
        "fold-epochs": f"{fold_epochs['done']:,} done, at most {fold_epochs['left']:,} left",
        "time left": _time_left(values),
        "GPUs of a trial": "no driver" if values["gpus"] is None else f"{values['gpus']:g}",
    }
    lines = [_running(row, values["epochs"]) for row in values["running"]]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"and {len(lines) - SHOWN} more"]
    rows["unfinished"] = "\n".join(lines) or "no trial"
    for failure in values["failures"]:
        rows[f"trial {failure['number']} failed"] = str(failure["reason"])
    return rows


def status_line(values: dict[str, Any]) -> str:
    """The status in one line, for an output that is not a terminal."""
    best = values["best"]
    running = ", ".join(_running(row, values["epochs"]) for row in values["running"])
    parts = [
        f"{_finished(values)} of {values['trials']} trials finished ({_counts(values)})",
        "no score yet" if best is None else f"best score {best['score']:.4f}",
        f"unfinished: {running}" if running else "",
        f"at most {values['fold_epochs']['left']:,} fold-epochs left",
        f"time left {_time_left(values)}",
    ]
    return "; ".join(filter(None, parts))


def watch(reader: StatusReader, folder: str) -> None:
    """Show the status until the sweep ends, its driver is silent for long, or Ctrl-C.

    On a terminal one table is updated. On another output, a line follows each finished trial, and
    each minute in which epochs advance. Raises NoSweepError.
    """
    console = Console(markup=False, emoji=False)
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                for values in _looks(reader):
                    live.update(status_table(values, folder), refresh=True)
        else:
            _print_lines(_looks(reader))
    except KeyboardInterrupt:
        return
    if _finished(values := reader.read()) < values["trials"]:
        print("no driver works on this sweep. To resume it, run its `ser sweep` again")


def _print_lines(looks: Iterator[dict[str, Any]]) -> None:
    shown, line, due = None, "", 0.0
    for values in looks:
        important = (_finished(values), len(values["failures"]))
        new = status_line(values)
        if important != shown or (new != line and time.monotonic() > due):
            print(f"{time.strftime('%H:%M:%S')}  {new}")
            sys.stdout.flush()
            shown, line, due = important, new, time.monotonic() + QUIET


def _looks(reader: StatusReader) -> Iterator[dict[str, Any]]:
    """The status now, then every `EVERY` seconds as long as the sweep runs."""
    life = reader.signs_of_life()
    alive_until = time.monotonic() + (SILENCE if any(life) else 0.0)
    while True:
        values = reader.read()
        yield values
        if _finished(values) >= values["trials"] or time.monotonic() > alive_until:
            return
        time.sleep(EVERY)
        if (now := reader.signs_of_life()) != life:
            # Both records are gone: the driver has ended.
            alive_until = time.monotonic() + (SILENCE if any(now) else 0.0)
            life = now


def _finished(values: dict[str, Any]) -> int:
    return int(sum(values[status] for status in ("complete", "pruned", "failed")))


def _counts(values: dict[str, Any]) -> str:
    return ", ".join(f"{values[status]} {status}" for status in ("complete", "pruned", "failed"))


def _running(row: dict[str, Any], epochs: int) -> str:
    score = "" if row["score"] is None else f", score {row['score']:.3f}"
    return f"trial {row['number']} at epoch {row['epoch']} of {epochs}{score}"


def _time_left(values: dict[str, Any]) -> str:
    seconds = values["seconds_left"]
    if seconds is None:
        finished = _finished(values)
        return "not known without a driver" if finished else "not known before a trial has finished"
    hours, minutes = divmod(-(-int(seconds) // 60), 60)
    return f"about {hours} h {minutes:02d} min" if hours else f"about {minutes} min"
