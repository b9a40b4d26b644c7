"""SIGKILL of the driver, at moments drawn by chance and at chosen ones; several drivers."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import NAME, Faults, Place, Reference, kill, wait

from features.storage import Storage
from orchestrator.ledger import seal, unseal

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

KILLS = 20
Moment = Callable[[set[str]], object]
"""Whether it has come, by the names that are there since the driver started."""


def names(place: Place) -> set[str]:
    """Files of features, proposals and trials; on a disk those too that are being written."""
    storage = Storage.open(place.root)
    parts = ("features", f"{NAME}/search", f"{NAME}/trials")
    found = {name for part in parts for name in storage.list(part, recursive=True)}
    if place.kind == "disk":
        found |= {str(path) for path in Path(place.root, NAME).glob("trials/*/.*.tmp")}
    return found


def moments(place: Place) -> list[Moment]:
    """Chosen ones, which drivers pass in this order."""

    def some(new: set[str], end: str) -> list[str]:
        return [name for name in new if name.endswith(end)]

    def without(new: set[str], end: str, mark: str) -> bool:
        """Whether a folder has a file that ends so, and not yet its mark."""
        whole = {name.rsplit("/", 1)[0] for name in some(new, mark)}
        return any(name.rsplit("/", 1)[0] not in whole for name in some(new, end))

    return [
        lambda new: some(new, ".parquet"),  # of features
        lambda new: some(new, ".json"),  # a proposal
        lambda new: without(new, ".pt", "/manifest.json"),  # a checkpoint, half written
        *([lambda new: some(new, ".tmp")] if place.kind == "disk" else []),
        lambda new: without(new, ".safetensors", "/trial.json"),  # results without their record
        lambda new: some(new, "/trial.json"),
    ]


def test_drivers_are_killed_and_kept_apart(
    place: Place, reference: Reference, faults: Faults
) -> None:
    """At chosen moments, then anywhere from its start to its trials, then in its report."""
    chance = random.Random(place.kind)
    config, log = place.configure(), place.scratch / "driver.log"
    kills: int = 0
    ended: dict[str, bytes] = {}

    def kill_at(moment: Moment) -> None:
        nonlocal kills, ended
        before = names(place)
        with place.driver(config) as driver:
            wait(lambda: moment(names(place) - before), driver)
            if driver.poll() is not None:
                return  # the moment was missed, and the sweep is done
            driver.kill()
            driver.wait()
            kills += 1
            ended |= place.records()

    for number, moment in enumerate(moments(place)):
        if number == 2:
            _second_driver(place)
        kill_at(moment)
    assert kills >= 4  # the last ones may have been missed: trials end
    while kills < KILLS - 1:
        begun = log.read_text().count("done before")

        def at_work(new: set[str], begun: int = begun) -> bool:
            """Its trials are about to start."""
            return log.read_text().count("done before") > begun and _later(chance, 14)

        kill_at(at_work if kills % 2 else lambda new: _later(chance, 8))
    place.finish(config)
    assert not place.ledger.storage.exists("lease.json")
    place.ledger.storage.delete("report")
    kill_at(lambda new: place.ledger.storage.list("report"))
    assert kills == KILLS
    place.finish(config)
    assert place.ledger.storage.exists("report/index.html")
    lost = place.lost(reference.outcome, ended)
    faults.note("driver: SIGKILL at random moments", place, kills, lost)
    faults.note("second driver beside a living one", place, 1, lost)
    faults.note("lease of a driver that died elsewhere", place, 1, lost)


def _later(chance: random.Random, most: float) -> bool:
    """True, up to `most` seconds from now."""
    time.sleep(chance.uniform(0, most))
    return True


def _second_driver(place: Place) -> None:
    """It is refused; the first is killed, and leaves a lease that the next has to take over."""
    config, storage = place.configure(), place.ledger.storage
    before = unseal(storage.read("lease.json"))["pid"]  # of a driver that was killed
    with place.driver(config) as driver:
        wait(lambda: unseal(storage.read("lease.json"))["pid"] != before, driver)
        second = place.run(config)
        assert second.returncode == 1
        assert f"is being worked on by process {driver.pid}" in second.stderr
        assert driver.poll() is None
        lease = unseal(storage.read("lease.json"))
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
