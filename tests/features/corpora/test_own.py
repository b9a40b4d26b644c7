"""The reader of your own manifest."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from features.corpora import CORPORA
from features.corpora.tree import Tree
from tests.support.corpora import make_tree, problems


def test_a_manifest_is_compared_with_its_folders(tmp_path: Path) -> None:
    root = make_tree(tmp_path, "wav/a.wav", "wav/b.wav", "wav/._a.wav", "notes.txt")
    text = "file,speaker,emotion\nwav/a.wav,s,ang\n./wav/c.wav,s,neu\n"
    (tmp_path / "m.csv").write_text(text)
    manifest = CORPORA["manifest"](f"{root}/m.csv")
    assert problems(manifest, "does not exist (1 file)") == ["wav/c.wav"]
    assert problems(manifest, "does not name, skipped (1 file)") == ["wav/b.wav"]
    assert problems(manifest, "file manager") == ["wav/._a.wav"]
    pq.write_table(manifest.table, f"{root}/m.parquet")
    assert CORPORA["manifest"](f"{root}/m.parquet") == manifest


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
