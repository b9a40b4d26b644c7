"""The readers of corpora whose file names contain all labels: what they share."""

from pathlib import Path

import pytest

from features.corpora import CORPORA
from tests.support.corpora import make_tree, problems, refused, rows

EXAMPLES = {
    "emodb": ("wav/03a01Fa.wav", "wav/08b10Wd.wav"),
    "ravdess": ("Actor_12/03-01-06-01-02-01-12.wav", "Actor_01/03-01-01-01-01-01-01.wav"),
    "crema_d": ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1091_IEO_SAD_HI.wav"),
    "att_hack": ("a/b/wav/F01_a1_s001_v01.wav", "a/b/wav/M09_a4_s100_v05.wav"),
}


@pytest.mark.parametrize("corpus", EXAMPLES)
def test_any_folder_above_is_a_root(corpus: str, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "x", *(f"some/where/{name}" for name in EXAMPLES[corpus]))
    manifest = CORPORA[corpus](root)
    assert manifest.root == root
    assert {row[0] for row in rows(manifest, "file")} == {
        f"some/where/{name}" for name in EXAMPLES[corpus]
    }
    assert [problem.file for problem in manifest.problems if "missing" not in problem.reason]
    uri = CORPORA[corpus](f"file://{root}")
    assert uri.table == manifest.table


@pytest.mark.parametrize("corpus", EXAMPLES)
def test_another_corpus_is_refused(corpus: str, tmp_path: Path) -> None:
    root = make_tree(tmp_path, "a.wav", "b.txt")
    text = refused(corpus, root)
    assert f"{root} is not " in text
    assert "none of its 1 recordings has a name like" in text
    assert "no such folder" in refused(corpus, tmp_path / "nothing")


@pytest.mark.parametrize("corpus", EXAMPLES)
def test_other_files_are_skipped_and_reported(corpus: str, tmp_path: Path) -> None:
    first = Path(EXAMPLES[corpus][0])
    stray = str(first.with_name("take two.wav"))
    clutter = str(first.with_name(f"._{first.name}"))
    flac = str(first.with_suffix(".flac"))
    root = make_tree(
        tmp_path, *EXAMPLES[corpus], stray, flac, clutter, "__MACOSX/x.wav", ".DS_Store"
    )
    manifest = CORPORA[corpus](root)
    assert len(manifest.table) == 2
    assert problems(manifest, "with another name than") == [stray]
    assert problems(manifest, "in another format, skipped (1 file)") == [flac]
    assert set(problems(manifest, "file manager, skipped (3 files)")) == {
        clutter,
        "__MACOSX",
        ".DS_Store",
    }
    make_tree(tmp_path, f"copy/{first.name}")
    text = refused(corpus, root)
    assert "1 utterances of" in text
    assert f"{first} and copy/{first.name}" in text or f"copy/{first.name} and {first}" in text


def test_a_folder_with_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.corpora.tree._NAMES", 3)
    root = make_tree(tmp_path, *(f"{n}.wav" for n in range(4)))
    assert "more than 3 files and folders" in refused("emodb", root)


@pytest.mark.parametrize("corpus", EXAMPLES)
def test_links_that_lead_nowhere_are_reported(corpus: str, tmp_path: Path) -> None:
    first, second = EXAMPLES[corpus]
    root = make_tree(tmp_path, first)
    link = tmp_path / second
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("../.git/annex/objects/a/b.wav")
    (tmp_path / ".hidden").symlink_to("nowhere")
    (tmp_path / "notes").symlink_to("nowhere")
    manifest = CORPORA[corpus](root)
    assert rows(manifest, "file") == [(first,)]
    assert problems(manifest, "not fetched the content that it links to (1 file)") == [second]
    assert problems(manifest, "it links to a file that does not exist (1 file)") == ["notes"]
    (tmp_path / first).unlink()
    text = refused(corpus, root)
    assert "none of its 0 recordings" in text
    assert "2 files, such as notes: not a file" in text


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("corpus.zip", "unpack it, then give the folder"),
        ("corpus.tar.gz", "unpack it, then give the folder"),
        ("manifest.csv", "give the corpus's folder, or set corpus.name to manifest"),
        ("db.yaml", "give the corpus's folder"),
    ],
)
@pytest.mark.parametrize("corpus", ["emodb", "nemo", "iemocap", "emobox", "audformat"])
def test_a_file_is_no_root(corpus: str, name: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert f"{tmp_path / name} is a file: {remedy}" in refused(corpus, tmp_path / name)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("Corpora/emodb2", "the nearest folder that exists is {}/Corpora (with emodb)"),
        ("Corpora/EmoDB", "{}/Corpora/emodb exists, in another upper and lower case"),
        ("gone/emodb", "the nearest folder that exists is {} (with Corpora)"),
    ],
)
def test_a_missing_root_is_refused_with_the_nearest_place(
    missing: str, words: str, tmp_path: Path
) -> None:
    make_tree(tmp_path, "Corpora/emodb/wav/03a01Fa.wav")
    assert f"no such folder: {words.format(tmp_path)}" in refused("emodb", tmp_path / missing)
