"""SIGKILL of the driver at random and at selected moments; several drivers of one sweep."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.storage import Storage
from orchestrator.ledger.ledger import LedgerError
from orchestrator.ledger.seals import seal, unseal
from tests.support.faults import Faults, Place, Reference
from tests.support.processes import kill, wait
from tests.support.sweeps import NAME

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

KILLS = 20
Moment = Callable[[set[str]], object]
"""Whether the moment has come, given the names of files that are new since the driver started."""


def names(place: Place) -> set[str]:
    """Files of features, proposals and trials; on disk also results that are being written."""
    storage = Storage.open(place.root)
    folders = ("features", f"{NAME}/search", f"{NAME}/trials")
    files = {name for folder in folders for name in storage.list(folder, recursive=True)}
    if place.kind == "disk":
        files |= {str(path) for path in Path(place.root, NAME).glob("trials/*/.*.tmp")}
    return files


def ending(new: set[str], suffix: str) -> list[str]:
    return [name for name in new if name.endswith(suffix)]


def incomplete(files: set[str], last: str) -> bool:
    """Whether a folder has weights, but not yet the file that is written last."""
    complete = {name.rpartition("/")[0] for name in ending(files, last)}
    return any(name.rpartition("/")[0] not in complete for name in ending(files, ".safetensors"))


def in_checkpoints(new: set[str]) -> set[str]:
    return {name for name in new if "/checkpoint-" in name}


SELECTED: dict[str, Moment] = {
    "features are computed": lambda new: ending(new, ".parquet"),
    "the first proposals are made": lambda new: ending(new, ".json"),
    "a checkpoint is written": lambda new: incomplete(in_checkpoints(new), "/manifest.json"),
    "results are written": lambda new: (
        incomplete(new - in_checkpoints(new), "/trial.json") or ending(new, ".tmp")
    ),
}
"""Moments in the order in which a driver reaches them, recognised by the files."""


def test_drivers_are_killed_and_only_one_works_at_a_time(
    place: Place, reference: Reference, faults: Faults
) -> None:
    """Kill at the selected moments, then anywhere before the report, then during the report."""
    chance = random.Random(place.kind)
    config = place.configure()
    kills: int = 0
    finished: dict[str, bytes] = {}

    def kill_at(moment: Moment, load: float = 0.1) -> bool:
        """Kill a driver at a moment, or as soon as a trial finishes, so that time is not wasted.

        Returns whether the moment came.
        """
        nonlocal kills, finished
        before = names(place)
        came = False

        def due() -> bool:
            nonlocal came
            new = names(place) - before
            came = bool(moment(new))
            return came or bool(ending(new, "/trial.json"))

        with place.driver(config) as driver:
            if wait(due, driver, load) and driver.poll() is None:
                driver.kill()
                driver.wait()
                kills += 1
                finished |= place.records()
        return came

    for description, moment in SELECTED.items():
        if description == "a checkpoint is written":
            _start_second_driver(place)
            # This moment lasts milliseconds. If it was missed, it comes again in the next epoch.
            while not kill_at(moment, load=0.5):
                assert len(place.records()) < 2, f"no driver was killed while {description}"
        else:
            kill_at(moment, load=0.5)
    assert kills >= len(SELECTED)
    assert STARTED in place.log.read_text(), "the driver's first line of trials has another text"
    while kills < KILLS - 1:
        starts = place.log.read_text().count(STARTED)
        timer = Timer(chance.uniform(0, 6))

        def at_work(new: set[str], starts: int = starts, timer: Timer = timer) -> bool:
            """Whether the time is over since the driver was about to start its trials."""
            return place.log.read_text().count(STARTED) > starts and timer.is_over()

        kill_at(lambda new, timer=timer: timer.is_over() if kills % 3 else at_work(new))
    place.finish(config)
    assert not place.ledger.storage.exists("lease.json")
    while kills < KILLS:
        place.ledger.storage.delete("report")
        kill_at(lambda new: place.ledger.storage.list("report"), load=0.5)
    place.finish(config)
    assert place.ledger.storage.exists("report/index.html")
    lost = place.lost(reference, finished)
    faults.note("driver: SIGKILL at random moments", place, kills, lost)
    faults.note("second driver while the first one works", place, 1, lost)
    faults.note("lease of a driver that died on another machine", place, 1, lost)


STARTED = "finished before"
"""Part of the line that a driver prints before it starts its trials."""


class Timer:
    """Is over some seconds after its first check."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.first_check: float | None = None

    def is_over(self) -> bool:
        self.first_check = self.first_check or time.monotonic()
        return time.monotonic() - self.first_check >= self.seconds


def _lease(storage: Storage) -> dict[str, Any]:
    """Return the lease, or an empty mapping if it is missing or incomplete.

    A driver may be writing it, or was killed meanwhile: s3rver keeps the first part of the file.
    """
    try:
        return unseal(storage.read("lease.json"))
    except (FileNotFoundError, LedgerError):
        return {}


def _start_second_driver(place: Place) -> None:
    """The program refuses the second driver. The first one is killed and leaves a foreign lease."""
    config, storage = place.configure(), place.ledger.storage
    with place.driver(config) as driver:
        wait(lambda: _lease(storage).get("pid") == driver.pid, driver)
        second = place.run(config)
        assert second.returncode == 1
        assert f"process {driver.pid}" in second.stderr
        assert driver.poll() is None
        lease = wait(lambda: _lease(storage))
        kill(driver)
    # Pretend that the lease is of another machine: the next driver cannot see processes there.
    storage.write("lease.json", seal({**lease, "host": "elsewhere"}))


def test_a_changed_sweep_is_refused_with_the_difference(
    place: Place, reference: Reference, faults: Faults
) -> None:
    place.start_from(reference, trials=3)
    finished, ledger = place.records(), place.ledger
    sweep = ledger.sweep()
    file, digest = next(iter(sweep.code.items()))
    # As if other code had started the sweep.
    ledger.write_sweep(sweep.model_copy(update={"code": {**sweep.code, file: "0" * 10}}))
    changed = place.run(
        place.configure(model={"dropout": 0.5}, corpus={"classes": ["ang", "hap", "neu"]})
    )
    assert changed.returncode == 2
    assert "model.dropout was 0.1 and is now 0.5" in changed.stderr
    assert "corpus.classes was" in changed.stderr
    assert f"code.{file} was '0000000000' and is now '{digest}'" in changed.stderr
    assert "--fork NAME" in changed.stderr
    ledger.write_sweep(sweep)
    lost = place.lost(reference, finished)
    faults.note("changed configuration, classes or code", place, 3, lost)
