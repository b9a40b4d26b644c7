"""Helpers for tests of corpus readers."""

import wave
from pathlib import Path

import pytest

from features.corpora import CORPORA
from features.errors import ManifestError
from features.manifest import Manifest


def make_tree(root: Path, *files: str) -> str:
    """Make `files` below `root`: wav files of silence, and empty files for other suffixes."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".wav":
            with wave.open(str(path), "wb") as audio:
                audio.setparams((1, 2, 16_000, 0, "NONE", ""))
                audio.writeframes(bytes(3200))
        else:
            path.write_bytes(b"")
    return str(root)


def rows(manifest: Manifest, *columns: str) -> list[tuple]:
    """The values of `columns` in each row."""
    return [tuple(row[c] for c in columns) for row in manifest.table.to_pylist()]


def problems(manifest: Manifest, words: str) -> list[str]:
    """The files of the problems whose reason contains `words`."""
    return [problem.file for problem in manifest.problems if words in problem.reason]


def refused(corpus: str, root: Path | str) -> str:
    """The message with which the reader refuses `root`."""
    with pytest.raises(ManifestError) as caught:
        CORPORA[corpus](str(root))
    return str(caught.value)
