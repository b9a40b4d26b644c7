"""Clusters: jobs on a real head, `ray submit` over a real ssh, the Slurm script on two nodes."""

import getpass
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

import orchestrator
from features.storage import Storage
from orchestrator.data.prepare import plan_folds, prepare
from orchestrator.ledger.ledger import Ledger
from tests.support.clusters import ALONE, BIN, EXAMPLES, Head, Machine, give_token, head, machine
from tests.support.extraction import here
from tests.support.processes import free_port, wait
from tests.support.sweeps import NAME, configure

OWN = EXAMPLES.parent / "own_model"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
needs_ssh = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None or shutil.which("rsync") is None,
    reason="`ray submit` needs ssh, rsync and sshd: install openssh-server and rsync",
)


@pytest.fixture
def config(tmp_path: Path, spoken: Path) -> Path:
    """A sweep of one trial of one epoch, stored in `tmp_path/runs`."""
    return configure(
        tmp_path,
        spoken,
        training={"epochs": 1},
        search={"trials": 1, "scheduler": "none"},
        cluster={"concurrent_trials": 1},
    )


@pytest.fixture
def extracted(config: Path) -> Path:
    """The same sweep, with its features in the storage: Ray Data takes long to start."""
    loaded = orchestrator.load(str(config))
    prepare(plan_folds(loaded), Storage.open(loaded.storage), lambda *_: None, here)
    return config


def complete(folder: Path, name: str = NAME) -> int:
    """Number of complete trials of a sweep whose files are whole."""
    records = Ledger(Storage.open(str(folder / "runs" / name))).trials()
    return sum(record.status == "complete" for record in records)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head() as running:
        yield running


def test_a_job_brings_its_own_code_and_leaves_data_only_on_the_storage(
    cluster: Head, tmp_path: Path, spoken: Path
) -> None:
    """The model is a file of the working directory, and the features are a package beside it."""
    sent, package = tmp_path / "sent", tmp_path / "elsewhere" / "my_sounds"
    sent.mkdir()
    package.mkdir(parents=True)
    shutil.copy(OWN / "gated_mean.py", sent)
    loudness = (OWN / "loudness.py").read_text()
    (package / "__init__.py").write_text(loudness.replace("loudness:Loud", "my_sounds:Loud"))
    config = configure(
        tmp_path,
        spoken,
        model={"name": "gated_mean:GatedMean"},
        features={"name": "my_sounds:LoudnessConfig"},
        training={"epochs": 1},
        search=None,
    )
    config.rename(sent / "my.yaml")
    address = ["--address", cluster.dashboard]
    packages = ["--runtime-env-json", json.dumps({"py_modules": [str(package)]})]
    submit = ["ray", "job", "submit", *address, "--working-dir", str(sent), *packages]
    job = ["--submission-id", "tiny", "--", "ser", "train", "my.yaml"]

    for client in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        refused = cluster.machine.run(*submit, *job, **client)
        assert refused.returncode == 1
        assert "AuthenticationError" in refused.stderr
    assert not (tmp_path / "runs").exists()

    done = cluster.machine.run(*submit, *job, RAY_AUTH_MODE="token")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best UA" in done.stdout  # the driver's output
    status = cluster.machine.run("ray", "job", "status", *address, "tiny", RAY_AUTH_MODE="token")
    assert "Job 'tiny' succeeded" in status.stdout + status.stderr
    assert complete(tmp_path) == 1
    # The driver ran in a copy of the folder that was sent. The copy has no new files.
    copies = list(cluster.machine.folder.glob("ray/ray/session_2*/runtime_resources/working_dir_*"))
    files = [p.name for c in copies for p in c.rglob("*") if p.suffix not in ("", ".lock", ".pyc")]
    assert sorted(files) == ["gated_mean.py", "my.yaml"]
    assert [path.name for path in cluster.machine.home.iterdir()] == [".ray"]


def test_a_cluster_that_is_missing_or_refuses_access_is_named_with_the_remedy(
    cluster: Head, tmp_path: Path, config: Path
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    missing = str(tmp_path / "missing")
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({"RAY_ADDRESS": nobody}, [nobody, "unset RAY_ADDRESS"]),
        ({"RAY_ADDRESS": "nonsense"}, ["RAY_ADDRESS", "nonsense: Invalid address"]),
        ({"RAY_ADDRESS": cluster.address}, [cluster.address, "RAY_AUTH_MODE=token"]),
        (
            {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            [cluster.address, "RAY_AUTH_TOKEN"],
        ),
        (
            {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "token"}
            | {"RAY_AUTH_TOKEN_PATH": missing},
            [cluster.address, missing, "RAY_AUTH_TOKEN_PATH"],
        ),
    ]
    for client, parts in cases:
        done = cluster.machine.run("ser", "extract", config, **client)
        assert done.returncode == 1, done.stderr
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert all(part in lines[0] for part in parts), done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_worker_that_cannot_import_the_program_is_named(cluster: Head, tmp_path: Path) -> None:
    """Workers find another file first, the driver does not: as on nodes without the program."""
    script = """
import os, sys
import ray
from orchestrator.errors import SerError
from orchestrator.sweep import connection

for folder in sys.argv[1:]:
    environment = {"env_vars": {"PYTHONPATH": folder}}
    connection.connect(os.environ["HEAD"], runtime_env=environment, log_to_driver=False)
    try:
        with connection.cluster():
            print("used")
    except SerError as error:
        print(type(error).__name__, error)
    ray.shutdown()
"""
    folders = []
    for name in ("features", "orchestrator", "ser_models", "mine"):
        folders.append(tmp_path / f"with {name}")
        folders[-1].mkdir()
        (folders[-1] / f"{name}.py").touch()
    client = {"HEAD": cluster.address, "RAY_AUTH_MODE": "token"}
    done = cluster.machine.run(sys.executable, "-c", script, *folders, **client)
    *refused, used = done.stdout.splitlines()
    assert used == "used", done.stderr
    for name, line in zip(("features", "orchestrator", "ser_models"), refused, strict=True):
        assert line.startswith("ClusterError a worker on node "), line
        assert f"{name}.py is not our {name})" in line
        assert "Install the same version of it on every node" in line


def test_a_local_ray_requires_a_token_that_other_users_cannot_read() -> None:
    script = """
import os, subprocess, sys
from orchestrator.sweep.connection import cluster

with cluster():
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
        assert done.stdout.split() == ["in"], done.stderr  # only the client with the token
        folder = here.home / ".ray"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "auth_token").read_text()


@contextmanager
def sshd(remote: Machine, desk: Machine) -> Iterator[None]:
    """Run an sshd on loopback. A key of `desk` opens it, and its users' home is that of `remote`.

    Neither side reads or writes the real user's ~/.ssh.
    """
    port, keys = free_port(), desk.home / ".ssh"
    keys.mkdir(mode=0o700)
    for key in ("host", "ser_cluster"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / key)]
        subprocess.run(make, check=True)
    # Ray gives ssh no port, so the client's configuration does.
    client = desk.folder / "ssh_config"
    client.write_text(f"Host 127.0.0.1\n  Port {port}\n")
    desk.program("ssh", f'exec {shutil.which("ssh")} -F {client} "$@"')
    variables = {name: remote.environment()[name] for name in ("HOME", "RAY_TMPDIR")}
    server = desk.folder / "sshd_config"
    server.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {keys / 'ser_cluster.pub'}\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv {' '.join(f'{name}={value}' for name, value in variables.items())}\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd requires this folder if root starts it
    log = desk.folder / "sshd.log"
    log.touch()  # because sshd creates it late
    process = psutil.Popen([str(SSHD), "-D", "-f", str(server), "-E", str(log)])

    def login() -> str | None:
        """The home that a login sees; None if it fails."""
        command = ["ssh", "-i", keys / "ser_cluster", "-o", "StrictHostKeyChecking=no", "-o"]
        command += ["UserKnownHostsFile=/dev/null", f"{getpass.getuser()}@127.0.0.1", "echo $HOME"]
        done = desk.run(*command)
        if "account is locked" in log.read_text():
            pytest.skip(f"sshd refuses every key of {getpass.getuser()}: the account is locked")
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        assert wait(login, process) == str(remote.home), log.read_text()
        yield
    finally:
        process.terminate()
        process.wait()


def beside_others(commands: list[str], ports: dict[str, int]) -> list[str]:
    """The example's commands without `ray stop`, which would stop all Rays of this machine."""
    assert commands[0].endswith("/ray stop")
    (start,) = commands[1:]
    for name, port in ports.items():
        before, _, after = start.partition(f"--{name}=")
        start = f"{before}--{name}={port} {after.partition(' ')[2]}"
    return [f"{start} --ray-client-server-port={free_port()} --num-cpus=2 {ALONE}"]


@needs_ssh
def test_ray_submit_runs_a_sweep_on_a_cluster_that_is_reached_by_ssh(
    tmp_path: Path, extracted: Path
) -> None:
    with machine() as remote, machine() as desk, sshd(remote, desk):
        token = give_token(desk.home)
        # The example mounts the checkout without the files that git ignores.
        checkout = tmp_path / "checkout"
        (checkout / "runs").mkdir(parents=True)
        (checkout / "runs" / "mine").touch()
        (checkout / "README.md").touch()
        (checkout / ".gitignore").write_text("/runs/\n")
        # The remote machine has the package already, so the test installs nothing into ~/ser.
        (remote.home / "ser").symlink_to(sys.prefix)
        (remote.home / ".bashrc").write_text(
            f"export PYTHONPATH={remote.environment()['PYTHONPATH']} RAY_BACKEND_LOG_LEVEL=fatal\n"
        )
        cluster = yaml.safe_load((EXAMPLES / "on_premises.yaml").read_text())
        cluster["cluster_name"] = desk.folder.name
        cluster["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": []}
        # ssh takes ~ from the system's list of users, not from HOME.
        key = str(desk.home / ".ssh" / "ser_cluster")
        assert cluster["auth"]["ssh_private_key"] == "~/.ssh/ser_cluster"
        cluster["auth"] = {"ssh_user": getpass.getuser(), "ssh_private_key": key}
        install = [line for line in cluster["setup_commands"] if "pip install" in line]
        assert len(install) == 1
        cluster["setup_commands"].remove(install[0])
        ports = {"port": free_port(), "dashboard-port": free_port()}
        cluster["head_start_ray_commands"] = beside_others(
            cluster["head_start_ray_commands"], ports
        )
        file = desk.folder / "cluster.yaml"
        file.write_text(yaml.safe_dump(cluster))

        up = desk.run("ray", "up", "-y", "--no-config-cache", file, cwd=checkout)
        assert up.returncode == 0, up.stdout + up.stderr
        assert (remote.home / ".ray" / "auth_token").read_text() == token
        mounted = [path.name for path in (remote.home / "ser-orchestrator").iterdir()]
        assert sorted(mounted) == [".gitignore", "README.md"]

        send = desk.run("ray", "rsync-up", file, extracted, "~/my.yaml")
        assert send.returncode == 0, send.stdout + send.stderr
        submit = ["ray", "submit", "--no-config-cache", file, EXAMPLES / "submit.py", "--"]
        done = desk.run(*submit, "sweep", "~/my.yaml")  # ~ is the home on the head
        assert done.returncode == 0, done.stdout + done.stderr
        assert "best UA" in done.stdout
        assert complete(tmp_path) == 1
        # Without its token, the head refuses every client, the script included.
        (remote.home / ".ray" / "auth_token").write_text("0" * 64)
        elsewhere = f"storage={tmp_path / 'elsewhere'}"  # without features, so they are missing
        refused = desk.run(*submit, "extract", "~/my.yaml", "--set", elsewhere)
        assert refused.returncode != 0
        assert "RAY_ADDRESS" in refused.stdout + refused.stderr


def test_the_slurm_script_is_requeued_before_its_time_limit_and_resumes(
    tmp_path: Path, extracted: Path
) -> None:
    with machine() as node:
        # Two nodes on this machine: `srun` runs its command here.
        node.program(
            "srun",
            'while [[ $1 == --* ]]; do echo "$1" >> ../srun.log; shift; done\n'
            f'cd .. && exec "$@" {ALONE}',
        )
        # A head without its dashboard, which takes longer to start than all the rest of this test.
        start_head = '[[ "$1 $2" == "start --head" ]] && set -- "$@" --include-dashboard=false'
        node.program("ray", f'{start_head}\nexec {BIN}/ray "$@"')
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

        log = node.folder / "job.log"  # not a pipe: processes that a job leaves behind keep it open

        def start() -> psutil.Popen:
            with log.open("w") as output:
                return psutil.Popen(
                    ["bash", str(EXAMPLES / "slurm.sh"), str(extracted)],
                    stdout=output,
                    stderr=output,
                    env=environment,
                    cwd=node.folder / "bin",
                )

        first, runs = start(), tmp_path / "runs"
        assert wait(lambda: list(runs.rglob("sweep.json")), first), log.read_text()
        assert complete(tmp_path) == 0
        written = {path: path.stat().st_mtime_ns for path in runs.rglob("*.parquet")}
        first.send_signal(signal.SIGUSR1)  # Slurm sends it two minutes before the time limit
        assert first.wait(timeout=60) == 0, log.read_text()
        assert (node.folder / "scontrol.log").read_text() == "requeue 17\n"
        node.stop()  # Slurm kills all processes that a job leaves behind

        second = start()
        assert second.wait(timeout=300) == 0, log.read_text()
        assert complete(tmp_path) == 1
        assert all(path.stat().st_mtime_ns == time for path, time in written.items())
        assert "--exclude=127.0.0.1" in (node.folder / "srun.log").read_text()
        token = node.home / ".ray" / "auth_token"
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
