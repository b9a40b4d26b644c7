"""Clusters: jobs on a real head, `ray submit` over a real ssh, the Slurm script on two nodes."""

import getpass
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tests.support.clusters import ALONE, EXAMPLES, Head, Machine, give_token, head, machine
from tests.support.faults import Place, free_port

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger

TINY = {
    "training": {"epochs": 1},
    "search": {"trials": 1, "scheduler": "none"},
    "cluster": {"concurrent_trials": 1},
}
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
needs_ssh = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None or shutil.which("rsync") is None,
    reason="ray submit needs ssh and rsync here, and an sshd: Debian's openssh-server and rsync",
)


def place(folder: Path, spoken: Path) -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    return Place("disk", str(folder / "runs"), str(spoken), folder)


def complete(work: Place, name: str) -> int:
    """How many trials of a sweep are whole on the storage: their files have their digests."""
    records = Ledger(Storage.open(work.root).child(name)).trials()
    return sum(record.status == "complete" for record in records)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head() as running:
        yield running


def test_a_job_is_followed_to_its_end_and_leaves_data_on_the_storage_alone(
    cluster: Head, tmp_path: Path, spoken: Path
) -> None:
    work, sent = place(tmp_path / "storage", spoken), tmp_path / "sent"
    sent.mkdir()
    shutil.copy(work.configure(**TINY), sent / "my.yaml")
    address = ["--address", cluster.dashboard]
    submit = ["ray", "job", "submit", *address, "--working-dir", str(sent)]
    job = ["--submission-id", "tiny", "--", "ser", "train", "my.yaml"]

    for client in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        refused = cluster.machine.run(*submit, *job, **client)
        assert refused.returncode == 1
        assert "AuthenticationError" in refused.stderr
    assert not Path(work.root).exists()

    done = cluster.machine.run(*submit, *job, RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best UA" in done.stdout  # the driver's output, followed
    status = cluster.machine.run("ray", "job", "status", *address, "tiny", RAY_AUTH_MODE="token")
    assert "Job 'tiny' succeeded" in status.stdout + status.stderr
    assert complete(work, "faulty-train") == 1
    # The driver ran in a copy of what was sent, which still is all that it holds.
    copies = list(cluster.machine.folder.glob("ray/ray/session_2*/runtime_resources/working_dir_*"))
    assert [p.name for c in copies for p in c.rglob("*") if p.suffix not in ("", ".lock")] == [
        "my.yaml"
    ]
    assert [path.name for path in cluster.machine.home.iterdir()] == [".ray"]


def test_a_cluster_that_refuses_or_is_not_there_is_named_with_the_remedy(
    cluster: Head, tmp_path: Path, spoken: Path
) -> None:
    config = place(tmp_path, spoken).configure()
    nobody = f"127.0.0.1:{free_port()}"
    missing = str(tmp_path / "missing")
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({"RAY_ADDRESS": nobody}, [nobody, "no cluster answers", "unset RAY_ADDRESS"]),
        ({"RAY_ADDRESS": "nonsense"}, ["RAY_ADDRESS: nonsense: Invalid address"]),
        ({"RAY_ADDRESS": cluster.address}, [cluster.address, "set RAY_AUTH_MODE=token"]),
        (
            {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            [cluster.address, "RAY_AUTH_TOKEN must hold the token"],
        ),
        (
            {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "token"}
            | {"RAY_AUTH_TOKEN_PATH": missing},
            [cluster.address, f"the file {missing} (RAY_AUTH_TOKEN_PATH) must hold the token"],
        ),
    ]
    for client, said in cases:
        done = cluster.machine.run("ser", "extract", config, **client)
        assert done.returncode == 1, done.stderr
        line = done.stderr.strip().splitlines()
        assert len(line) == 1, done.stderr
        assert all(part in line[0] for part in said), done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_local_ray_asks_for_a_token_that_others_cannot_read() -> None:
    script = """
import os, subprocess, sys
from orchestrator.cli.commands import _cluster

with _cluster():
    import ray
    address = ray.get_runtime_context().gcs_address
    for token in (None, open(os.path.expanduser("~/.ray/auth_token")).read()):
        client = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_MODE",)}
        if token is not None:
            client |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        probe = "import sys, ray; ray.init(address=sys.argv[1]); print('in')"
        command = [sys.executable, "-c", probe, address]
        print(subprocess.run(command, env=client, stdout=subprocess.PIPE, text=True).stdout)
"""
    with machine() as here:
        done = here.run(sys.executable, "-c", script)
        assert done.stdout.split() == ["in"], done.stderr  # the second, with the token
        folder = here.home / ".ray"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "auth_token").read_text()


@contextmanager
def sshd(remote: Machine, desk: Machine) -> Iterator[None]:
    """An sshd on loopback that lets `desk` in with a key of its own, to the home of `remote`.

    Neither side reads or writes the user's own ~/.ssh.
    """
    port, keys = free_port(), desk.home / ".ssh"
    keys.mkdir(mode=0o700)
    for key in ("host", "ser_cluster"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / key)]
        subprocess.run(make, check=True)
    # Ray's ssh knows no port: it is the client's configuration that says it.
    client = desk.folder / "ssh_config"
    client.write_text(f"Host 127.0.0.1\n  Port {port}\n")
    desk.program("ssh", f'exec {shutil.which("ssh")} -F {client} "$@"')
    seen = {name: remote.environment()[name] for name in ("HOME", "RAY_TMPDIR")}
    server = desk.folder / "sshd_config"
    server.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {keys / 'ser_cluster.pub'}\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv {' '.join(f'{name}={value}' for name, value in seen.items())}\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it of root
    log = desk.folder / "sshd.log"
    log.touch()  # sshd makes it in its own time
    process = subprocess.Popen([str(SSHD), "-D", "-f", str(server), "-E", str(log)])
    try:
        login = ["ssh", "-i", keys / "ser_cluster", "-o", "StrictHostKeyChecking=no", "-o"]
        login += ["UserKnownHostsFile=/dev/null", f"{getpass.getuser()}@127.0.0.1", "echo $HOME"]
        deadline = time.monotonic() + 20
        while (tried := desk.run(*login)).returncode != 0:
            assert process.poll() is None, log.read_text()
            if "account is locked" in log.read_text():
                pytest.skip(f"sshd lets {getpass.getuser()} in by no key: the account is locked")
            assert time.monotonic() < deadline, tried.stderr + log.read_text()
            time.sleep(0.2)
        assert tried.stdout.strip() == str(remote.home)
        yield
    finally:
        process.terminate()
        process.wait()


def alone(commands: list[str], ports: dict[str, int]) -> list[str]:
    """The example's commands, for a machine on which other Rays run: `ray stop` would end them."""
    assert commands[0].endswith("/ray stop")
    (start,) = commands[1:]
    for name, port in ports.items():
        before, _, after = start.partition(f"--{name}=")
        start = f"{before}--{name}={port} {after.partition(' ')[2]}"
    return [f"{start} --ray-client-server-port={free_port()} --num-cpus=2 {ALONE}"]


@needs_ssh
def test_ray_submit_runs_a_sweep_on_a_cluster_reached_by_ssh(tmp_path: Path, spoken: Path) -> None:
    with machine() as remote, machine() as desk, sshd(remote, desk):
        token = give_token(desk.home)
        # The checkout, of which the example mounts all but what git ignores.
        checkout = tmp_path / "checkout"
        (checkout / "runs").mkdir(parents=True)
        (checkout / "runs" / "mine").touch()
        (checkout / "README.md").touch()
        (checkout / ".gitignore").write_text("/runs/\n")
        # The machine has the package already: nothing is installed into its ~/ser.
        (remote.home / "ser").symlink_to(sys.prefix)
        (remote.home / ".bashrc").write_text(
            f"export PYTHONPATH={remote.environment()['PYTHONPATH']} RAY_BACKEND_LOG_LEVEL=fatal\n"
        )
        config = yaml.safe_load((EXAMPLES / "on_premises.yaml").read_text())
        config["cluster_name"] = desk.folder.name
        config["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": []}
        # ssh would look for ~ where the system says that the user's home is.
        key = str(desk.home / ".ssh" / "ser_cluster")
        assert config["auth"]["ssh_private_key"] == "~/.ssh/ser_cluster"
        config["auth"] = {"ssh_user": getpass.getuser(), "ssh_private_key": key}
        install = [line for line in config["setup_commands"] if "pip install" in line]
        assert len(install) == 1
        config["setup_commands"].remove(install[0])
        ports = {"port": free_port(), "dashboard-port": free_port()}
        config["head_start_ray_commands"] = alone(config["head_start_ray_commands"], ports)
        file = desk.folder / "cluster.yaml"
        file.write_text(yaml.safe_dump(config))

        up = desk.run("ray", "up", "-y", "--no-config-cache", file, cwd=checkout)
        assert up.returncode == 0, up.stdout + up.stderr
        assert (remote.home / ".ray" / "auth_token").read_text() == token
        mounted = [path.name for path in (remote.home / "ser-orchestrator").iterdir()]
        assert sorted(mounted) == [".gitignore", "README.md"]

        work = place(tmp_path / "storage", spoken)
        send = desk.run("ray", "rsync-up", file, work.configure(**TINY), "~/my.yaml")
        assert send.returncode == 0, send.stdout + send.stderr
        submit = ["ray", "submit", "--no-config-cache", file, EXAMPLES / "submit.py", "--"]
        done = desk.run(*submit, "sweep", "~/my.yaml")  # ~ is the head's
        assert done.returncode == 0, done.stdout + done.stderr
        assert "best UA" in done.stdout
        assert complete(work, "faulty") == 1
        # Without its token the head lets nobody in, the script neither.
        (remote.home / ".ray" / "auth_token").write_text("0" * 64)
        refused = desk.run(*submit, "extract", "~/my.yaml")
        assert refused.returncode != 0
        assert "RAY_ADDRESS" in refused.stdout + refused.stderr


def test_the_slurm_script_is_queued_again_in_time_and_goes_on(tmp_path: Path, spoken: Path) -> None:
    work = place(tmp_path, spoken)
    config = work.configure(**TINY)
    with machine() as node:
        # Two nodes on this machine: `srun` runs the command here instead of there.
        node.program(
            "srun",
            'while [[ $1 == --* ]]; do echo "$1" >> ../srun.log; shift; done\n'
            f'cd .. && exec "$@" {ALONE}',
        )
        node.program("scontrol", 'echo "$@" >> ../scontrol.log')
        node.program("hostname", "echo not the name of the node")
        environment = node.environment(
            SLURM_JOB_ID="17",
            SLURM_JOB_NUM_NODES="2",
            SLURM_CPUS_PER_TASK="1",
            SLURMD_NODENAME="127.0.0.1",
            SER_PORT=str(free_port()),
            SER_DASHBOARD_PORT=str(free_port()),
            SER_TEMP=str(node.folder / "ray" / "17"),
        )
        script = ["bash", str(EXAMPLES / "slurm.sh"), str(config)]

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(
                script,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                cwd=node.folder / "bin",
            )

        first = start()
        deadline = time.monotonic() + 240
        while not list(Path(work.root).rglob("*.parquet")):
            assert first.poll() is None, first.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        made = {path: path.stat().st_mtime_ns for path in Path(work.root).rglob("*.parquet")}
        first.send_signal(signal.SIGUSR1)  # as Slurm does two minutes before the end
        said = first.communicate(timeout=60)[0]
        assert first.returncode == 0, said
        assert (node.folder / "scontrol.log").read_text() == "requeue 17\n"
        node.stop()  # as Slurm does with all that a job leaves

        second = start()
        said = second.communicate(timeout=300)[0]
        assert second.returncode == 0, said
        assert complete(work, "faulty") == 1
        assert all(path.stat().st_mtime_ns == then for path, then in made.items())
        asked = (node.folder / "srun.log").read_text()
        assert "--exclude=127.0.0.1" in asked
        token = node.home / ".ray" / "auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        node.stop()
