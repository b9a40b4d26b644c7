"""Progress of a run on standard error: bars on a terminal, otherwise one line for each event."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console


class Narrator:
    """Writes to standard error, so that standard output holds results only."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.began = time.monotonic()
        self._bars: progress.Progress | None = None
        self._tasks: dict[str, progress.TaskID] = {}

    def __reduce__(self) -> tuple[type["Narrator"], tuple[()]]:
        # Tune pickles its callbacks, and a console cannot be pickled.
        return Narrator, ()

    def say(self, text: str) -> None:
        """Print one event."""
        elapsed = time.monotonic() - self.began
        self.console.print(f"[dim]{elapsed:7.1f}s[/dim]  ", end="")
        self.console.print(text, markup=False)
        sys.stderr.flush()

    @contextmanager
    def bars(self) -> Iterator[None]:
        """Show the bars of `bar` on a terminal inside this context."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
        )
        with progress.Progress(*columns, console=self.console) as self._bars:
            yield
        self._bars, self._tasks = None, {}

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        """Show the progress of `name`. Without a terminal, print a line at each tenth."""
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total, note="")
            self._bars.update(self._tasks[name], completed=done, total=total, note=note)
        elif done == total or (total >= 10 and done % (total // 10) == 0):
            self.say(f"{name}: {done}/{total} {note}".rstrip())

    def remove(self, name: str) -> None:
        """Remove the bar of `name`."""
        if self._bars is not None and name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
