"""Workarounds for the start of Ray 2.60 and for the connection to it, each with its reason.

A workaround names the public issue, if there is one. `orchestrator.sweep.tune_compat` has the
workarounds for Train and Tune.

tests/orchestrator/sweep/test_ray_compat.py fails when a workaround is no longer needed, if that can
be tested.
"""

import gc
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import ClusterError

TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
"""An empty Train run takes 13 to 17 s with Ray's defaults and 5 to 10 s with these: the controller
looks at its workers more often, and does not watch for preemptions or export metrics (measured)."""

CONNECT_WITHIN = 10.0
"""Seconds within which a cluster's head must accept a connection."""
LOST_AFTER = 4.0
"""Seconds without an answer after which a head counts as lost."""
LONGEST_SOCKET = 107 if sys.platform == "linux" else 103
"""Bytes that the path of a socket may have."""
_PROBE = bytes(2**20)
HELPERS = ("start_monitor", "start_log_monitor", "start_api_server")
"""Methods of Ray's node that start a helper process."""
IMPORT_REMEDY = (
    "Install the same version of it on every node, and keep other files with the names of its "
    "packages out of PYTHONPATH and of the job's working directory. Then run the same command"
)


def set_environment(local: bool) -> None:
    """Set Ray's environment: less output and, for a local Ray, `TRAIN_ENVIRONMENT`."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune 2.60 moves a trial's process into a folder of its own. Paths in a configuration, such as
    # `features.feature_set`, are relative to the folder in which `ser` starts.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    if local:
        os.environ.update(TRAIN_ENVIRONMENT)
        os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "8")


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Silence the C++ core, which prints its log level (ray-project/ray#3662)."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def keep_token_private() -> None:
    """Create ~/.ray, readable only by its owner, if it does not exist.

    A local Ray writes its token to ~/.ray/auth_token with the default permissions
    (ray-project/ray#57835), which on most systems let every user read it. If the home folder cannot
    be written, which Ray does not expect, the token is only in this process's environment.
    """
    try:
        folder = Path("~/.ray").expanduser()
        folder.mkdir(mode=0o700, exist_ok=True)
        token = folder / "auth_token"
        if token.is_file():
            token.read_bytes()
        else:
            tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: the system knows no home folder
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def check_loopback() -> None:
    """Raise ClusterError if this machine cannot connect to itself: `ray.init` would not end."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), CONNECT_WITHIN).close()
    except OSError as error:
        raise ClusterError(
            f"the loopback interface does not work: a connection to 127.0.0.1 fails "
            f"({error.strerror or error}), and Ray needs such connections. Turn the interface on "
            f"(`ip link set lo up`), or allow it in the sandbox or container"
        ) from error


def choose_folder() -> None:
    """Set RAY_TMPDIR to a folder in which a local Ray can keep its files.

    Ray takes TMPDIR, which schedulers set to paths that are too long for its sockets
    (ray-project/ray#7724), or which cannot be written. /tmp then serves as well.

    Raises ClusterError with the reasons if no folder can be used.
    """
    name = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    folders = [os.path.abspath(os.environ.get(name) or "/tmp")]
    if name == "TMPDIR":
        folders.append("/tmp")
    reasons = {}
    for folder in folders:
        reason = _why_unusable(folder)
        if reason is None:
            os.environ["RAY_TMPDIR"] = folder
            return
        reasons[folder] = reason
    raise ClusterError(
        f"{name}: Ray cannot keep its files in "
        f"{', or in '.join(f'{folder} ({reason})' for folder, reason in reasons.items())}. "
        f"Set RAY_TMPDIR to a folder that you can write to, such as /dev/shm"
    )


def _why_unusable(folder: str) -> str | None:
    """Why Ray cannot keep its files in a folder, or None."""
    session = f"session_{'YYYY-MM-DD_hh-mm-ss_ffffff'}_{os.getpid()}"
    socket_path = os.path.join(folder, "ray", session, "sockets", "plasma_store")
    if (excess := len(os.fsencode(socket_path)) - LONGEST_SOCKET) > 0:
        return f"{excess} bytes too long for the path of a socket"
    try:
        os.makedirs(os.path.join(folder, "ray"), exist_ok=True)
        with tempfile.TemporaryFile(dir=os.path.join(folder, "ray")) as file:
            file.write(_PROBE)
    except OSError as error:
        return error.strerror or str(error)
    return None


def job_config() -> Any:
    """A job whose workers import from the folders that the driver imports from.

    By default, workers search the working directory first (ray-project/ray#2515), and import a
    features.py of the user instead of our package.
    """
    from ray.job_config import JobConfig

    class DriverFolders(JobConfig):
        def _serialize(self) -> Any:
            # The entry "" is the working directory.
            folders = {os.path.abspath(folder) for folder in sys.path}
            kept = [folder for folder in self._py_driver_sys_path if folder in folders]
            self._py_driver_sys_path = kept
            return super()._serialize()

    return DriverFolders()


@contextmanager
def replaced(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """Let the attribute of a module or class be `replacement` in this context."""
    kept = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, kept)


@contextmanager
def without_helpers() -> Iterator[None]:
    """Start no autoscaler, log monitor and dashboard for a Ray that starts in this context.

    A local Ray cannot grow, its logs are not read, and it has no dashboard. Ray starts these three
    processes all the same, which takes as much CPU time as all its other processes together. It
    also imports the packages of the dashboard (0.3 s), only to see whether they are installed.
    """
    from ray._private import utils
    from ray._private.node import Node

    with ExitStack() as stack:
        for name in HELPERS:
            stack.enter_context(replaced(Node, name, lambda self, **options: None))
        stack.enter_context(replaced(utils, "get_dashboard_dependency_error", lambda: None))
        yield


def end_failed_start(error: Exception) -> str | None:
    """Kill the processes of a local Ray that did not start. Return the folder of its logs.

    `ray.init` keeps no reference to such a node, so `ray.shutdown` would leave its processes.
    """
    from ray._private.node import Node

    shutdown()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node = frame.f_locals.get("self")
        if isinstance(node, Node):
            node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)
            return str(node.get_logs_dir_path())
    return None


def shutdown() -> None:
    """End the connection to Ray without garbage collection meanwhile.

    If another thread frees a reference to one of Ray's objects while `ray.shutdown` takes the core
    down, the core ends this process with status 1 and without a message (ray-project/ray#19115).
    The collector runs in any thread, and errors of lost nodes leave such references in cycles.
    """
    import ray

    enabled = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if enabled:
            gc.enable()


def check_head_listens(address: str) -> None:
    """Raise ClusterError if no process listens at HOST:PORT.

    `ray.init` would try for a quarter of an hour (measured; ray-project/ray#43070 is similar).
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return  # `auto`, or a value that Ray refuses at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClusterError(
            f"RAY_ADDRESS: no cluster answers at {address} ({reason}). Start the cluster, correct "
            f"the address, or unset RAY_ADDRESS to use a local Ray"
        ) from error


def report_lost_head(head: str) -> None:
    """Print a line if the head at HOST:PORT stops answering.

    Ray waits a minute for it, then ends the driver without a message (ray-project/ray#45570).
    """

    def watch() -> None:
        answered = time.monotonic()
        while time.monotonic() - answered < LOST_AFTER:
            time.sleep(LOST_AFTER / 4)
            with suppress(ClusterError):
                check_head_listens(head)
                answered = time.monotonic()
        print(
            f"ser: the cluster's head at {head} does not answer. If it stays silent, this command "
            f"ends. Results are on the storage: run the same command on another cluster",
            file=sys.stderr,
            flush=True,
        )

    threading.Thread(target=watch, daemon=True).start()
