"""The connection to Ray: a cluster at RAY_ADDRESS, or a local Ray for one command."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from orchestrator.config import registry
from orchestrator.errors import ClusterError
from orchestrator.sweep import ray_compat
from orchestrator.sweep.extraction import extraction

STARTS = 3
"""How often a local Ray is started before the command fails."""
REPLY_WITHIN = 30.0
"""Seconds for which the first reply of the nodes is awaited. Slower nodes are not checked."""


@contextmanager
def cluster() -> Iterator[bool]:
    """Connect to the cluster at RAY_ADDRESS, or start a local Ray that ends with this context.

    If Ray is initialised already, it is used and stays up. Returns whether a local Ray was started.
    Raises ClusterError if Ray does not start or answer, or if a node cannot run this program.
    """
    address = os.environ.get("RAY_ADDRESS")
    ray_compat.set_environment(local=not address)
    import ray

    if ray.is_initialized():
        check_workers()
        yield False
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        environment = {"env_vars": ray_compat.TRAIN_ENVIRONMENT}
        with ray_compat.silent_stderr():
            connect(address, runtime_env=environment, **quiet)
    else:
        start_local(**quiet)
    try:
        if address:
            check_workers()
        yield not address
    finally:
        ray_compat.shutdown()


class Connection(ExitStack):
    """A connection to Ray that is made when a run first needs it. The context closes it.

    Several runs may share a connection. Ray keeps the data of each run until the connection is
    closed, because Tune keeps references to them, and moves them to disk if memory is too small.

    compute : who extracts features. A local Ray of this connection never does, so this is decided
        before Ray is initialised
    """

    def __init__(self) -> None:
        super().__init__()
        self.compute = extraction()
        self._local: bool | None = None

    def open(self) -> bool:
        """Connect to Ray if that has not happened. Returns whether this started a local Ray."""
        if self._local is None:
            self._local = self.enter_context(cluster())
        return self._local


def start_local(**options: Any) -> None:
    """Start a local Ray. `options` are `ray.init`'s.

    On a busy machine Ray's processes may be too slow for Ray's limits of 15 and 30 seconds
    (ray-project/ray#65983). Ray is then started again. Raises ClusterError with the remedy.
    """
    import ray

    ray_compat.check_loopback()
    ray_compat.choose_folder()
    ray_compat.keep_token_private()
    for attempt in range(1, STARTS + 1):
        try:
            with ray_compat.silent_stderr(), ray_compat.without_helpers():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    job_config=ray_compat.job_config(),
                    **options,
                )
            return
        except Exception as error:  # Ray raises a plain Exception if it is too slow
            with ray_compat.silent_stderr():
                logs = ray_compat.end_failed_start(error)
            if attempt == STARTS:
                line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ClusterError(
                    f"a local Ray did not start in {STARTS} attempts ({line.split('. ')[0]}). If "
                    f"the machine is busy, wait or end other programs, then run the same command "
                    f"again{f'. Logs: {logs}' if logs else ''}"
                ) from error
            print("ser: Ray did not start, retrying", file=sys.stderr, flush=True)


def check_workers() -> None:
    """Raise ClusterError if a worker on one of the nodes cannot import this program."""

    def import_error() -> str | None:
        from importlib.util import find_spec
        from pathlib import Path

        # An import of these files would import torch too, which takes seconds.
        for file in ("features/extract.py", "orchestrator/sweep/trial.py", "ser_models/base.py"):
            package, _, inside = file.partition("/")
            spec = find_spec(package)
            if spec is None:
                return f"there is no package {package}"
            if not any(Path(f, inside).is_file() for f in spec.submodule_search_locations or []):
                return f"{spec.origin or package} is not our {package}"
        return None

    for node, error in _problems(import_error):
        raise ClusterError(
            f"a worker on node {node} cannot import this program ({error}). "
            f"{ray_compat.IMPORT_REMEDY}"
        )


def check_own_code(names: Iterable[tuple[str, str]]) -> None:
    """Raise ClusterError if a node lacks the user's code. Call it if Ray is initialised.

    names : (section, name) pairs of a configuration, as in ("model", "my_package.models:MyNet")
    """
    modules = registry.own_modules(names)
    if not modules:
        return

    def first_missing() -> str | None:
        import os
        import sys
        from importlib.machinery import PathFinder
        from importlib.util import find_spec
        from pathlib import Path

        # An import of the modules would import torch too, which takes seconds.
        for module in modules:
            top, *inside = module.split(".")
            spec = find_spec(top) or PathFinder.find_spec(top, [*sys.path, os.getcwd()])
            if spec is None:
                return module
            places = [Path(folder, *inside) for folder in spec.submodule_search_locations or []]
            files = [file for p in places for file in (p.with_suffix(".py"), p / "__init__.py")]
            if inside and not any(file.is_file() for file in files):
                return module
        return None

    for node, missing in _problems(first_missing):
        raise ClusterError(
            f"own code {missing} cannot be imported by the workers on node {node}. Send it with "
            f"the job (ray job submit --working-dir FOLDER, or py_modules), or install its package "
            f"on every node (docs/cluster.md)"
        )


def _problems(find: Callable[[], str | None]) -> Iterator[tuple[str, str]]:
    """Look for a problem on each node; yield the address of such a node, and its problem."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(find)
    replies = {}
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            replies[task.options(scheduling_strategy=here).remote()] = node["NodeManagerAddress"]
    ready, _ = ray.wait(list(replies), num_returns=len(replies), timeout=REPLY_WITHIN)
    for reply in ready:
        with suppress(ray.exceptions.RayError):  # the node was lost, which the trials survive
            if (problem := ray.get(reply)) is not None:
                yield replies[reply], problem


def connect(address: str, **options: Any) -> None:
    """Connect to the cluster at `address`, the value of RAY_ADDRESS. `options` are `ray.init`'s.

    Raises ClusterError with the address and the remedy.
    """
    import ray
    from ray.exceptions import AuthenticationError

    ray_compat.check_head_listens(address)
    if not address.startswith("ray://"):  # there the job is made by the server
        options["job_config"] = ray_compat.job_config()
    try:
        ray.init(address=address, **options)
    except (AuthenticationError, ConnectionError) as error:
        if address == "auto":
            raise ClusterError(
                "RAY_ADDRESS is auto, but no Ray on this machine accepts the connection. Give the "
                f"head's HOST:PORT, or unset RAY_ADDRESS to use a local Ray. {_token_advice()}"
            ) from error
        raise ClusterError(
            f"RAY_ADDRESS: the cluster at {address} refuses the connection. {_token_advice()}"
        ) from error
    except (RuntimeError, ValueError) as error:  # another version of Ray, or not an address
        line = str(error).strip().splitlines()[0]
        raise ClusterError(f"RAY_ADDRESS: {address}: {line}") from error
    ray_compat.report_lost_head(ray.get_runtime_context().gcs_address)


def _token_advice() -> str:
    """Which token this client uses, and how to give the right token."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return (
            "If it asks for a token, set RAY_AUTH_MODE=token and put the token into "
            "~/.ray/auth_token, or name the token's file in RAY_AUTH_TOKEN_PATH"
        )
    place = "~/.ray/auth_token"
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        place = f"the file {os.environ['RAY_AUTH_TOKEN_PATH']} (RAY_AUTH_TOKEN_PATH)"
    if os.environ.get("RAY_AUTH_TOKEN"):
        place = "RAY_AUTH_TOKEN"
    return f"RAY_AUTH_MODE is token: {place} must hold the token that the cluster was started with"
