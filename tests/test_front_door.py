"""The public interface: small, sorted, documented, and quick to import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator
from orchestrator import errors

HEAVY = ("torch", "ray", "sklearn", "librosa")


def test_the_surface_is_sorted_and_documented() -> None:
    assert orchestrator.__all__ == sorted(orchestrator.__all__)
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name).__doc__, name


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import orchestrator", id="import"),
        pytest.param("from orchestrator.cli import main; main()", id="ser --help"),
    ],
)
def test_no_heavy_library_is_imported(code: str) -> None:
    script = f"""
import atexit, sys
sys.argv = ["ser", "--help"]
atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules]))
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_every_error_is_in_the_tree_with_its_exit_code() -> None:
    tree = (errors.__doc__ or "").splitlines()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, Exception)]
    assert len(kinds) == 13
    for kind in kinds:
        assert issubclass(kind, errors.SerError)
        (line,) = [line for line in tree if kind.__name__ in line.split()]
        code = re.search(rf"{kind.__name__} +(\d) ", line)
        inherited = issubclass(kind, errors.UsageError) and kind is not errors.UsageError
        assert (code is None) == inherited
        assert kind.exit_code == (2 if inherited else int(code[1]) if code else None)


def test_a_notebook_gets_errors_of_the_tree(tmp_path: Path) -> None:
    with pytest.raises(orchestrator.SerError, match=r"no such configuration file"):
        orchestrator.load(str(tmp_path / "gone.yaml"))
    with pytest.raises(errors.NoSweepError):
        orchestrator.open_sweep(str(tmp_path))
    with pytest.raises(errors.StorageError, match="s4://bucket"):
        orchestrator.open_sweep("s4://bucket")
