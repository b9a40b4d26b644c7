"""The reader of audformat databases."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from features.corpora import CORPORA
from features.errors import DependencyError, ManifestError

audformat = pytest.importorskip("audformat")


@pytest.fixture
def database() -> Any:
    """Two segments of a.wav in the train split, and the whole b.wav in the test split."""
    db = audformat.Database("example")
    db.schemes["emotion"] = audformat.Scheme(labels=["ang", "hap"])
    people = {"s1": {"gender": "female"}, "s2": {"gender": "male"}}
    db.schemes["speaker"] = audformat.Scheme(labels=people)
    for part in ("train", "dev", "test"):
        db.splits[part] = audformat.Split(part)
    segments = audformat.segmented_index(["a.wav", "a.wav"], [0, 1.25], [1.25, 2])
    for name, index, values in (
        ("train", segments, ["ang", None]),
        ("test", audformat.filewise_index(["b.wav"]), ["hap"]),
    ):
        table = db[f"emotion.{name}"] = audformat.Table(index, split_id=name)
        table["emotion"] = audformat.Column(scheme_id="emotion")
        table["emotion"].set(values)
    db["files"] = audformat.Table(audformat.filewise_index(["a.wav", "b.wav"]))
    db["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    db["files"]["speaker"].set(["s1", "s2"])
    db["files"]["session"] = audformat.Column()
    db["files"]["session"].set([1, 2])
    return db


def read(database: Any, root: Path) -> Any:
    database.save(str(root))
    return CORPORA["audformat"](str(root))


def test_round_trip(database: Any, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000), 16_000)
    manifest = read(database, tmp_path)
    columns = ("file", "start", "end", "speaker", "emotion", "gender", "session", "split")
    rows = [tuple(row[c] for c in columns) for row in manifest.table.to_pylist()]
    rows.sort(key=lambda row: (row[0], row[1] or 0.0))
    assert rows == [
        ("a.wav", None, 1.25, "s1", "ang", "female", "1", "train"),
        ("a.wav", 1.25, 2.0, "s1", None, "female", "1", "train"),
        ("b.wav", None, None, "s2", "hap", "male", "2", "test"),
    ]
    assert manifest.root == str(tmp_path)
    (problem,) = manifest.problems
    assert problem.file == "b.wav"
    assert "does not exist (1 file)" in problem.reason


def test_other_roots_are_refused(database: Any, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no db\.yaml"):
        CORPORA["audformat"](str(tmp_path))
    with pytest.raises(ManifestError, match="local folder"):
        CORPORA["audformat"]("s3://bucket/db")
    del database["files"].columns["speaker"]
    with pytest.raises(ManifestError, match="has the name speaker"):
        read(database, tmp_path / "a")


def test_two_emotions_of_a_segment_are_refused(database: Any, tmp_path: Path) -> None:
    table = database["again"] = audformat.Table(audformat.filewise_index(["b.wav"]))
    table["emotion"] = audformat.Column(scheme_id="emotion")
    table["emotion"].set(["ang"])
    with pytest.raises(ManifestError, match="a segment has two emotions"):
        read(database, tmp_path)


def test_a_missing_package_is_a_dependency_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(
        importlib.import_module("features.corpora.audformat"), "import_module", absent
    )
    with pytest.raises(DependencyError, match=r"pip install ser-orchestrator\[audformat\]"):
        CORPORA["audformat"](str(tmp_path))


@pytest.mark.parametrize("file", ["../a.wav", "/data/a.wav", "s3://bucket/a.wav"])
def test_media_elsewhere_are_refused(database: Any, tmp_path: Path, file: str) -> None:
    database.save(str(tmp_path), storage_format="csv")
    for table in tmp_path.glob("db.*.csv"):
        table.write_text(table.read_text().replace("b.wav", file))
    with pytest.raises(ManifestError, match="names 1 recordings outside this folder") as caught:
        CORPORA["audformat"](str(tmp_path))
    assert f"({file}): correct its table" in str(caught.value)


def test_media_with_another_spelling_are_found(database: Any, tmp_path: Path) -> None:
    database.save(str(tmp_path), storage_format="csv")
    for table in tmp_path.glob("db.*.csv"):
        text = table.read_text().replace("a.wav", "deep\\a.wav")
        table.write_text(text.replace("b.wav", "cafe\u0301.wav"))
    (tmp_path / "deep").mkdir()
    for name in ("deep/a.wav", "caf\xe9.wav"):
        (tmp_path / name).touch()
    manifest = CORPORA["audformat"](str(tmp_path))
    assert set(manifest.table["file"].to_pylist()) == {"deep/a.wav", "caf\xe9.wav"}
    assert {problem.file for problem in manifest.problems} == {"deep\\a.wav", "cafe\u0301.wav"}


def test_a_header_that_is_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "db.yaml").symlink_to(".git/annex/objects/x")
    words = r"no db\.yaml\. 1 files, such as db\.yaml: not a file: git-annex has not fetched"
    with pytest.raises(ManifestError, match=words):
        CORPORA["audformat"](str(tmp_path))
