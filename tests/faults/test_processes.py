"""SIGKILL of what a sweep is made of: workers, trials, nodes, the head."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.support.clusters import ALONE
from tests.support.faults import QUICK, Faults, Place, Reference, free_port, kill, named, wait

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


PROCESSES = {
    "Train worker": "ray::RayTrainWorker",
    "Train controller": "ray::TrainController",
    "trial's actor": "ray::ImplicitFunc",
}


def test_processes_of_trials_are_killed(place: Place, reference: Reference, faults: Faults) -> None:
    """The same driver ends the sweep: what it lost starts again from its checkpoint."""
    place.begin(reference, trials=1)
    config = place.configure(cluster={"workers_per_trial": 2})
    killed: list[str] = []
    ended: dict[str, bytes] = {}

    def victim() -> psutil.Process | None:
        if not set(place.checkpoints()) - seen:
            return None  # until epochs are done that are not to be done again
        return next(iter(named(driver, PROCESSES[what])), None)

    with place.driver(config) as driver:
        for what in PROCESSES:
            seen: set[str] = set(place.checkpoints())
            if process := wait(victim, driver):
                process.kill()
                killed.append(what)
                ended |= place.records()
        wait(lambda: driver.poll() is not None)
        assert driver.returncode == 0, (place.scratch / "driver.log").read_text()
    lost = place.lost(reference.outcome, ended)
    for what in PROCESSES:
        faults.note(f"{what}: SIGKILL", place, killed.count(what), lost)


@contextmanager
def head(port: int) -> Iterator[psutil.Popen]:
    """A head by itself, as `ray start` makes one."""
    ray = str(Path(sys.executable).with_name("ray"))
    # A short path: sockets' may have 107 bytes.
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
    """The driver ends and says so; a new head, the same command, and nothing is lost."""
    place.begin(reference, trials=2)
    port = free_port()
    place.environment |= {"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_MODE": "token"}
    config = place.configure()
    with head(port) as first:
        with place.driver(config) as driver:
            assert wait(place.checkpoints, driver)
            kill(first)
            wait(lambda: driver.poll() is not None)
            said = (place.scratch / "driver.log").read_text()
            assert driver.returncode == 1, said
            assert "the cluster's head at" in said
            assert said.endswith("goes on once there is a cluster again\n")
        ended = place.records()
    with head(port):
        place.finish(config)
    faults.note("head: SIGKILL", place, 1, place.lost(reference.outcome, ended))


def test_nodes_are_killed_and_others_come(
    place: Place, reference: Reference, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials of three workers on two nodes. Both go, one comes, and two workers end the sweep."""
    from ray.cluster_utils import Cluster

    place.begin(reference, trials=1)
    for name, value in QUICK.items():  # processes of the cluster have our environment
        monkeypatch.setenv(name, value)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    ended: dict[str, bytes] = {}
    try:
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        cluster.wait_for_nodes()
        place.environment["RAY_ADDRESS"] = cluster.address
        config = place.configure(cluster={"workers_per_trial": 3})
        killed = 0
        with place.driver(config) as driver:
            while nodes:
                seen = set(place.checkpoints())
                assert wait(lambda: set(place.checkpoints()) - seen, driver)  # noqa: B023
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                ended |= place.records()
                killed += 1
            cluster.add_node(num_cpus=2)
            wait(lambda: driver.poll() is not None)
            assert driver.returncode == 0, (place.scratch / "driver.log").read_text()
    finally:
        cluster.shutdown()
    lost = place.lost(reference.outcome, ended)
    faults.note("node: SIGKILL of its raylet", place, killed, lost)
