"""The workarounds for Ray: these tests fail when Ray no longer needs one of them."""

import inspect
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestrator.errors import ClusterError
from orchestrator.sweep import ray_compat
from tests.support.processes import wait


def test_the_workarounds_are_for_the_installed_version() -> None:
    """If this fails, go through the module: newer Rays may have fixed something."""
    assert ray.__version__.startswith("2.60."), ray.__version__


def test_ray_still_writes_its_token_readable_for_others(tmp_path: Path) -> None:
    code = "from ray._private.authentication import authentication_token_setup as setup\n"
    code += "setup.generate_and_save_token()"
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = ["sh", "-c", f'umask 022; exec "{sys.executable}" -c "$0"', code]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    mode = (tmp_path / ".ray" / "auth_token").stat().st_mode
    assert mode & stat.S_IROTH, "remove keep_token_private: Ray protects the token itself"


def test_the_token_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        ray_compat.keep_token_private()
        assert stat.S_IMODE((tmp_path / ".ray").stat().st_mode) == 0o700


def test_train_still_retries_its_controller_forever() -> None:
    from ray.train import FailureConfig

    default = inspect.signature(FailureConfig).parameters["controller_failure_limit"].default
    assert default == -1, "remove no_own_retries if Train no longer retries by default"
    configuration = ray_compat.no_own_retries()
    assert (configuration.max_failures, configuration.controller_failure_limit) == (0, 0)


def test_tune_still_catches_ctrl_c_by_default() -> None:
    from ray.tune import tune

    assert "TUNE_DISABLE_SIGINT_HANDLER" in inspect.getsource(tune)


def test_trains_start_errors_still_have_the_names_that_are_looked_for() -> None:
    from ray.train.v2._internal import exceptions

    timeout = exceptions.WorkerGroupStartupTimeoutError
    assert ray_compat.start_failure(timeout.__new__(timeout)) == "timeout"
    failure = exceptions.WorkerGroupStartupFailedError
    assert ray_compat.start_failure(failure.__new__(failure)) == "failure"
    assert ray_compat.start_failure(ValueError("x")) is None


def test_processes_have_different_marks() -> None:
    marks = [ray_compat.reservation_mark(f"{number:032x}") for number in range(50)]
    assert len(set(marks)) == 50
    assert all(10**6 <= mark < 3 * 10**6 for mark in marks)


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_dead_process_reserved_is_released() -> None:
    """Ray itself keeps the placement group of an actor that is killed."""
    from ray.util import placement_group, placement_group_table

    class Owner:
        def reserve(self) -> tuple[str, Any]:
            actor = str(ray.get_runtime_context().get_actor_id())
            group = placement_group([{"CPU": 1, "memory": ray_compat.reservation_mark(actor)}])
            ray.get(group.ready())
            return actor, group

    owners = [ray.remote(num_cpus=0)(Owner).remote() for _ in range(2)]
    (dead, lost), (alive, kept) = ray.get([owner.reserve.remote() for owner in owners])

    def states() -> list[str]:
        return [placement_group_table(group)["state"] for group in (lost, kept)]

    assert not ray_compat.is_dead(dead)
    ray.kill(owners[0])
    assert wait(lambda: ray_compat.is_dead(dead))
    assert not ray_compat.is_dead(alive)
    ray_compat.release_reservations([])
    assert states() == ["CREATED", "CREATED"]
    ray_compat.release_reservations([dead])
    assert wait(lambda: states() == ["REMOVED", "CREATED"])
    ray_compat.release_reservations([dead, alive])
    assert wait(lambda: states() == ["REMOVED", "REMOVED"])
    ray.kill(owners[1])


def test_idle_processes_stay_until_the_search_ends() -> None:
    """Tune's own cache would keep only one. Both have the methods that the controller calls."""
    from ray.tune.execution import tune_controller
    from ray.tune.utils.object_cache import _ObjectCache

    kept = {}
    for cache in (_ObjectCache(may_keep_one=True), ray_compat.IdleProcesses(may_keep_one=True)):
        results = [cache.cache_object("trial", name) for name in "abc"]
        ended = list(cache.flush_cached_objects(force_all=False))
        kept[type(cache)] = (results, ended, cache.num_cached_objects)
        assert cache.pop_cached_object("trial") == "a"
        cache.cache_object("trial", "d")
        assert list(cache.flush_cached_objects(force_all=True))[-1] == "d"
        assert cache.num_cached_objects == 0
    assert kept[_ObjectCache] == ([True, False, False], [], 1), "Tune now keeps more"
    assert kept[ray_compat.IdleProcesses] == ([True, True, True], [], 3)
    assert tune_controller._ObjectCache is _ObjectCache
    with ray_compat.idle_processes_kept():
        assert tune_controller._ObjectCache is ray_compat.IdleProcesses
    assert tune_controller._ObjectCache is _ObjectCache


def test_an_address_without_a_listener_is_refused_at_once() -> None:
    with pytest.raises(ClusterError, match=r"no cluster answers at 127\.0\.0\.1:9 .*unset"):
        ray_compat.check_head_listens("127.0.0.1:9")
    ray_compat.check_head_listens("auto")


def test_a_searcher_without_state_is_pickled_empty(tmp_path: Path) -> None:
    searcher = ray_compat.SearcherWithoutState(metric="score", mode="max")
    searcher.secret = object()  # cannot be compared after pickling, so it must be gone
    assert not vars(pickle.loads(pickle.dumps(searcher)))  # noqa: S301
    searcher.save_to_dir(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_only_the_line_about_memory_is_kept_of_the_monitors_report(tmp_path: Path) -> None:
    class Trial:
        last_result = None
        error_file = str(tmp_path / "error.txt")

    assert ray_compat.interruption_reason(Trial()) == "no reason given"
    (tmp_path / "error.txt").write_text(
        "Failure # 1\nold\nFailure # 2\nTask was killed due to the node running low on memory.\n"
        "Memory on the node was 23 GB.\nSet RAY_memory_usage_threshold to adjust.\n"
    )
    reason = ray_compat.interruption_reason(Trial())
    assert reason == "Task was killed due to the node running low on memory."
    Trial.last_result = {"interrupted": "OSError: gone"}
    assert ray_compat.interruption_reason(Trial()) == "OSError: gone"


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
    remedy = ray_compat.import_failure(text)
    assert remedy is not None
    assert remedy.startswith("a worker cannot import this program (")
    assert "'features'" in remedy.partition(". Install the same version")[0]

    class Trial:
        last_result = None
        error_file = str(tmp_path / "error.txt")

    (tmp_path / "error.txt").write_text(f"Failure # 1\nold\nFailure # 2\n{text}")
    assert ray_compat.interruption_reason(Trial()) == remedy


def test_other_errors_are_not_import_failures() -> None:
    for text in ("", "OSError: gone", "ValueError: ImportError is not at the start of the line"):
        assert ray_compat.import_failure(text) is None
