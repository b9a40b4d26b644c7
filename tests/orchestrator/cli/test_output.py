"""The output of the commands if it takes only ASCII, or only the letters of a few languages."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.support.made_sweep import make_sweep

NAME = "zażółć 感情"
ENCODINGS = ("ascii", "latin-1", "cp1250", "utf-8")


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str | Path) -> str:
    """What a command prints to a standard output of this encoding. It must succeed."""
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding=encoding))
    monkeypatch.setattr(sys, "argv", ["ser", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    sys.stdout.flush()
    return data.getvalue().decode(encoding)


def shown(encoding: str) -> str:
    """The name as an output of this encoding shows it."""
    return NAME.encode(encoding, "backslashreplace").decode(encoding)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output") / NAME
    make_sweep(folder, ["complete", "complete"], name=NAME)
    return folder


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_letters_that_the_output_does_not_take_are_escaped(
    sweep: Path, tmp_path: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / f"{NAME}.csv"
    table.write_text(f"file,speaker,emotion\na.wav,{NAME},radość\n", encoding="utf-8")
    corpus = printed(monkeypatch, encoding, "corpus", "manifest", table)
    assert f"1: {shown(encoding)} 1" in corpus.replace("\n", "")
    assert "radość".encode(encoding, "backslashreplace").decode(encoding) in corpus
    assert shown(encoding) in printed(monkeypatch, encoding, "status", sweep)
    assert f"{shown(encoding)} (iaan)" in printed(monkeypatch, encoding, "compare", sweep, sweep)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_report_is_written_whatever_the_output_takes(
    sweep: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line, *_) = printed(monkeypatch, encoding, "report", sweep).splitlines()
    assert shown(encoding) in line
    assert NAME in (sweep / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_files_are_found_in_a_locale_without_their_letters(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "grać.wav").write_bytes(b"RIFF")
    (folder / "m.csv").write_text("file,speaker,emotion\ngrać.wav,a,b\n", encoding="utf-8")
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [Path(sys.executable).parent / "ser", "corpus", "manifest", folder / "m.csv"],
        env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": encoding, **settings},
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    output = "".join(done.stdout.decode(encoding).split())  # the table wraps at any space
    assert "".join(shown(encoding).split()) in output
    assert "Formatnotrecognised" in output  # the file was opened
    assert "doesnotexist" not in output
