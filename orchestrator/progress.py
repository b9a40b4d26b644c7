"""What a person sees while a run works: bars on a terminal, one line an event otherwise."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Narrator:
    """Writes to standard error, so that standard output is left to results."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.began = time.monotonic()
        self._bars: Progress | None = None
        self._tasks: dict[str, int] = {}

    def __reduce__(self) -> tuple[type["Narrator"], tuple[()]]:
        # Tune pickles its callbacks beside its results; there is nothing here to keep.
        return Narrator, ()

    def say(self, text: str) -> None:
        """One event."""
        elapsed = time.monotonic() - self.began
        self.console.print(f"[dim]{elapsed:7.1f}s[/dim]  ", end="")
        self.console.print(text, markup=False)
        sys.stderr.flush()

    @contextmanager
    def bars(self) -> Iterator[None]:
        """While open, `bar` shows on a terminal what is under way."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self.console) as self._bars:
            yield
        self._bars, self._tasks = None, {}

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        """Progress of `name`; without a terminal, a line at each tenth."""
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total, note="")
            self._bars.update(self._tasks[name], completed=done, total=total, note=note)  # type: ignore[arg-type]
        elif done == total or (total >= 10 and done % (total // 10) == 0):
            self.say(f"{name}: {done}/{total} {note}".rstrip())

    def remove(self, name: str) -> None:
        """Take a bar away."""
        if self._bars is not None and name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))  # type: ignore[arg-type]
