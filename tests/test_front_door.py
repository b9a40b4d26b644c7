"""The public interface: small, sorted, documented, and quick to import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import yaml

import orchestrator
from features import errors as features
from orchestrator import errors
from orchestrator.config.parsing import parse
from search_spaces import SpaceError
from tests.support.signals import tone
from tests.support.sweeps import sections

EXAMPLE = Path(__file__).parents[1] / "examples" / "iaan.yaml"
HEAVY = ("torch", "ray", "sklearn", "pandas")


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
    assert heavy_libraries(code, "--help") == "[]"


def test_the_extraction_imports_no_heavy_library(tmp_path: Path) -> None:
    for name in ("ang", "neu"):
        soundfile.write(tmp_path / f"{name}.wav", tone(0.5), 16_000)
    config = configured(tmp_path, "ang.wav,s,ang\nneu.wav,s,neu\n")
    code = "from orchestrator.cli import main; main()"
    assert heavy_libraries(code, "extract", config) == "[]"
    assert list(tmp_path.glob("runs/features/*/*/speaker=s/*.parquet"))


def test_a_corpus_without_a_class_is_refused_before_ray_is_imported(tmp_path: Path) -> None:
    config = configured(tmp_path, "a.wav,s,ang\nb.wav,t,ang\n")
    code = """
from orchestrator.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 2
"""
    assert "ray" not in heavy_libraries(code, "sweep", config)
    assert not (tmp_path / "runs").exists()


def configured(folder: Path, rows: str) -> str:
    """Write a manifest with these rows and a configuration; return the configuration's path."""
    (folder / "manifest.csv").write_text(f"file,speaker,emotion\n{rows}")
    values = {
        "corpus": {"root": str(folder / "manifest.csv"), "classes": ["ang", "neu"]},
        "model": {"name": "acrnn_r"},
        "search": {"space": "acrnn_r"},
        "storage": str(folder / "runs"),
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    return str(config)


def heavy_libraries(code: str, *arguments: str) -> str:
    """The libraries of HEAVY that a program has imported at its end."""
    script = f"""
import atexit, sys
sys.argv = ["ser", *{arguments!r}]
atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules]))
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


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
