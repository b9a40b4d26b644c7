"""The connection to Ray: a cluster at RAY_ADDRESS, or a local Ray for one command."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.errors import ClusterError
from orchestrator.sweep import ray_compat


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster at RAY_ADDRESS, or start a local Ray that ends with this context.

    If Ray is initialised already, it is used and stays up.
    """
    address = os.environ.get("RAY_ADDRESS")
    ray_compat.set_environment(local=not address)
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        environment = {"env_vars": ray_compat.TRAIN_ENVIRONMENT}
        with ray_compat.silent_stderr():
            connect(address, runtime_env=environment, **quiet)
    else:
        ray_compat.keep_token_private()
        with ray_compat.silent_stderr():
            ray.init(address="local", include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def connect(address: str, **options: Any) -> None:
    """Connect to the cluster at `address`, the value of RAY_ADDRESS. `options` are `ray.init`'s.

    Raises ClusterError with the address and the remedy.
    """
    import ray
    from ray.exceptions import AuthenticationError

    ray_compat.check_head_listens(address)
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
