"""SIGKILL of the processes of a sweep: workers, controllers, trials, nodes, the head."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.sweep.trial import RESTARTS
from tests.support.clusters import ALONE
from tests.support.faults import QUICK, Faults, Place, Reference
from tests.support.processes import free_port, kill, named, wait

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

PROCESSES = {
    "Train worker": "ray::RayTrainWorker",
    "Train controller": "ray::TrainController",
    "trial's actor": "ray::ImplicitFunc",
}


def test_processes_of_trials_are_killed(place: Place, reference: Reference, faults: Faults) -> None:
    """The same driver finishes the sweep: lost trials resume from their checkpoints."""
    place.start_from(reference, trials=1)
    config = place.configure(cluster={"workers_per_trial": 2})
    killed: list[str] = []
    finished: dict[str, bytes] = {}

    def victim() -> psutil.Process | None:
        if not set(place.checkpoints()) - known:
            return None  # until there are epochs that must not be trained again
        return next(iter(named(driver, PROCESSES[kind])), None)

    with place.driver(config) as driver:
        for kind in PROCESSES:
            known: set[str] = set(place.checkpoints())
            if process := wait(victim, driver):
                process.kill()
                killed.append(kind)
                finished |= place.records()
        wait(lambda: driver.poll() is not None)
        assert driver.returncode == 0, place.log.read_text()
    lost = place.lost(reference, finished)
    for kind in PROCESSES:
        faults.note(f"{kind}: SIGKILL", place, killed.count(kind), lost)


def test_the_process_of_a_trial_with_one_worker_is_killed(
    place: Place, reference: Reference, faults: Faults
) -> None:
    """Killed as often as it may restart, each time with a new checkpoint."""
    place.start_from(reference, trials=2)
    config = place.configure()
    finished = place.records()
    known: set[str] = set()

    def victim() -> psutil.Process | None:
        if not set(place.checkpoints()) - known:
            return None
        return next(iter(named(driver, "ray::ImplicitFunc.train")), None)

    killed = 0
    with place.driver(config) as driver:
        while killed < RESTARTS and (process := wait(victim, driver)):
            known = set(place.checkpoints())
            process.kill()
            killed += 1
        wait(lambda: driver.poll() is not None)
        assert driver.returncode == 0, place.log.read_text()
    lost = place.lost(reference, finished)
    faults.note("the process of a trial with one worker: SIGKILL", place, killed, lost)


@contextmanager
def head(port: int) -> Iterator[psutil.Popen]:
    """Run a head on its own, as `ray start` makes it."""
    ray = str(Path(sys.executable).with_name("ray"))
    # The path is short because a socket's path may have only 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ser", dir="/tmp") as folder:
        options = f"--head --block --port={port} --temp-dir={folder} --num-cpus=2 {ALONE}"
        log = Path(folder, "head.log")
        with log.open("wb") as output:
            process = psutil.Popen(
                [ray, "start", *options.split(), "--include-dashboard=false"],
                stdout=output,
                stderr=output,
                env={**os.environ, "RAY_BACKEND_LOG_LEVEL": "fatal"},
            )
        try:
            started = wait(lambda: "Ray runtime started" in log.read_text(), process)
            assert started, log.read_text()
            yield process
        finally:
            kill(process)


def test_the_head_is_killed(place: Place, reference: Reference, faults: Faults) -> None:
    """The driver ends and names the head. With a new head, the same command loses no result."""
    place.start_from(reference, trials=2)
    port = free_port()
    place.environment |= {"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_MODE": "token"}
    config = place.configure()
    with head(port) as first:
        with place.driver(config) as driver:
            assert wait(place.checkpoints, driver)
            kill(first)
            wait(lambda: driver.poll() is not None)
            messages = place.log.read_text()
            assert driver.returncode == 1, messages
            assert f":{port}" in messages.splitlines()[-1]
        finished = place.records()
    with head(port):
        place.finish(config)
    faults.note("head: SIGKILL", place, 1, place.lost(reference, finished))


def test_nodes_are_killed_and_a_new_node_joins(
    place: Place, reference: Reference, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials of three workers lose both nodes; two workers on a new node finish the sweep."""
    from ray.cluster_utils import Cluster

    place.start_from(reference, trials=1)
    for name, value in QUICK.items():  # the cluster's processes inherit our environment
        monkeypatch.setenv(name, value)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    finished: dict[str, bytes] = {}
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        cluster.wait_for_nodes()
        place.environment["RAY_ADDRESS"] = cluster.address
        config = place.configure(cluster={"workers_per_trial": 3})
        killed = 0
        with place.driver(config) as driver:
            while nodes:
                known = set(place.checkpoints())
                assert wait(lambda: set(place.checkpoints()) - known, driver)  # noqa: B023
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                finished |= place.records()
                killed += 1
            cluster.add_node(num_cpus=2)
            wait(lambda: driver.poll() is not None)
        assert driver.returncode == 0, place.log.read_text()
    finally:
        cluster.shutdown()
    lost = place.lost(reference, finished)
    faults.note("node: SIGKILL of its raylet", place, killed, lost)
