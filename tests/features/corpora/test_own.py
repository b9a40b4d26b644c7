"""The reader of your own manifest."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from features.corpora import CORPORA
from features.corpora.tree import Tree
from features.manifest import Manifest
from tests.support.corpora import make_tree, problems, refused, rows


def own(root: Path, *files: str, name: str = "m.csv") -> Manifest:
    """The manifest of a table in `root` that names `files`."""
    lines = [f'"{file}",s{number},neu' for number, file in enumerate(files)]
    (root / name).write_text("\n".join(["file,speaker,emotion", *lines, ""]))
    return CORPORA["manifest"](str(root / name))


def test_a_manifest_is_compared_with_its_folders(tmp_path: Path) -> None:
    root = make_tree(tmp_path, "wav/a.wav", "wav/b.wav", "wav/._a.wav", "notes.txt")
    manifest = own(tmp_path, "wav/a.wav", "./wav/c.wav")
    assert problems(manifest, "does not exist (1 file)") == ["wav/c.wav"]
    assert problems(manifest, "does not name, skipped (1 file)") == ["wav/b.wav"]
    assert problems(manifest, "file manager") == ["wav/._a.wav"]
    pq.write_table(manifest.table, f"{root}/m.parquet")
    assert CORPORA["manifest"](f"{root}/m.parquet") == manifest


def test_files_in_any_place_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path, "corpus/a.wav", "there/b.wav", "beside/c.wav", "me/x/d.wav", "me/x/e.wav")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    given = {
        f"{tmp_path}/corpus/a.wav": "a.wav",
        f"{tmp_path}/there/b.wav": f"{tmp_path}/there/b.wav",
        "../beside/c.wav": "../beside/c.wav",
        "../beside/gone.wav": "../beside/gone.wav",
        "~/x/d.wav": f"{tmp_path}/me/x/d.wav",
        f"file://{tmp_path}/nowhere/f.wav": f"{tmp_path}/nowhere/f.wav",
    }
    manifest = own(tmp_path / "corpus", *given)
    files = list(given.values())
    assert manifest.table["file"].to_pylist() == files
    assert manifest.table["id"].to_pylist() == ["a", "b", "c", "gone", "d", "f"]
    assert problems(manifest, "does not exist (2 files)") == [files[3], files[5]]
    assert problems(manifest, "does not name, skipped") == [f"{tmp_path}/me/x/e.wav"]
    there = [info.is_file for info in manifest.recordings().inspect(files)]
    assert there == [True, True, True, False, True, False]


@pytest.mark.parametrize("file", ["http://host/a.wav", "https://host/a.wav", "file://host/a.wav"])
def test_addresses_that_are_no_storage_are_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / "m.csv").write_text(f"file,speaker,emotion\n{file},s,neu\n")
    text = refused("manifest", tmp_path / "m.csv")
    assert f"row 1: file {file!r}" in text
    assert "download other recordings" in text


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("wav\\a.wav", "wav/a.wav"),
        (".\\deep\\er\\b.wav", "./deep/er/b.wav"),
        ("wav/caf\u00e9.wav", "wav/cafe\u0301.wav"),
        ("wav/n\u0303.wav", "wav/\u00f1.wav"),
        ("o\u0302\\c.wav", "\u00f4/c.wav"),
    ],
)
def test_names_that_surely_mean_a_file_are_read(tmp_path: Path, written: str, there: str) -> None:
    make_tree(tmp_path, "first.wav", there)
    manifest = own(tmp_path, "first.wav", written)
    stem = there.rpartition("/")[2].removesuffix(".wav")
    assert rows(manifest, "file", "id") == [("first.wav", "first"), (there, stem)]
    (problem,) = manifest.problems
    assert problem.file == written
    assert "read as on the disk (1 file): nothing to do, or write " + there in problem.reason
    assert manifest.recordings().inspect([there])[0].is_file


def test_a_backslash_in_the_name_of_an_existing_file_stays(tmp_path: Path) -> None:
    make_tree(tmp_path, "wav\\a.wav", "wav/a.wav", "wav/b.wav", "wav\\c.wav")
    manifest = own(tmp_path, "wav\\a.wav", "wav\\b.wav", "wav\\c.wav")
    assert manifest.table["file"].to_pylist() == ["wav\\a.wav", "wav/b.wav", "wav\\c.wav"]


def test_a_file_that_is_named_in_two_ways_is_found(tmp_path: Path) -> None:
    make_tree(tmp_path, "wav/a.wav")
    (tmp_path / "m.csv").write_text("file,speaker,emotion\nwav/a.wav,s,x\nwav\\a.wav,s,y\n")
    assert "id 'a_0.000_end' is also in row 1" in refused("manifest", tmp_path / "m.csv")


@pytest.mark.parametrize("written", ["wav/A.WAV", "WAV/a.wav", "wav\\a.Wav"])
def test_another_case_is_named_but_not_read(tmp_path: Path, written: str) -> None:
    make_tree(tmp_path, "wav/a.wav")
    manifest = own(tmp_path, written)
    assert manifest.table["file"].to_pylist() == [written]
    (problem,) = problems(
        manifest, "upper and lower case than on the disk (1 file): write wav/a.wav"
    )
    assert problem == written
    assert len(manifest.problems) == 1


def test_links_that_lead_nowhere_are_named_once(tmp_path: Path) -> None:
    make_tree(tmp_path, "wav/a.wav")
    for name in "bcd":
        (tmp_path / f"wav/{name}.wav").symlink_to(f"../.git/annex/objects/{name}.wav")
    (tmp_path / "e.wav").symlink_to("/unplugged/e.wav")
    manifest = own(tmp_path, "wav/a.wav", "wav/b.wav", "wav/c.wav", "e.wav")
    fetched = problems(manifest, "git-annex has not fetched the content that it links to (3 files)")
    assert fetched == ["wav/b.wav", "wav/c.wav", "wav/d.wav"]
    assert problems(manifest, "it links to a file that does not exist (1 file)") == ["e.wav"]
    assert len(manifest.problems) == 4


def test_windows_1252_is_a_problem_with_an_example(tmp_path: Path) -> None:
    make_tree(tmp_path, "a.wav")
    for word in ("José", "Müller", "Zoë"):
        text = f"file;speaker;emotion;start\na.wav;{word};neu;0,5\n"
        (tmp_path / "m.csv").write_bytes(text.encode("cp1252"))
        manifest = CORPORA["manifest"](str(tmp_path / "m.csv"))
        assert rows(manifest, "file", "speaker", "start") == [("a.wav", word, 0.5)]
        (problem,) = manifest.problems
        assert problem.file == "m.csv"
        assert (
            f"read as Windows-1252: check its letters, such as '{word}' in row 1" in problem.reason
        )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.tsv", b"file\tspeaker\temotion\na.wav\ts\tneu\n"),
        ("M.CSV", b"sep=;\r\nfile;speaker;emotion\r\na.wav;s;neu\r\n"),
        ("m.txt", "file\tspeaker\temotion\r\na.wav\ts\tneu\r\n".encode("utf-16")),
    ],
)
def test_tables_of_spreadsheets(tmp_path: Path, name: str, data: bytes) -> None:
    make_tree(tmp_path, "a.wav")
    (tmp_path / name).write_bytes(data)
    manifest = CORPORA["manifest"](str(tmp_path / name))
    assert rows(manifest, "file", "speaker", "emotion") == [("a.wav", "s", "neu")]
    assert manifest.problems == ()


@pytest.mark.parametrize(
    ("sessions", "words"),
    [
        (["1", "NaN", "nan"], "2 rows have a text that means no value ('NaN', 'nan'): they count"),
        (["NULL", "2", "3"], "1 rows have a text that means no value ('NULL'): they count as rows"),
        (["1", "\ufeff", "#N/A"], r"2 rows have a text that means no value ('#N/A', '\ufeff')"),
    ],
)
def test_sessions_that_mean_no_value_are_counted(
    tmp_path: Path, sessions: list[str], words: str
) -> None:
    lines = [f"{i}.wav,s,ang,{session}\n" for i, session in enumerate(sessions)]
    (tmp_path / "m.csv").write_text("file,speaker,emotion,session\n" + "".join(lines))
    manifest = CORPORA["manifest"](f"{tmp_path}/m.csv")
    assert problems(manifest, words) == ["column session"]
    assert problems(manifest, "does not exist") == ["0.wav", "1.wav", "2.wav"]


@pytest.mark.parametrize("column", ["session", "phrase", "fold"])
def test_the_reader_of_a_corpus_counts_them_too(tmp_path: Path, column: str) -> None:
    row = {"file": "a.wav", "speaker": "s", "emotion": "ang"}
    manifest = Tree(str(tmp_path)).manifest([row | {"id": text, column: text} for text in "1NA"])
    assert manifest.problems == ()
    texts = ("1", "NA", "n/a")
    manifest = Tree(str(tmp_path)).manifest([row | {"id": t, column: t} for t in texts])
    assert manifest.table[column].to_pylist() == ["1", None, None]
    assert problems(manifest, "2 rows have a text that means no value") == [f"column {column}"]
