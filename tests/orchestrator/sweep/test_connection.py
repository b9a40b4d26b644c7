"""A local Ray with unusual folders, homes and networks, and on slow machines."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import ClusterError
from orchestrator.sweep import connection, ray_compat
from tests.support.sweeps import configure, ser

OWN_MODEL = Path(__file__).parents[3] / "examples/own_model/gated_mean.py"

needs_unshare = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode != 0,
    reason="unshare cannot make a namespace here",
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove Ray's settings of this process. Settings of a test end with the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        os.environ.pop(name, None)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for Ray's sockets, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder:
        yield Path(folder)


def unusable(folder: Path, kind: str) -> str:
    """A path at which Ray cannot keep its files."""
    (folder / "file").touch()
    paths = {
        "too long": folder / ("a" * 60),
        "below a file": folder / "file" / "below",
        "not a folder": folder / "file",
        "no disk": Path("/proc/ray"),
    }
    return str(paths[kind])


KINDS = ["too long", "below a file", "not a folder", "no disk"]


@pytest.mark.parametrize("kind", KINDS)
def test_ray_uses_another_folder_than_an_unusable_tmpdir(short: Path, kind: str) -> None:
    os.environ["TMPDIR"] = unusable(short, kind)
    ray_compat.choose_folder()
    assert os.environ["RAY_TMPDIR"] == "/tmp"


@pytest.mark.parametrize("kind", KINDS)
def test_an_unusable_folder_that_was_chosen_for_ray_is_named(short: Path, kind: str) -> None:
    os.environ["RAY_TMPDIR"] = folder = unusable(short, kind)
    with pytest.raises(ClusterError, match=r"^RAY_TMPDIR: .*Set RAY_TMPDIR to a folder") as caught:
        ray_compat.choose_folder()
    assert folder in str(caught.value)
    assert ("too long" in str(caught.value)) == (kind == "too long")


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_usable_folder_is_kept(name: str) -> None:
    for folder in ("/dev/shm", "/tmp", "/tmp/./"):
        os.environ.pop("RAY_TMPDIR", None)
        os.environ[name] = folder
        ray_compat.choose_folder()
        assert os.environ["RAY_TMPDIR"] == os.path.abspath(folder)


@pytest.mark.parametrize("home", ["file/below", "missing/home", "file"])
def test_a_home_that_cannot_be_written_gets_a_token_in_the_environment(
    tmp_path: Path, home: str
) -> None:
    (tmp_path / "file").touch()
    os.environ["HOME"] = str(tmp_path / home)
    ray_compat.keep_token_private()
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    ray_compat.keep_token_private()
    assert os.environ["RAY_AUTH_TOKEN"] == token


def test_a_home_that_can_be_written_keeps_its_token(tmp_path: Path) -> None:
    os.environ["HOME"] = str(tmp_path)
    ray_compat.keep_token_private()
    (tmp_path / ".ray" / "auth_token").write_text("mine")
    ray_compat.keep_token_private()
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert (tmp_path / ".ray" / "auth_token").read_text() == "mine"


def in_a_hostile_place(tmp_path: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command without a home, with a long TMPDIR, ASCII, and files that hide packages."""
    for name in ("features", "orchestrator", "ser_models", "torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of another project')")
    (tmp_path / "file").touch()
    return subprocess.run(
        command,
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "HOME": str(tmp_path / "file" / "home"),
            "TMPDIR": str(tmp_path / ("long" * 20)),
            "PYTHONIOENCODING": "ascii",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def test_one_extraction_in_a_hostile_place(tmp_path: Path, spoken: Path) -> None:
    config = configure(tmp_path, spoken, storage=str(tmp_path / "łódź"))
    done = in_a_hostile_place(tmp_path, Path(sys.executable).parent / "ser", "extract", config)
    assert done.returncode == 0, done.stderr
    assert "108 utterances have features in" in done.stdout
    assert r"\u0142\xf3d\u017a" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_local_ray_in_a_hostile_place(tmp_path: Path) -> None:
    code = """
from orchestrator.sweep.connection import cluster
with cluster():
    import ray
    print(ray.get(ray.remote(lambda: __import__("features.extract").__name__).remote()))
"""
    done = in_a_hostile_place(tmp_path, sys.executable, "-P", "-c", code)
    assert (done.returncode, done.stdout) == (0, "features\n"), done.stderr
    assert "Traceback" not in done.stderr


@needs_unshare
@pytest.mark.parametrize("name", ["train", "sweep"])
def test_without_loopback_a_command_ends_in_one_line(
    tmp_path: Path, spoken: Path, name: str
) -> None:
    config = configure(tmp_path, spoken)
    command = ["unshare", "-rn", sys.executable, "-m", "orchestrator.cli", name, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ser: the loopback interface does not work")
    assert "ip link set lo up" in line


@needs_unshare
def test_a_user_without_home_and_name_can_import_ray() -> None:
    command = ["unshare", "--user", "--map-user=54321", "env", "-u", "HOME", sys.executable, "-c"]
    code = "import orchestrator.sweep.connection, os; print(os.environ['HOME'])"
    done = subprocess.run([*command, code], capture_output=True, text=True, check=False)
    if "uid_map" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "/\n", done.stderr


SLOW = """
import sys, psutil, ray._private.node, ray._private.services
slow_starts = int(sys.argv[1])

class Clock:
    def __getattr__(self, name):
        return getattr(clock, name)
    def monotonic(self):
        return clock.monotonic() + skipped

def get_node(*arguments):
    global skipped
    raylets = [p for p in psutil.Process().children() if p.name() == "raylet"]
    sessions.update(p.pid for p in raylets)
    assert len(raylets) == 1, raylets  # no process of an earlier start is left
    if len(sessions) <= slow_starts:
        skipped += 20
        raise RuntimeError("GCS cannot find the node")
    return real(*arguments)

sessions, skipped = set(), 0
real, ray._private.services.get_node = ray._private.services.get_node, get_node
clock, ray._private.node.time = ray._private.node.time, Clock()

from orchestrator.errors import SerError
from orchestrator.sweep.connection import cluster
try:
    with cluster():
        print("started", len(sessions), *{"ray.dashboard.optional_deps"} & {*sys.modules})
except SerError as error:
    print(type(error).__name__, error)
print("left", len(psutil.Process().children(recursive=True)))
"""


@pytest.mark.parametrize("slow_starts", [1, connection.STARTS])
def test_a_local_ray_that_starts_too_slowly_is_started_again(slow_starts: int) -> None:
    """Ray's own clock runs fast here, so its own error is raised without the wait."""
    command = [sys.executable, "-c", SLOW, str(slow_starts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    first, left = done.stdout.splitlines()
    assert left == "left 0"
    lines = done.stderr.splitlines()
    if slow_starts < connection.STARTS:
        assert first == f"started {slow_starts + 1}"  # without the packages of the dashboard
        assert lines == ["ser: Ray did not start, retrying"] * slow_starts
    else:
        assert first.startswith("ClusterError a local Ray did not start in 3 attempts (The current")
        assert "timed out during startup). If the machine is busy" in first
        assert Path(first.rpartition(" Logs: ")[2]).is_dir()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("share", [0.1, 1, 2])
def test_a_missing_gpu_is_named_before_anything_is_extracted(
    tmp_path: Path, spoken: Path, share: float
) -> None:
    import orchestrator

    wanted = {"gpus_per_worker": share, "workers_per_trial": 1}
    config = configure(tmp_path, spoken, cluster=wanted)
    with pytest.raises(orchestrator.SerError, match=f"{share:g} GPUs, .* 0 GPUs") as caught:
        orchestrator.run(orchestrator.load(str(config)))
    assert caught.value.exit_code == 2
    assert "cluster.gpus_per_worker" in str(caught.value)
    assert not (tmp_path / "runs" / "features").exists()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("module", ["only_of_the_driver", "package_of_the_driver.models"])
def test_own_code_that_the_workers_lack_is_named_before_anything_is_extracted(
    tmp_path: Path, spoken: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """The driver finds the code in its own folder. The workers of a running Ray do not."""
    import orchestrator

    file = tmp_path / f"{module.replace('.', '/')}.py"
    file.parent.mkdir(exist_ok=True)
    shutil.copy(OWN_MODEL, file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = configure(tmp_path, spoken, model={"name": f"{module}:GatedMean"}, search=None)
    with pytest.raises(ClusterError, match=rf"^own code {module} cannot be imported") as caught:
        orchestrator.run(orchestrator.load(str(config)))
    assert "ray job submit --working-dir FOLDER" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs" / "features").exists()


@pytest.mark.usefixtures("ray_cluster")
def test_own_code_that_the_workers_have_is_accepted() -> None:
    connection.check_own_code([("model", "iaan"), ("features", "logmel3d")])
    connection.check_own_code([("model", "tests.support.corpora:x"), ("model", "tests:x")])
    with pytest.raises(ClusterError, match=r"own code tests\.support\.gone cannot"):
        connection.check_own_code([("model", "tests.support.gone:x")])


def test_a_local_ray_does_not_wait_for_nodes_that_cannot_come(tmp_path: Path, spoken: Path) -> None:
    config = configure(tmp_path, spoken, cluster={"gpus": 1, "cpus": 8})
    done = ser("train", config, environment={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2, done.stderr
    assert "this machine has" in done.stderr
    assert "set RAY_ADDRESS" in done.stderr
    assert not (tmp_path / "runs" / "features").exists()
