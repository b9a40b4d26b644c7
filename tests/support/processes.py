"""Processes of the tests: wait for an event, find Ray's processes, kill a process tree."""

import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import psutil

PATIENCE = 400.0
"""Seconds that a test waits for an event before it fails."""


def wait(
    condition: Callable[[], Any], process: psutil.Popen | None = None, load: float = 0.1
) -> Any:
    """Return the value of `condition` as soon as it is true, or None if `process` ends first.

    load : share of the time that the checks may take. Checks slow down the processes that the
        test waits for, most of all on S3.
    """
    deadline = time.monotonic() + PATIENCE
    while (began := time.monotonic()) < deadline:
        if value := condition():
            return value
        if process is not None and process.poll() is not None:
            return None
        time.sleep(max(0.02, (1 / load - 1) * (time.monotonic() - began)))
    raise AssertionError(f"the expected event did not occur within {PATIENCE:g} s")


def kill(process: psutil.Process) -> None:
    """SIGKILL a process. Its children end by themselves, or are killed after 20 seconds."""
    try:
        children = process.children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(children, timeout=20)
    for child in alive:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


def alive(process: psutil.Process) -> bool:
    """Whether a process runs. One that ended, but that its parent has not read yet, does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def named(process: psutil.Process, title: str) -> list[psutil.Process]:
    """Return Ray's processes below `process` whose title, as `ps` shows it, starts with `title`."""
    matches = []
    for child in process.children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if line.startswith(title):
            matches.append(child)
    return matches


def free_port() -> int:
    """Return a TCP port of this machine that no process listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
