"""SIGKILL of the driver, at moments drawn by chance and at chosen ones; several drivers."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.faults import NAME, Faults, Place, Reference, kill, wait

from features.storage import Storage
from orchestrator.ledger.ledger import LedgerError, seal, unseal

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

KILLS = 20
Moment = Callable[[set[str]], object]
"""Whether it has come, by the names that are there since the driver started."""


def names(place: Place) -> set[str]:
    """Files of features, proposals and trials; on a disk results too that are being written."""
    storage = Storage.open(place.root)
    parts = ("features", f"{NAME}/search", f"{NAME}/trials")
    found = {name for part in parts for name in storage.list(part, recursive=True)}
    if place.kind == "disk":
        found |= {str(path) for path in Path(place.root, NAME).glob("trials/*/.*.tmp")}
    return found


def ending(new: set[str], end: str) -> list[str]:
    return [name for name in new if name.endswith(end)]


def unmarked(new: set[str], end: str, mark: str) -> bool:
    """Whether a folder has a file that ends so, and not yet the mark that makes it whole."""
    whole = {name.rpartition("/")[0] for name in ending(new, mark)}
    return any(name.rpartition("/")[0] not in whole for name in ending(new, end))


CHOSEN: dict[str, Moment] = {
    "features are computed": lambda new: ending(new, ".parquet"),
    "the first proposals are made": lambda new: ending(new, ".json"),
    "a checkpoint is written": lambda new: unmarked(new, ".pt", "/manifest.json"),
    "results are written": lambda new: (
        unmarked(new, ".safetensors", "/trial.json") or ending(new, ".tmp")
    ),
}
"""Moments in the order in which a driver passes them, each recognised by its files."""


def test_drivers_are_killed_and_kept_apart(
    place: Place, reference: Reference, faults: Faults
) -> None:
    """At chosen moments, then anywhere from its start to its trials, then in its report."""
    chance = random.Random(place.kind)
    config, log = place.configure(), place.scratch / "driver.log"
    kills: int = 0
    ended: dict[str, bytes] = {}

    def kill_at(moment: Moment, looking: float = 0.1) -> bool:
        """Kill a driver then, or once it has ended a trial, so that a missed moment costs no more.

        Returns whether the moment came.
        """
        nonlocal kills, ended
        before = names(place)
        came = False

        def due() -> bool:
            nonlocal came
            new = names(place) - before
            came = bool(moment(new))
            return came or bool(ending(new, "/trial.json"))

        with place.driver(config) as driver:
            if wait(due, driver, looking) and driver.poll() is None:
                driver.kill()
                driver.wait()
                kills += 1
                ended |= place.records()
        return came

    for what, moment in CHOSEN.items():
        if what == "a checkpoint is written":
            _second_driver(place)
            # Moments of milliseconds: one that was missed comes again with the next epoch.
            while not kill_at(moment, looking=0.5):
                assert len(place.records()) < 2, f"no driver was met while {what}"
        else:
            kill_at(moment, looking=0.5)
    assert kills >= len(CHOSEN)
    while kills < KILLS - 1:
        begun = log.read_text().count("done before")
        until = Timer(chance.uniform(0, 6))

        def at_work(new: set[str], begun: int = begun, until: Timer = until) -> bool:
            """Its trials are about to start, or have."""
            return log.read_text().count("done before") > begun and until.is_over()

        kill_at(lambda new, until=until: until.is_over() if kills % 3 else at_work(new))
    place.finish(config)
    assert not place.ledger.storage.exists("lease.json")
    while kills < KILLS:
        place.ledger.storage.delete("report")
        kill_at(lambda new: place.ledger.storage.list("report"), looking=0.5)
    place.finish(config)
    assert place.ledger.storage.exists("report/index.html")
    lost = place.lost(reference.outcome, ended)
    faults.note("driver: SIGKILL at random moments", place, kills, lost)
    faults.note("second driver beside a living one", place, 1, lost)
    faults.note("lease of a driver that died elsewhere", place, 1, lost)


class Timer:
    """Is over some seconds after it was first asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked: float | None = None

    def is_over(self) -> bool:
        self.asked = self.asked or time.monotonic()
        return time.monotonic() - self.asked >= self.seconds


def _lease(storage: Storage) -> dict[str, Any]:
    """The lease; an empty one while it is being written."""
    try:
        return unseal(storage.read("lease.json"))
    except LedgerError:
        return {}


def _second_driver(place: Place) -> None:
    """It is refused; the first is killed, and leaves a lease that the next has to take over."""
    config, storage = place.configure(), place.ledger.storage
    before = _lease(storage)["pid"]  # of a driver that was killed
    with place.driver(config) as driver:
        wait(lambda: _lease(storage).get("pid", before) != before, driver)
        second = place.run(config)
        assert second.returncode == 1
        assert f"is being worked on by process {driver.pid}" in second.stderr
        assert driver.poll() is None
        lease = wait(lambda: _lease(storage))
        kill(driver)
    # As if it had been on another machine, where nobody can look for its process.
    storage.write("lease.json", seal({**lease, "host": "elsewhere"}))


def test_what_changed_is_refused_with_the_difference(
    place: Place, reference: Reference, faults: Faults
) -> None:
    place.begin(reference, trials=3)
    ended, ledger = place.records(), place.ledger
    changed = place.run(place.configure(model={"dropout": 0.5}))
    assert changed.returncode == 2
    assert "model.dropout was 0.1 and is now 0.5" in changed.stderr
    assert "--fork NAME" in changed.stderr
    fewer = place.run(place.configure(corpus={"classes": ["ang", "hap", "neu"]}))
    assert fewer.returncode == 2
    assert "corpus.classes was" in fewer.stderr
    content = dict(ledger.sweep())
    file = "orchestrator/training.py"
    then = {**content, "code": {**content["code"], file: "0" * 10}}
    ledger.write_sweep(then)  # as if the code had been another when the sweep began
    other = place.run(place.configure())
    assert other.returncode == 2
    assert f"code.{file} was '0000000000' and is now '{content['code'][file]}'" in other.stderr
    ledger.write_sweep(content)
    lost = place.lost(reference.outcome, ended)
    faults.note("changed configuration, classes or code", place, 3, lost)
