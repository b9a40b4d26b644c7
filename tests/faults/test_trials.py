"""Failed trials: their records name the reason, and the search continues without their scores."""

import signal
from pathlib import Path

import pytest
import yaml

from tests.support.faults import Faults, Place, Reference
from tests.support.processes import named, wait
from tests.support.sweeps import outcome

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


def grid(folder: Path, **choices: list[object]) -> dict[str, object]:
    """A grid search over keys like `section__key`; its points are tried in their order."""
    path = folder / "space.yaml"
    parameters = {key.replace("__", "."): {"choices": values} for key, values in choices.items()}
    path.write_text(yaml.safe_dump({"parameters": parameters}, sort_keys=False))
    return {"space": str(path), "sampler": "grid", "scheduler": "none"}


def test_trials_that_hang_raise_or_become_nan_fail_alone(
    disk: Place, reference: Reference, faults: Faults
) -> None:
    """One trial at a time: the first hangs, the second succeeds, the others raise or become NaN."""
    disk.start_from(reference, trials=0)
    search = grid(
        disk.scratch,
        training__learning_rate=[3e-3, 1e30],  # the second gives NaN
        model__hidden_size=[16, 32, 2**20],  # the third needs terabytes, so torch raises
    )
    config = disk.configure(
        # With 32 units and the common learning rate, this is the reference's first trial.
        model={"dropout": 0.3},
        search={**search, "trials": 4},
        cluster={"trial_minutes": 1.5, "concurrent_trials": 1},
    )
    with disk.driver(config) as driver:
        (worker,) = wait(lambda: named(driver, "ray::ImplicitFunc.train"), driver)
        worker.send_signal(signal.SIGSTOP)
        wait(lambda: driver.poll() is not None)
        messages = disk.log.read_text()
        assert driver.returncode == 0, messages
    wait(lambda: not worker.is_running())
    hung, good, large, diverged = records = disk.ledger.trials()
    assert [r.status for r in records] == ["failed", "complete", "failed", "failed"]
    assert "cluster.trial_minutes" in str(hung.reason)
    assert "memory" in str(large.reason)
    assert "nan" in str(diverged.reason)
    for record in (hung, large, diverged):
        assert record.score is None  # the search receives a failure instead of a number
        assert f"trial {record.number} failed: {record.reason}" in messages
    mine, expected = (content[good.id][1] for content in (outcome(disk.ledger), reference.outcome))
    lost = sum(mine.get(name) != expected.get(name) for name in mine.keys() | expected.keys())
    for fault in ("trial hangs", "trial raises for lack of memory", "trial becomes NaN"):
        faults.note(fault, disk, 1, lost)


def test_ray_kills_trials_that_use_too_much_memory(
    disk: Place, reference: Reference, faults: Faults
) -> None:
    """Ray's memory monitor, with a limit of zero, kills the trial until it may start no more.

    The record says what to do. With enough memory, the trial then ends as in the reference.
    """
    disk.start_from(reference, trials=2)
    finished = disk.records()
    config = disk.configure()
    disk.environment["RAY_memory_usage_threshold"] = "0.0"
    starved = disk.run(config)
    assert starved.returncode == 0, starved.stderr
    (starving,) = [r for r in disk.ledger.trials() if r.id not in finished]
    assert starving.status == "failed"
    assert "lost again and again, as if out of memory: " in str(starving.reason)
    assert "killed due to the node running low on memory" in str(starving.reason)
    assert "remove the trial's trial.json, and run again" in str(starving.reason)
    del disk.environment["RAY_memory_usage_threshold"]
    disk.ledger.trial_storage(starving.id).delete("trial.json")
    disk.finish(config)
    faults.note("out of memory, detected by Ray", disk, 1, disk.lost(reference, finished))
