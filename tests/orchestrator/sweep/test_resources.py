"""How many workers and trials fit on a cluster."""

from typing import Any

import pytest

from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.errors import ConfigError
from orchestrator.sweep.resources import (
    Resources,
    choose_resources,
    workers_now,
    workers_that_fit,
)


@pytest.mark.parametrize(
    ("gpus_per_worker", "workers"),
    [(0, 8), (0.2, 8), (0.5, 4), (0.6, 2), (1, 2), (2, 1), (3, 0)],
    ids=lambda value: str(value),
)
def test_the_share_of_a_worker_is_a_part_of_one_gpu(gpus_per_worker: float, workers: int) -> None:
    assert workers_that_fit([{"CPU": 8, "GPU": 2}], gpus_per_worker) == workers


def test_a_worker_runs_on_one_node() -> None:
    assert workers_that_fit([{"CPU": 8, "GPU": 1}] * 2, 2) == 0
    assert workers_that_fit([{"CPU": 1}, {"CPU": 0.5, "GPU": 1}], 0) == 1


def test_a_trial_continues_with_the_workers_that_fit_on_the_remaining_nodes() -> None:
    folds = Resources(workers=5, replicas=1, gpus_per_worker=0.2, concurrent=1)
    assert workers_now(folds, [{"CPU": 16, "GPU": 1}]) == 5
    assert workers_now(folds, [{"CPU": 2, "GPU": 1}, {"CPU": 1, "GPU": 4}]) == 3
    assert workers_now(folds, [{"CPU": 2, "GPU": 4}]) == 2
    assert workers_now(folds, [{"CPU": 4}]) == 5  # not one fits, so the trial waits for a node
    replicas = Resources(workers=6, replicas=2, gpus_per_worker=0, concurrent=1)
    assert workers_now(replicas, [{"CPU": 3}]) == 6  # their number is part of the result


def searching(**cluster: Any) -> Configuration:
    return parse(
        {
            "name": "toy",
            "corpus": {"root": "x.csv", "classes": ["a", "b"]},
            "model": {"name": "iaan"},
            "search": {"space": "iaan_small"},
            "cluster": cluster,
        }
    )


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        pytest.param(
            {"workers_per_trial": 300}, r"300 CPUs and 0 GPUs.* cluster has 4 CPUs", id="CPUs"
        ),
        pytest.param({"gpus_per_worker": 0.5}, r"0\.5 GPUs.* 0 GPUs", id="GPUs"),
        pytest.param(
            {"workers_per_trial": 12, "gpus_per_worker": 0.2, "cpus": 30},
            r"12 CPUs and 2\.4 GPUs.* 30 CPUs and 0 GPUs",
            id="GPUs of a cluster that grows in CPUs",
        ),
        pytest.param({"workers_per_trial": 8}, r"8 CPUs.* 4 such workers fit", id="a few CPUs"),
    ],
)
def test_workers_that_never_fit_are_refused(cluster: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_resources(searching(**cluster), 3)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("limit", "concurrent"), [(None, 4), (3, 3), (9, 4)])
def test_not_more_trials_run_together_than_fit_or_are_allowed(
    limit: int | None, concurrent: int
) -> None:
    assert choose_resources(searching(concurrent_trials=limit), 3).concurrent == concurrent


@pytest.mark.usefixtures("ray_cluster")
def test_announced_nodes_count() -> None:
    grown = searching(workers_per_trial=12, gpus_per_worker=0.2, cpus=30, gpus=5)
    assert choose_resources(grown, 3) == Resources(12, 4, 0.2, 2)


@pytest.mark.usefixtures("ray_cluster")
def test_a_started_sweep_resumes_with_fewer_workers_unless_they_are_replicas() -> None:
    wide = searching(workers_per_trial=8)
    assert choose_resources(wide, 9, started=True) == Resources(4, 1, 0.0, 1)
    with pytest.raises(ConfigError, match="8 CPUs"):  # two workers for each fold
        choose_resources(wide, 4, started=True)
