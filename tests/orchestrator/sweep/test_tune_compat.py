"""The workarounds for Train and Tune: these tests fail when Ray no longer needs one of them."""

import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestrator.sweep import tune_compat
from tests.support.processes import wait


def test_train_still_retries_its_controller_forever() -> None:
    from ray.train import FailureConfig

    default = inspect.signature(FailureConfig).parameters["controller_failure_limit"].default
    assert default == -1, "remove no_own_retries if Train no longer retries by default"
    configuration = tune_compat.no_own_retries()
    assert (configuration.max_failures, configuration.controller_failure_limit) == (0, 0)


def test_tune_still_catches_ctrl_c_by_default() -> None:
    from ray.tune import tune

    assert "TUNE_DISABLE_SIGINT_HANDLER" in inspect.getsource(tune)


def test_trains_start_errors_still_have_the_names_that_are_looked_for() -> None:
    from ray.train.v2._internal import exceptions

    timeout = exceptions.WorkerGroupStartupTimeoutError
    assert tune_compat.start_failure(timeout.__new__(timeout)) == "timeout"
    failure = exceptions.WorkerGroupStartupFailedError
    assert tune_compat.start_failure(failure.__new__(failure)) == "failure"
    assert tune_compat.start_failure(ValueError("x")) is None


def test_processes_have_different_marks() -> None:
    marks = [tune_compat.reservation_mark(f"{number:032x}") for number in range(50)]
    assert len(set(marks)) == 50
    assert all(10**6 <= mark < 3 * 10**6 for mark in marks)


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_dead_process_reserved_is_released() -> None:
    """Ray itself keeps the placement group of an actor that is killed."""
    from ray.util import placement_group, placement_group_table

    class Owner:
        def reserve(self) -> tuple[str, Any]:
            actor = str(ray.get_runtime_context().get_actor_id())
            group = placement_group([{"CPU": 1, "memory": tune_compat.reservation_mark(actor)}])
            ray.get(group.ready())
            return actor, group

    owners = [ray.remote(num_cpus=0)(Owner).remote() for _ in range(2)]
    (dead, lost), (alive, kept) = ray.get([owner.reserve.remote() for owner in owners])

    def states() -> list[str]:
        return [placement_group_table(group)["state"] for group in (lost, kept)]

    assert not tune_compat.is_dead(dead)
    ray.kill(owners[0])
    assert wait(lambda: tune_compat.is_dead(dead))
    assert not tune_compat.is_dead(alive)
    tune_compat.release_reservations([])
    assert states() == ["CREATED", "CREATED"]
    tune_compat.release_reservations([dead])
    assert wait(lambda: states() == ["REMOVED", "CREATED"])
    tune_compat.release_reservations([dead, alive])
    assert wait(lambda: states() == ["REMOVED", "REMOVED"])
    ray.kill(owners[1])


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("ours", [False, True])
def test_tune_prints_trials_that_report_nothing(
    ours: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a line would come before the summary of `ser sweep`."""
    from ray import tune

    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    callbacks = [tune_compat.NoProgress()] if ours else []
    run = tune.RunConfig(storage_path=str(tmp_path), callbacks=callbacks, verbose=0)
    tune.Tuner(lambda values: None, run_config=run).fit()
    assert ("completed. Last result:" in capfd.readouterr().out) == (not ours)


def test_idle_processes_stay_until_the_search_ends() -> None:
    """Tune's own cache would keep only one. Both have the methods that the controller calls."""
    from ray.tune.execution import tune_controller
    from ray.tune.utils.object_cache import _ObjectCache

    kept = {}
    for cache in (_ObjectCache(may_keep_one=True), tune_compat.IdleProcesses(may_keep_one=True)):
        results = [cache.cache_object("trial", name) for name in "abc"]
        ended = list(cache.flush_cached_objects(force_all=False))
        kept[type(cache)] = (results, ended, cache.num_cached_objects)
        assert cache.pop_cached_object("trial") == "a"
        cache.cache_object("trial", "d")
        assert list(cache.flush_cached_objects(force_all=True))[-1] == "d"
        assert cache.num_cached_objects == 0
    assert kept[_ObjectCache] == ([True, False, False], [], 1), "Tune now keeps more"
    assert kept[tune_compat.IdleProcesses] == ([True, True, True], [], 3)
    assert tune_controller._ObjectCache is _ObjectCache
    with tune_compat.idle_processes_kept():
        assert tune_controller._ObjectCache is tune_compat.IdleProcesses
    assert tune_controller._ObjectCache is _ObjectCache


def test_tune_still_gives_trials_an_environment_of_their_own() -> None:
    """A process with an environment of its own is not one of those that Ray starts first."""
    from ray.tune.execution import tune_controller
    from ray.tune.execution.class_cache import _ActorClassCache

    class Trainable:
        pass

    theirs = _ActorClassCache().get(Trainable)._default_options
    assert theirs["runtime_env"]["env_vars"], "remove WithoutEnvironment"
    with tune_compat.first_processes_used():
        ours = tune_controller._ActorClassCache()
    assert "runtime_env" not in ours.get(Trainable)._default_options
    assert ours.get(Trainable) is ours.get(Trainable)
    assert tune_controller._ActorClassCache is _ActorClassCache


def test_tune_still_imports_trackers_to_count_callbacks() -> None:
    """In a process of its own, because this one may have imported them already."""
    code = """
import sys
from contextlib import nullcontext
from ray.tune.tune import air_usage
from orchestrator.sweep.tune_compat import NoProgress, no_trackers_imported
for context in (no_trackers_imported(), nullcontext()):
    with context:
        air_usage.tag_callbacks([NoProgress()])
    print("ray.air.integrations.wandb" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"], "remove no_trackers_imported"


def test_a_searcher_without_state_is_pickled_empty(tmp_path: Path) -> None:
    searcher = tune_compat.SearcherWithoutState(metric="score", mode="max")
    searcher.secret = object()  # cannot be compared after pickling, so it must be gone
    assert not vars(pickle.loads(pickle.dumps(searcher)))  # noqa: S301
    searcher.save_to_dir(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_only_the_line_about_memory_is_kept_of_the_monitors_report(tmp_path: Path) -> None:
    class Trial:
        last_result = None
        error_file = str(tmp_path / "error.txt")

    assert tune_compat.interruption_reason(Trial()) == "no reason given"
    (tmp_path / "error.txt").write_text(
        "Failure # 1\nold\nFailure # 2\nTask was killed due to the node running low on memory.\n"
        "Memory on the node was 23 GB.\nSet RAY_memory_usage_threshold to adjust.\n"
    )
    reason = tune_compat.interruption_reason(Trial())
    assert reason == "Task was killed due to the node running low on memory."
    Trial.last_result = {"interrupted": "OSError: gone"}
    assert tune_compat.interruption_reason(Trial()) == "OSError: gone"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "ray.exceptions.RaySystemError: System error: No module named 'features'\n"
            "traceback: Traceback (most recent call last):\n"
            "ModuleNotFoundError: No module named 'features'",
            id="an argument of a task",
        ),
        pytest.param(
            "RuntimeError: The actor with name ImplicitFunc failed to import on the worker.\n\n"
            "  File \"x.py\", line 2\nModuleNotFoundError: No module named 'features'\n\n"
            "An unexpected internal error occurred while the worker was executing a task.",
            id="Tune's trial",
        ),
        pytest.param(
            "Training failed due to worker errors:\n[Rank 0 Error Snippet]:\n"
            "  ImportError: cannot import name 'errors' from 'features' (/x/features.py)\n",
            id="Train's worker",
        ),
    ],
)
def test_a_worker_that_cannot_import_the_program_is_not_out_of_memory(
    text: str, tmp_path: Path
) -> None:
    remedy = tune_compat.import_failure(text)
    assert remedy is not None
    assert remedy.startswith("a worker cannot import this program (")
    assert "'features'" in remedy.partition(". Install the same version")[0]

    class Trial:
        last_result = None
        error_file = str(tmp_path / "error.txt")

    (tmp_path / "error.txt").write_text(f"Failure # 1\nold\nFailure # 2\n{text}")
    assert tune_compat.interruption_reason(Trial()) == remedy


def test_other_errors_are_not_import_failures() -> None:
    for text in ("", "OSError: gone", "ValueError: ImportError is not at the start of the line"):
        assert tune_compat.import_failure(text) is None
