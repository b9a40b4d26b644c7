"""Truncate, empty or change files of a sweep: the program renames them and makes them again."""

import itertools
import random
from collections.abc import Callable

import pytest

from features.storage import Storage
from tests.support.faults import Faults, Place, Reference
from tests.support.processes import kill, wait
from tests.support.sweeps import NAME

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


def _with_changed_byte(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": lambda data, chance: data[: chance.randrange(1, len(data))],
    "emptied": lambda data, chance: b"",
    "changed by one byte": lambda data, chance: _with_changed_byte(
        data, chance.randrange(len(data))
    ),
}
RESULTS = ("folds.parquet", "predictions.parquet", "inspection.parquet", "fold-Ses02.safetensors")


def _renamed(storage: Storage, file: str) -> list[str]:
    """Damaged versions of a file that were renamed."""
    folder = file.rpartition("/")[0]
    return [name for name in storage.list(folder) if name.startswith(f"{file}.damaged-")]


def test_damaged_results_are_made_again(place: Place, reference: Reference, faults: Faults) -> None:
    """Each of two rounds damages a record, another trial's files, a proposal and features.

    The two places start with different kinds of damage: together they apply each kind to each file.
    """
    config = place.configure()
    place.start_from(reference, trials=3)
    ledger, chance = place.ledger, random.Random(place.kind)
    features = Storage.open(place.root).child("features")
    trials = [ledger.trial_storage(proposal.trial) for proposal in ledger.proposals()]
    kinds = list(DAMAGE)
    injected, lost = dict.fromkeys(kinds, 0), 0
    for turn in range(2):
        shards = [n for n in features.list(recursive=True) if n.endswith(".parquet")]
        victims = [(trials[turn], "trial.json")]
        victims += [(trials[turn - 1], file) for file in RESULTS]
        victims.append((ledger.storage, f"search/{turn:05d}.json"))
        victims.append((features, chance.choice([n for n in shards if "speaker=" in n])))
        before = [len(_renamed(*victim)) for victim in victims]
        untouched = trials[turn - 2].root.rsplit("/", 1)[1]
        finished = {untouched: place.records()[untouched]}
        for number, (storage, file) in enumerate(victims):
            kind = kinds[(number + turn + (place.kind == "S3")) % len(kinds)]
            storage.write(file, DAMAGE[kind](storage.read(file), chance))
            injected[kind] += 1
        place.finish(config)
        for victim, count in zip(victims, before, strict=True):
            assert len(_renamed(*victim)) == count + 1, victim[1]
        lost += place.lost(reference, finished)
    for kind, times in injected.items():
        faults.note(f"results or features {kind}", place, times, lost)


def test_checkpoints_are_damaged_and_the_number_of_workers_changes_after_kills(
    place: Place, reference: Reference, faults: Faults
) -> None:
    """Two files of each newest checkpoint are damaged: training resumes from an earlier one."""
    chance = random.Random(place.kind)
    kinds = itertools.cycle(DAMAGE.values())
    damaged, kills = 0, 0
    for _ in range(5):  # a quick trial may end, and delete its checkpoints, before its process ends
        if kills:
            Storage.open(place.root).delete(NAME)
        place.start_from(reference, trials=1)
        trials = place.ledger.storage.child("trials")
        finished: dict[str, bytes] = {}
        for workers in (2, 1):
            config = place.configure(cluster={"workers_per_trial": workers})
            known = set(place.checkpoints())
            with place.driver(config) as driver:
                assert wait(lambda: set(place.checkpoints()) - known, driver)  # noqa: B023
                kill(driver)
                kills += 1
            finished |= place.records()
            for folder in place.checkpoints():
                files = [name for name in trials.list(folder) if ".damaged-" not in name]
                for file in chance.sample(files, 2):
                    trials.write(file, next(kinds)(trials.read(file), chance))
                    damaged += 1
        if damaged:
            break
    place.finish(place.configure(cluster={"workers_per_trial": 2}))
    lost = place.lost(reference, finished)
    faults.note("checkpoint damaged after a kill", place, damaged, lost)
    faults.note("another number of workers after a kill", place, kills, lost)
