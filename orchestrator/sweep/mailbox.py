"""The mailbox of a slot. This module imports no torch, so its process is small and starts fast."""

import asyncio
from typing import Any


class Mailbox:
    """The actor between the process of the trials and the workers of their slot."""

    def __init__(self) -> None:
        self.number = 0
        self.assignment: Any = None
        self.closed = False
        self.events: list[Any] = []
        self.changed = asyncio.Condition()

    async def put(self, assignment: Any) -> None:
        """Hand out a trial. `assignment` is a list with a Ray reference."""
        async with self.changed:
            self.number, self.assignment = self.number + 1, assignment
            self.changed.notify_all()

    async def take(self, after: int) -> tuple[int, Any] | None:
        """The trial with a number above `after`, and its number. None if the slot is closed."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.closed or self.number > after)
            return None if self.closed else (self.number, self.assignment)

    async def post(self, event: Any) -> None:
        """Store an event for the process of the trials."""
        async with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    async def read(self) -> list[Any]:
        """All events since the last call. Waits until there is one."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.events)
            events, self.events = self.events, []
            return events

    async def close(self) -> None:
        """Let the workers end."""
        async with self.changed:
            self.closed = True
            self.changed.notify_all()
