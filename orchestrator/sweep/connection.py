"""The way to a Ray cluster: found, or refused in one line that says what to do."""

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

PATIENCE = 10.0
"""Seconds that a cluster's head has to accept a connection."""
SILENCE = 4.0
"""Seconds after which a head that no longer does is called gone."""


class ClusterError(RuntimeError):
    """The cluster at RAY_ADDRESS is not there, or does not let us in."""


def connect(address: str, **options: Any) -> None:
    """Connect to the cluster at `address`, which is the value of RAY_ADDRESS.

    options : of `ray.init`

    Raises ClusterError, which names the address and the remedy.
    """
    import ray
    from ray.exceptions import AuthenticationError

    _knock(address)
    try:
        ray.init(address=address, **options)
    except (AuthenticationError, ConnectionError) as error:
        if address == "auto":
            raise ClusterError(
                "RAY_ADDRESS is auto, and no Ray runs on this machine that lets us in; give its "
                f"head's HOST:PORT, or unset RAY_ADDRESS to start a local one. {_tokens()}"
            ) from error
        raise ClusterError(
            f"RAY_ADDRESS: the cluster at {address} does not let us in. {_tokens()}"
        ) from error
    except (RuntimeError, ValueError) as error:  # other versions there, or no address at all
        line = str(error).strip().splitlines()[0]
        raise ClusterError(f"RAY_ADDRESS: {address}: {line}") from error
    head = ray.get_runtime_context().gcs_address
    threading.Thread(target=_watch, args=(head,), daemon=True).start()


def _watch(head: str) -> None:
    """Say it when the head is gone: Ray waits a minute for it, and then ends without a word."""
    answered = time.monotonic()
    while time.monotonic() - answered < SILENCE:
        time.sleep(SILENCE / 4)
        try:
            _knock(head)
            answered = time.monotonic()
        except ClusterError:
            continue
    print(
        f"ser: the cluster's head at {head} is gone. If it stays away, this ends; what is done is "
        f"on the storage, and the same command goes on once there is a cluster again",
        file=sys.stderr,
        flush=True,
    )


def _knock(address: str) -> None:
    """Raise ClusterError where nobody listens: Ray itself would try for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return  # `auto`, or what Ray refuses at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClusterError(
            f"RAY_ADDRESS: no cluster answers at {address} ({reason}); start it, correct the "
            f"address, or unset RAY_ADDRESS to start a local Ray"
        ) from error


def _tokens() -> str:
    """What a refused client has by way of a token, and what it would need."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return (
            "If it asks for a token, set RAY_AUTH_MODE=token and put the token into "
            "~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"
        )
    where = "~/.ray/auth_token"
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        where = f"the file {os.environ['RAY_AUTH_TOKEN_PATH']} (RAY_AUTH_TOKEN_PATH)"
    if os.environ.get("RAY_AUTH_TOKEN"):
        where = "RAY_AUTH_TOKEN"
    return f"RAY_AUTH_MODE is token: {where} must hold the token that the cluster was started with"


def keep_token_private() -> None:
    """Make ~/.ray for its owner alone, where it is not there yet.

    A local Ray asks its clients for a token, which Ray writes to ~/.ray/auth_token for all to read.
    """
    Path("~/.ray").expanduser().mkdir(mode=0o700, exist_ok=True)
