"""Files of a sweep truncated, emptied or with a flipped byte: found, set aside, made again."""

import itertools
import random
from collections.abc import Callable

import pytest
from tests.support.faults import Faults, Place, Reference, kill, wait

from features.storage import Storage

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": lambda data, chance: data[: chance.randrange(1, len(data))],
    "emptied": lambda data, chance: b"",
    "flipped byte": lambda data, chance: _flipped(data, chance.randrange(len(data))),
}


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


RESULTS = ("folds.parquet", "predictions.parquet", "inspection.parquet", "fold-Ses02.safetensors")


def test_damaged_results_are_made_again(place: Place, reference: Reference, faults: Faults) -> None:
    """Twice a trial's record, another one's other files, a proposal and features.

    The two places begin with different kinds of damage: together they do each to every file.
    """
    config = place.configure()
    place.begin(reference, trials=3)
    ledger, chance = place.ledger, random.Random(place.kind)
    features = Storage.open(place.root).child("features")
    trials = [ledger.trial_storage(suggestion.trial) for suggestion in ledger.suggestions()]
    kinds = list(DAMAGE)
    done, lost = dict.fromkeys(kinds, 0), 0
    for turn in range(2):
        shards = [n for n in features.list(recursive=True) if n.endswith(".parquet")]
        injured = [(trials[turn], "trial.json")]
        injured += [(trials[turn - 1], file) for file in RESULTS]
        injured.append((ledger.storage, f"search/{turn:05d}.json"))
        injured.append((features, chance.choice([n for n in shards if "speaker=" in n])))
        before = [_aside(*one) for one in injured]
        untouched = trials[turn - 2].root.rsplit("/", 1)[1]
        ended = {untouched: place.records()[untouched]}
        for number, (storage, file) in enumerate(injured):
            kind = kinds[(number + turn + (place.kind == "S3")) % len(kinds)]
            storage.write(file, DAMAGE[kind](storage.read(file), chance))
            done[kind] += 1
        place.finish(config)
        for one, earlier in zip(injured, before, strict=True):
            assert len(_aside(*one)) == len(earlier) + 1, one[1]
        lost += place.lost(reference.outcome, ended)
    for kind, times in done.items():
        faults.note(f"results or features {kind}", place, times, lost)


def _aside(storage: Storage, file: str) -> list[str]:
    """What was set aside of a file."""
    folder = file.rpartition("/")[0]
    return [name for name in storage.list(folder) if name.startswith(f"{file}.damaged-")]


def test_checkpoints_are_damaged_and_workers_change_after_kills(
    place: Place, reference: Reference, faults: Faults
) -> None:
    """Files of the newest are damaged: on from the one before, or from the start."""
    chance = random.Random(place.kind)
    place.begin(reference, trials=1)
    trials = place.ledger.storage.child("trials")
    ended: dict[str, bytes] = {}
    kinds = itertools.cycle(DAMAGE.values())
    hit, kills = 0, 0
    for workers in (2, 1):
        config = place.configure(cluster={"workers_per_trial": workers})
        known = set(place.checkpoints())
        with place.driver(config) as driver:
            assert wait(lambda: set(place.checkpoints()) - known, driver)  # noqa: B023
            kill(driver)
            kills += 1
        ended |= place.records()
        for folder in place.checkpoints():
            files = [name for name in trials.list(folder) if ".damaged-" not in name]
            for file in chance.sample(files, 2):
                trials.write(file, next(kinds)(trials.read(file), chance))
                hit += 1
    place.finish(place.configure(cluster={"workers_per_trial": 2}))
    lost = place.lost(reference.outcome, ended)
    faults.note("checkpoint damaged after a kill", place, hit, lost)
    faults.note("another number of workers after a kill", place, kills, lost)
