"""One driver at a time works on a sweep: the driver holds a lease and renews it.

A driver takes a lease in two steps: it writes the lease, and later confirms that no other driver
has written one since. Meanwhile it may start Ray, but it writes nothing else.

No clocks are compared. A lease is dead if its process on this machine is dead, or if its counter
does not change for longer than a renewal may take.
"""

import _thread
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from pydantic import ConfigDict, Field, ValidationError

from features.storage import Storage
from orchestrator.errors import LeaseError, LedgerError
from orchestrator.ledger.records import Record
from orchestrator.ledger.seals import seal, unseal

NAME = "lease.json"
BEAT = 2.0
"""Seconds between renewals."""
PATIENCE = 10.0
"""Seconds without a renewal after which a driver on another machine counts as dead."""
TAKEN_OVER = signal.SIGUSR2
"""Interrupts the main thread. Not SIGINT: processes that a script starts in the background
ignore it."""


class Holder(Record):
    """The driver that holds a lease, and how often it has renewed the lease.

    pid : above 0, because smaller numbers mean groups of processes
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host: str
    pid: int = Field(ge=1, lt=2**31)
    token: str
    beat: int = 0


@contextmanager
def lease(storage: Storage) -> Iterator[Callable[[], None]]:
    """Hold the sweep's lease. Raises LeaseError, with the holder's name, if it is taken.

    Yields a function that confirms the lease. Call it before the first write to the folder. The
    function waits until a driver that started at the same time must have written its own lease,
    and raises LeaseError if one did.

    For the main thread: another driver that takes the lease over interrupts it.
    """
    storage = replace(storage, waits=())  # the renewals are the retries
    mine = Holder(host=socket.gethostname(), pid=os.getpid(), token=uuid.uuid4().hex)
    _wait_for(storage)
    _write(storage, mine)
    # Longer than the time between two drivers that start together.
    certain = time.monotonic() + BEAT / 2

    def confirm() -> None:
        time.sleep(max(0.0, certain - time.monotonic()))
        if other := _other(storage, mine):
            raise _refusal(storage, other)

    before = signal.signal(TAKEN_OVER, signal.default_int_handler)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(storage, mine, ended), daemon=True)
    renewing.start()
    try:
        yield confirm
    except KeyboardInterrupt:  # from a person, or from `_renew`
        if other := _other(storage, mine):
            raise _refusal(storage, other) from None
        raise
    finally:
        ended.set()
        renewing.join()
        signal.signal(TAKEN_OVER, before)
        # If the storage fails, the lease stays, and is dead as soon as this process is.
        with suppress(OSError):
            holder = holder_of(storage)
            if holder is not None and holder.token == mine.token:
                storage.delete(NAME)


def _wait_for(storage: Storage) -> None:
    """Return when no living driver holds the lease. Raises LeaseError if one does."""
    first = holder_of(storage)
    if first is None or _died_here(first):
        return
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(BEAT / 4)
        now = holder_of(storage)
        if now is None or _died_here(now):
            return
        if now != first:
            raise _refusal(storage, now)


def _refusal(storage: Storage, holder: Holder) -> LeaseError:
    host = "".join(c if c.isprintable() else "?" for c in holder.host[:255])  # for a terminal
    return LeaseError(
        f"process {holder.pid} on {host} works on {storage.root}. Wait for it, or end that process"
    )


def _died_here(holder: Holder) -> bool:
    """Whether the holder was a process on this machine that is dead."""
    if holder.host == socket.gethostname():
        try:
            os.kill(holder.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it lives, and belongs to another user
            return False
    return False


def _renew(storage: Storage, mine: Holder, ended: threading.Event) -> None:
    beat = 0
    while not ended.wait(BEAT):
        beat += 1
        try:
            if _other(storage, mine):
                # This driver was silent for so long that another driver took over.
                _thread.interrupt_main(TAKEN_OVER)
                return
            _write(storage, mine.model_copy(update={"beat": beat}))
        except OSError:
            continue  # the next renewal may succeed


def _other(storage: Storage, mine: Holder) -> Holder | None:
    """The holder of the lease if it is another driver."""
    holder = holder_of(storage)
    return holder if holder is not None and holder.token != mine.token else None


def _write(storage: Storage, holder: Holder) -> None:
    storage.write(NAME, seal(holder.model_dump()))


def holder_of(storage: Storage) -> Holder | None:
    """The lease; None if it is missing or damaged. A living driver rewrites it."""
    try:
        return Holder.model_validate(unseal(storage.read(NAME)))
    except (FileNotFoundError, LedgerError, ValidationError):
        return None
