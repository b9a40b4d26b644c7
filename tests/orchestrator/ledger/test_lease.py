"""One driver at a time: a second is refused, and the lease of a dead one is taken over."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from features.storage import Storage
from orchestrator.errors import LeaseError
from orchestrator.ledger import lease as leases
from orchestrator.ledger.lease import lease
from orchestrator.ledger.seals import seal

HOLD = """
import sys, time
from features.storage import Storage
from orchestrator.ledger.lease import lease
with lease(Storage.open(sys.argv[1])) as confirm:
    confirm()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


def test_a_second_driver_is_refused_with_the_name_of_the_first(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", HOLD, storage.root], stdout=subprocess.PIPE, text=True
        ) as holder,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LeaseError, match=f"process {holder.pid} on "), lease(storage):
            pass
        assert storage.exists(leases.NAME)  # the refused driver removed nothing
        holder.kill()
    monkeypatch.setattr(leases, "PATIENCE", 1e6)
    with lease(storage) as confirm:  # a holder that died on this machine is replaced at once
        confirm()
        assert str(os.getpid()).encode() in storage.read(leases.NAME)
    assert not storage.exists(leases.NAME)


def test_a_silent_driver_on_another_machine_counts_as_dead(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 1.0)
    storage.write(leases.NAME, seal({"host": "elsewhere", "pid": 1, "token": "x", "beat": 7}))
    with lease(storage):
        assert b"elsewhere" not in storage.read(leases.NAME)


def test_of_two_drivers_that_start_together_only_the_second_works(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither saw the other's lease before it wrote its own. Each confirms before it works."""
    monkeypatch.setattr(leases, "_wait_for", lambda storage: None)
    with ExitStack() as stack:
        first, second = (stack.enter_context(lease(storage)) for _ in range(2))
        second()
        with pytest.raises(LeaseError, match=f"process {os.getpid()} on "):
            first()
    assert not storage.exists(leases.NAME)  # the second deleted its own lease


def test_a_lease_that_was_taken_over_is_never_confirmed(storage: Storage) -> None:
    other = seal({"host": "elsewhere", "pid": 7, "token": "x", "beat": 0})
    with lease(storage) as confirm:
        storage.write(leases.NAME, other)
        with pytest.raises(LeaseError, match="process 7 on elsewhere"):
            confirm()
    assert storage.read(leases.NAME) == other


def test_a_held_lease_is_renewed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    with lease(storage):
        contents = {storage.read(leases.NAME) for _ in range(40) if not time.sleep(0.02)}
    assert len(contents) > 2


@pytest.fixture(params=["in the foreground", "in the background of a script"])
def started(request: pytest.FixtureRequest) -> Iterator[None]:
    """Processes that a shell script starts in the background ignore SIGINT."""
    ignores = request.param != "in the foreground"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignores else signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("started")
def test_a_driver_that_was_silent_too_long_ends_with_the_name_of_the_other(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    other = seal({"host": "elsewhere", "pid": 7, "token": "x", "beat": 0})

    def stay_silent() -> None:
        for _ in range(200):  # a renewal may fall between two of these writes, so there are many
            storage.write(leases.NAME, other)
            time.sleep(0.02)

    with pytest.raises(LeaseError, match="process 7 on elsewhere"), lease(storage):
        stay_silent()
    assert storage.read(leases.NAME) == other  # the lease of the other driver stays


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{", id="truncated"),
        pytest.param(
            seal({"host": socket.gethostname(), "pid": 0, "token": "x", "beat": 1}), id="pid 0"
        ),
    ],
)
def test_a_damaged_lease_is_replaced(storage: Storage, data: bytes) -> None:
    storage.write(leases.NAME, data)
    with lease(storage):
        assert storage.read(leases.NAME) != data
    assert not storage.exists(leases.NAME)


def test_the_name_of_a_holder_cannot_steer_a_terminal(storage: Storage) -> None:
    holder = leases.Holder(host="a\x1b[2J\nb" + "c" * 1000, pid=1, token="x")
    message = str(leases._refusal(storage, holder))
    assert "process 1 on a?[2J?bccc" in message
    assert message.isprintable()
    assert len(message) < 600
