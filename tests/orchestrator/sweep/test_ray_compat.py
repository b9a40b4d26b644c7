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
