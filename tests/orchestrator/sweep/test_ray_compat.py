"""The workarounds for Ray: these tests fail when Ray no longer needs one of them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from orchestrator.errors import ClusterError
from orchestrator.sweep import ray_compat


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


def test_an_address_without_a_listener_is_refused_at_once() -> None:
    with pytest.raises(ClusterError, match=r"no cluster answers at 127\.0\.0\.1:9 .*unset"):
        ray_compat.check_head_listens("127.0.0.1:9")
    ray_compat.check_head_listens("auto")


FREE_DURING_SHUTDOWN = """
import gc, sys, threading, time, ray
from orchestrator.sweep import ray_compat

ray.init(address=sys.argv[1], logging_level="error", log_to_driver=False)
references = [ray.put(number) for number in range(3000)]

def free():
    while references:
        cycle = [references.pop()]
        cycle.append(cycle)  # only the collector frees it
        del cycle
        [[] for _ in range(4)]  # starts the collector, if it is enabled
        time.sleep(0.0002)

gc.set_threshold(1)
threading.Thread(target=free, daemon=True).start()
{call}
assert references  # the thread was busy until now
"""


@pytest.mark.parametrize(("call", "status"), [("ray.shutdown()", 1), ("ray_compat.shutdown()", 0)])
def test_no_thread_frees_references_during_the_shutdown(
    ray_cluster: None, call: str, status: int
) -> None:
    """If the first case fails, remove `shutdown`: Ray waits for the other threads itself."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", FREE_DURING_SHUTDOWN.format(call=call), address]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
