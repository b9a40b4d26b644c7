"""What the cluster tests share: homes, Ray heads with tokens, and the end of all they started."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.support.faults import free_port

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "cluster"
BIN = Path(sys.executable).parent

ALONE = (
    # Other Rays may run on this machine: ports that any may have, little memory.
    "--dashboard-agent-listen-port=0 --min-worker-port=0 --max-worker-port=0 "
    "--object-store-memory=100000000"
)


@dataclass(frozen=True)
class Machine:
    """A home folder and a folder for Ray's files, which mark all processes that belong to it."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, **more: str) -> dict[str, str]:
        """What a login there sees: of this test's environment nothing that means Ray or Slurm."""
        ours = ("RAY_", "SLURM", "SER_", "AWS_", "TUNE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {
            "HOME": str(self.home),
            "RAY_TMPDIR": str(self.folder / "ray"),
            "PATH": f"{self.folder / 'bin'}:{BIN}:{kept['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_BACKEND_LOG_LEVEL": "fatal",
            "RAY_NUM_REDIS_GET_RETRIES": "2",  # Ray's attempts to get in where it is refused
            **more,
        }

    def run(self, *command: str | Path, cwd: Path | None = None, **more: str) -> "Done":
        """A command to its end; both of its outputs are text."""
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
        """Put a shell script before all others on PATH."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def processes(self) -> list[psutil.Process]:
        """Whatever was started with this machine's environment, and what that started."""
        mark, found = str(self.folder / "ray"), set()
        for process in psutil.process_iter():
            try:
                if process.environ().get("RAY_TMPDIR") == mark:
                    # Ray's processes name themselves, some over their environment.
                    found |= {process, *process.children(recursive=True)}
            except psutil.Error:
                continue
        return list(found)

    def stop(self) -> None:
        deadline = time.monotonic() + 60
        while alive := self.processes():
            assert time.monotonic() < deadline, f"still alive: {alive}"
            for process in alive:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(alive, timeout=5)


Done = subprocess.CompletedProcess[str]


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine that is taken down at the end. Its folder's path is short: Ray's sockets are."""
    made = Machine(Path(tempfile.mkdtemp(prefix="ser", dir="/tmp")))
    for name in ("home", "ray", "bin"):
        (made.folder / name).mkdir()
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.folder, ignore_errors=True)


def give_token(home: Path, token: str | None = None) -> str:
    """Write a token to where Ray looks for it; a new one where none is given."""
    token = token or secrets.token_hex(32)
    folder = home / ".ray"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "auth_token"
    path.touch(mode=0o600)
    path.write_text(token)
    return token


@dataclass(frozen=True)
class Head:
    """A Ray head at work: its address, its dashboard's, and the machine whose token it wants."""

    machine: Machine
    address: str
    dashboard: str


@contextmanager
def head() -> Iterator[Head]:
    """A head of two CPUs with token authentication and a dashboard, on this machine."""
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
            process = subprocess.Popen(
                command.split(),
                stdout=output,
                stderr=output,
                env=made.environment(RAY_AUTH_MODE="token"),
                cwd=made.folder,
            )
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Head(made, f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")
