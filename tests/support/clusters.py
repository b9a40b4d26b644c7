"""Cluster tests: machines with a home of their own, and Ray heads that require a token."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.processes import alive, free_port, wait

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "cluster"
BIN = Path(sys.executable).parent

ALONE = (
    # Other Rays may run on this machine, so take any free port, and little memory.
    "--dashboard-agent-listen-port=0 --min-worker-port=0 --max-worker-port=0 "
    "--object-store-memory=100000000"
)


@dataclass(frozen=True)
class Machine:
    """A home folder, and a folder for Ray's files, which identifies this machine's processes."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a login there, without this test's variables of Ray and Slurm."""
        ours = ("RAY_", "SLURM", "SER_", "AWS_", "TUNE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {
            "HOME": str(self.home),
            "RAY_TMPDIR": str(self.folder / "ray"),
            "PATH": f"{self.folder / 'bin'}:{BIN}:{kept['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_BACKEND_LOG_LEVEL": "fatal",
            "RAY_NUM_REDIS_GET_RETRIES": "2",  # Ray's attempts to connect if it is refused
            **more,
        }

    def run(self, *command: str | Path, cwd: Path | None = None, **more: str) -> "Done":
        """Run a command to its end. Both of its outputs are text."""
        return subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
            env=self.environment(**more),
            cwd=cwd or self.folder,
        )

    def program(self, name: str, script: str) -> None:
        """Add a shell script that comes before all other programs on PATH."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def processes(self) -> list[psutil.Process]:
        """All living processes with this machine's environment, and their children."""
        mark = str(self.folder / "ray")
        matches: set[psutil.Process] = set()
        for process in psutil.process_iter():
            try:
                if process.environ().get("RAY_TMPDIR") == mark:
                    # Some of Ray's processes overwrite their environment with their title.
                    matches |= {process, *process.children(recursive=True)}
            except psutil.Error:
                continue
        return [process for process in matches if alive(process)]

    def stop(self) -> None:
        """Kill all processes of this machine."""

        def killed_all() -> bool:
            left = self.processes()
            for process in left:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            return not left

        # A check reads all processes, so with the default load the pause would be a second.
        wait(killed_all, load=0.5)


Done = subprocess.CompletedProcess[str]


@contextmanager
def machine() -> Iterator[Machine]:
    """Make a machine, and remove it at the end. Its folder's path is short for Ray's sockets."""
    made = Machine(Path(tempfile.mkdtemp(prefix="ser", dir="/tmp")))
    for name in ("home", "ray", "bin"):
        (made.folder / name).mkdir()
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder, ignore_errors=True)


def give_token(home: Path) -> str:
    """Write a new token to the file in which Ray looks for it, and return the token."""
    token = secrets.token_hex(32)
    folder = home / ".ray"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "auth_token"
    path.touch(mode=0o600)
    path.write_text(token)
    return token


@dataclass(frozen=True)
class Head:
    """A running Ray head: its address, its dashboard's address, and the machine with its token."""

    machine: Machine
    address: str
    dashboard: str


@contextmanager
def head() -> Iterator[Head]:
    """Run a head of two CPUs with token authentication and a dashboard on this machine."""
    with machine() as made:
        give_token(made.home)
        port, dashboard = free_port(), free_port()
        command = (
            f"ray start --head --block --port={port} --dashboard-host=127.0.0.1 "
            f"--dashboard-port={dashboard} --ray-client-server-port={free_port()} --num-cpus=2 "
            f"--disable-usage-stats {ALONE}"
        )
        log = made.folder / "head.log"
        with log.open("w") as output:
            process = psutil.Popen(
                command.split(),
                stdout=output,
                stderr=output,
                env=made.environment(RAY_AUTH_MODE="token"),
                cwd=made.folder,
            )
        assert wait(lambda: "Ray runtime started" in log.read_text(), process), log.read_text()
        yield Head(made, f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")
