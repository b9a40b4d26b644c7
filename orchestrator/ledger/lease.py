"""One driver a sweep: whoever runs one holds a lease on its folder, and renews it while it lives.

No clocks are compared. A lease is dead where its process is, if that was on this machine, or where
its beats do not move for longer than they may take.
"""

import _thread
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.storage import Storage
from orchestrator.ledger.ledger import LedgerError, seal, unseal

NAME = "lease.json"
BEAT = 2.0
"""Seconds between renewals."""
PATIENCE = 10.0
"""Seconds without one after which a driver elsewhere is taken for dead."""
TAKEN_OVER = signal.SIGUSR2
"""Interrupts the main thread. Not SIGINT, which what a script starts in the background ignores."""


class Holder(BaseModel):
    """Who holds a lease, and how often it was renewed.

    pid : never 0 or below, which would ask after whole groups of processes
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host: str
    pid: int = Field(ge=1, lt=2**31)
    token: str
    beat: int = 0


class LeaseError(RuntimeError):
    """Another driver works on the sweep."""


@contextmanager
def lease(storage: Storage) -> Iterator[None]:
    """Hold the sweep's lease. Raises LeaseError, naming the holder, where somebody else does.

    For the main thread, which is interrupted where another driver takes the lease over.
    """
    storage = replace(storage, waits=())  # what waits here is told by beats
    mine = Holder(host=socket.gethostname(), pid=os.getpid(), token=uuid.uuid4().hex)
    _wait_for(storage)
    _write(storage, mine)
    time.sleep(BEAT / 2)  # longer than two drivers that start together are apart
    if (holder := _read(storage)) is not None and holder.token != mine.token:
        raise _refusal(storage, holder)
    before = signal.signal(TAKEN_OVER, signal.default_int_handler)
    ended = threading.Event()
    beating = threading.Thread(target=_renew, args=(storage, mine, ended), daemon=True)
    beating.start()
    try:
        yield
    except KeyboardInterrupt:  # by a person, or by `_renew`
        if (holder := _read(storage)) is not None and holder.token != mine.token:
            raise _refusal(storage, holder) from None
        raise
    finally:
        ended.set()
        beating.join()
        signal.signal(TAKEN_OVER, before)
        # On a storage that fails it stays, and ends with this process; why we end is known.
        with suppress(OSError):
            holder = _read(storage)
            if holder is not None and holder.token == mine.token:
                storage.delete(NAME)


def _wait_for(storage: Storage) -> None:
    """Return once nobody alive holds the lease."""
    first = _read(storage)
    if first is None or _died_here(first):
        return
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(BEAT / 4)
        now = _read(storage)
        if now is None or _died_here(now):
            return
        if now != first:
            raise _refusal(storage, now)


def _refusal(storage: Storage, holder: Holder) -> LeaseError:
    return LeaseError(
        f"{storage.root} is being worked on by process {holder.pid} on {_shown(holder.host)}; wait "
        f"for it, or end it"
    )


def _shown(text: str) -> str:
    """For a terminal, which control characters would steer."""
    return "".join(c if c.isprintable() else "?" for c in text[:255])


def _died_here(holder: Holder) -> bool:
    if holder.host != socket.gethostname():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _renew(storage: Storage, mine: Holder, ended: threading.Event) -> None:
    beat = 0
    while not ended.wait(BEAT):
        beat += 1
        try:
            holder = _read(storage)
            if holder is not None and holder.token != mine.token:
                # Stalled for so long that another took over: two must not go on.
                _thread.interrupt_main(TAKEN_OVER)
                return
            _write(storage, mine.model_copy(update={"beat": beat}))
        except OSError:
            continue  # storage that fails for a while: the next beat may pass


def _write(storage: Storage, holder: Holder) -> None:
    storage.write(NAME, seal(holder.model_dump()))


def _read(storage: Storage) -> Holder | None:
    """The lease, or None where there is none or it is damaged: a driver that lives renews it."""
    try:
        return Holder.model_validate(unseal(storage.read(NAME)))
    except (FileNotFoundError, LedgerError, ValidationError):
        return None
