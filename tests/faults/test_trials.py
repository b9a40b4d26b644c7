"""Trials that go wrong: marked with the reason, and the search goes on without their scores."""

import signal
from pathlib import Path

import pytest
import yaml
from tests.support.faults import Faults, Place, Reference, named, wait

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


def space(folder: Path, **choices: list[object]) -> dict[str, object]:
    """A grid over `section__key` names, tried in the order of its points."""
    path = folder / "space.yaml"
    parameters = {name.replace("__", "."): {"choices": found} for name, found in choices.items()}
    path.write_text(yaml.safe_dump({"parameters": parameters}))
    return {"space": str(path), "sampler": "grid", "scheduler": "none"}


GOOD = {"model": {"name": "iaan", "attention_size": 8, "dropout": 0.3}}
"""With 32 units and the common learning rate this is the undisturbed sweep's first trial."""


def unlike(place: Place, reference: Reference, trial: str) -> int:
    """Files of a trial that are not those of the undisturbed sweep's."""
    mine, theirs = (found[trial][1] for found in (place.outcome(), reference.outcome))
    return sum(mine.get(name) != theirs.get(name) for name in mine.keys() | theirs.keys())


def test_trials_that_raise_or_give_nan_fail_alone(
    tmp_path: Path, reference: Reference, faults: Faults
) -> None:
    place = Place("disk", str(tmp_path / "runs"), reference.place.corpus, tmp_path)
    place.begin(reference, trials=0)
    search = space(
        tmp_path,
        training__learning_rate=[3e-3, 1e30],  # the second gives NaN
        model__hidden_size=[32, 2**20],  # the second wants terabytes, and torch raises
    )
    config = place.configure(**GOOD, search={**search, "trials": 4})
    done = place.run(config)
    assert done.returncode == 0, done.stderr
    records = place.ledger.trials()
    assert len(records) == 4
    good, *bad = sorted(records, key=lambda record: record.status)
    assert good.status == "complete"
    for record in bad:
        assert record.status == "failed"
        assert record.score is None  # the searcher is told of a failure, and not of a number
        large = record.hyperparameters["model.hidden_size"] > 32
        assert ("memory" if large else "loss is") in str(record.reason)
        assert f"trial {record.number} failed: {record.reason}" in done.stderr
    assert "4 done before" in place.run(config).stderr
    lost = unlike(place, reference, good.id)
    faults.note("trial raises, for want of memory", place, 2, lost)
    faults.note("trial gives NaN", place, 1, lost)


def test_ray_kills_what_it_finds_too_large(
    tmp_path: Path, reference: Reference, faults: Faults
) -> None:
    """Ray's memory monitor takes any memory for too much, and kills until it may no more."""
    place = Place("disk", str(tmp_path / "runs"), reference.place.corpus, tmp_path)
    place.begin(reference, trials=2)
    ended = place.records()
    config = place.configure()
    place.environment["RAY_memory_usage_threshold"] = "0.0"
    starved = place.run(config)
    assert starved.returncode == 1, starved.stderr
    assert "killed due to the node running low on memory" in starved.stderr
    assert place.records() == ended
    del place.environment["RAY_memory_usage_threshold"]
    place.finish(config)
    faults.note("out of memory, as Ray sees it", place, 1, place.lost(reference.outcome, ended))


def test_a_trial_that_hangs_is_ended_and_the_search_goes_on(
    tmp_path: Path, reference: Reference, faults: Faults
) -> None:
    place = Place("disk", str(tmp_path / "runs"), reference.place.corpus, tmp_path)
    place.begin(reference, trials=0)
    search = space(tmp_path, model__hidden_size=[16, 32])
    limited = {"trial_minutes": 1.5, "concurrent_trials": 1}
    config = place.configure(**GOOD, search={**search, "trials": 2}, cluster=limited)
    with place.driver(config) as driver:
        (worker,) = wait(lambda: named(driver, "ray::RayTrainWorker"), driver)
        worker.send_signal(signal.SIGSTOP)
        wait(lambda: driver.poll() is not None)
        assert driver.returncode == 0, (tmp_path / "driver.log").read_text()
    hung, other = place.ledger.trials()
    assert (hung.status, other.status) == ("failed", "complete")
    assert hung.reason == "not done after 1.5 minutes (cluster.trial_minutes)"
    wait(lambda: not worker.is_running())
    faults.note("trial hangs", place, 1, unlike(place, reference, other.id))
