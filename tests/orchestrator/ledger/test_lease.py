import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.storage import Storage
from orchestrator.ledger import lease as leases
from orchestrator.ledger.lease import LeaseError, lease
from orchestrator.ledger.ledger import seal

HOLD = """
import sys, time
from features.storage import Storage
from orchestrator.ledger.lease import lease
with lease(Storage.open(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path))


def test_a_second_driver_is_refused_and_told_who_holds_it(
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
        assert storage.exists(leases.NAME)  # the refused one took nothing away
        holder.kill()
    monkeypatch.setattr(leases, "PATIENCE", 1e6)
    with lease(storage):  # the dead one's is taken over without patience: it died here
        assert str(os.getpid()).encode() in storage.read(leases.NAME)
    assert not storage.exists(leases.NAME)


def test_a_driver_elsewhere_whose_beats_have_ended_is_dead(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 1.0)
    storage.write(leases.NAME, seal({"host": "elsewhere", "pid": 1, "token": "x", "beat": 7}))
    with lease(storage):
        assert b"elsewhere" not in storage.read(leases.NAME)


def test_beats_go_on_while_the_lease_is_held(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    with lease(storage):
        seen = {storage.read(leases.NAME) for _ in range(40) if not time.sleep(0.02)}
    assert len(seen) > 2


@pytest.fixture(params=["by a person", "by a script, in the background"])
def started(request: pytest.FixtureRequest) -> Iterator[None]:
    """What shells start in the background ignores SIGINT, and Python leaves it so."""
    ignores = request.param != "by a person"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignores else signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("started")
def test_a_driver_that_stalled_is_told_who_took_over(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)
    other = seal({"host": "elsewhere", "pid": 7, "token": "x", "beat": 0})

    def stall() -> None:
        for _ in range(200):  # until a beat finds the other's: one may fall between two of them
            storage.write(leases.NAME, other)
            time.sleep(0.02)

    with pytest.raises(LeaseError, match="process 7 on elsewhere"), lease(storage):
        stall()
    assert storage.read(leases.NAME) == other  # it is the other's


def test_a_damaged_lease_holds_nobody_back(storage: Storage) -> None:
    storage.write(leases.NAME, b"{")
    with lease(storage):
        pass
    assert not storage.exists(leases.NAME)
