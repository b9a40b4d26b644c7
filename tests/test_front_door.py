"""The public interface: small, sorted, documented, and quick to import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator
from features import errors as features
from orchestrator import errors
from orchestrator.config.parsing import parse
from search_spaces import SpaceError
from tests.support.sweeps import sections

EXAMPLE = Path(__file__).parents[1] / "examples" / "iaan.yaml"
HEAVY = ("torch", "ray", "sklearn")


def test_the_surface_is_sorted_and_documented() -> None:
    assert orchestrator.__all__ == sorted(orchestrator.__all__)
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name).__doc__, name


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import orchestrator", id="import"),
        pytest.param("from orchestrator.cli import main; main()", id="ser --help"),
        pytest.param(
            "from orchestrator.config.parsing import load_extraction\n"
            f"load_extraction({str(EXAMPLE)!r})",
            id="ser extract",
        ),
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
    assert len(kinds) == 14
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


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(features.FeatureError("x"), errors.FeatureError, id="features"),
        pytest.param(features.AudioError("x"), errors.FeatureError, id="audio"),
        pytest.param(features.ManifestError("x"), errors.ConfigError, id="manifest"),
        pytest.param(features.DependencyError("x"), errors.DependencyError, id="package"),
        pytest.param(features.FolderError("x"), errors.FolderError, id="folder"),
        pytest.param(features.StorageError("x"), errors.StorageError, id="storage"),
        pytest.param(features.CacheError("x"), errors.CacheError, id="frames"),
        pytest.param(SpaceError("x"), errors.ConfigError, id="search space"),
        pytest.param(PermissionError("x"), errors.SerError, id="operating system"),
    ],
)
def test_errors_of_other_packages_become_errors_of_the_tree(
    raised: Exception, expected: type[errors.SerError]
) -> None:
    with pytest.raises(errors.SerError, match="x") as caught, errors.translated():
        raise raised
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        pytest.param(
            features.StorageError("cannot write x"),
            errors.StorageError,
            "cannot write x. Finished trials are kept: fix the problem, then run the same command",
            id="our storage",
        ),
        pytest.param(
            features.CacheError("x is full"),
            errors.CacheError,
            "x is full. Finished trials are kept: fix the problem, then run the same command",
            id="the folder of the frames",
        ),
        pytest.param(
            OSError("listing failed\n"),  # pyarrow's, in a process of Ray
            errors.SerError,
            "OSError: listing failed. Finished trials are kept: fix the problem, then run the same"
            " command",
            id="Ray's own access to the storage",
        ),
        pytest.param(features.FolderError("x"), errors.FolderError, "x", id="wrong folder"),
    ],
)
def test_a_sweep_that_loses_its_storage_says_how_to_go_on(
    raised: Exception,
    expected: type[errors.SerError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("orchestrator.sweep.run.run_sweep", fail)
    configuration = parse(sections(tmp_path, tmp_path / "manifest.csv"))
    with pytest.raises(errors.SerError) as caught:
        orchestrator.run(configuration)
    assert type(caught.value) is expected
    assert str(caught.value) == message
