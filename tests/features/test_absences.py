"""Why a recording is missing."""

import os
from pathlib import Path

import pytest

from features.absences import explain, nearest, pointer
from features.recordings import Recordings
from features.storage import Storage

KEY = "SHA256E-s32044--7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730.wav"
LFS = "version https://git-lfs.github.com/spec/"
ANNEX = f".git/annex/objects/Zk/9f/{KEY}/{KEY}"


def made(root: Path, *files: str) -> Recordings:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Recordings.open(str(root))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (f"/annex/objects/{KEY}\n", "of git-annex in place of the file: get it with `datalad get`"),
        (f"../../{ANNEX}", "git-annex"),  # a link as Git writes it without links
        (f"/annex/objects/{KEY}\n/annex/objects/x\nmore text", "git-annex"),
        (f"{LFS}v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (f"{LFS}v1\next-0-a sha256:0\noid sha256:4d\nsize 7\n", "Git LFS"),
        ("RIFF$\x7d\0\0WAVEfmt ", None),
        ("see /annex/objects/ for more", None),
        (f"/annex/objects/{KEY}\n" + "x" * 40_000, None),
        ("", None),
    ],
)
def test_pointers_are_recognised(data: str, words: str | None) -> None:
    reason = pointer(data.encode())
    assert reason is None if words is None else words in (reason or "")


@pytest.mark.parametrize("target", [ANNEX, f"../{ANNEX}", f"/my data/set/{ANNEX}"])
def test_links_of_git_annex(tmp_path: Path, target: str) -> None:
    recordings = made(tmp_path, "wav/there.wav")
    (tmp_path / "wav/gone.wav").symlink_to(target)
    absence = explain(recordings, ["wav/gone.wav"])["wav/gone.wav"]
    assert str(absence) == (
        "missing: not a file: git-annex has not fetched the content that it links to: get it with "
        "`datalad get` or `git annex get`"
    )


def test_other_links_that_lead_nowhere(tmp_path: Path) -> None:
    recordings = made(tmp_path, "wav/there.wav")
    (tmp_path / "gone.wav").symlink_to("nothing.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "folder").symlink_to("/mnt/unplugged")
    files = ["gone.wav", "loop.wav", "folder/deep/a.wav"]
    assert {a.problem for a in explain(recordings, files).values()} == {
        "not a file: it links to a file that does not exist"
    }
    assert explain(recordings, files).keys() == set(files)


@pytest.mark.parametrize(
    ("file", "found", "words", "same"),
    [
        ("wav/A1.WAV", "wav/A1.wav", "upper and lower case than", False),
        ("WAV/a1.wav", "wav/A1.wav", "upper and lower case than", False),
        ("wav/cafe\u0301.wav", "wav/caf\xe9.wav", "Unicode form than", True),
        ("Ore\u0301au/b.wav", "Or\xe9au/b.wav", "Unicode form than", True),
        ("wav/\xf1.wav", "wav/n\u0303.wav", "Unicode form than", True),
        ("wav/CAF\xc9.wav", "wav/caf\xe9.wav", "upper and lower case than", False),
        ("wav\\A1.wav", "wav/A1.wav", "written with backslashes in place of /", True),
        (".\\Or\xe9au\\b.wav", "./Or\xe9au/b.wav", "backslashes", True),
        ("wav\\cafe\u0301.wav", "wav/caf\xe9.wav", "backslashes in place of / and in ano", True),
        ("wav/A1.flac", "wav/A1.wav", "with another suffix than", False),
        ("wav/a1", "wav/A1.wav", "with another suffix than", False),
        ("wav\\cafe\u0301", "wav/caf\xe9.wav", "with another suffix than", False),
        ("WAV\\A1.WAV", "wav/A1.wav", "and in another upper and lower case than", False),
    ],
)
def test_files_with_another_spelling(
    tmp_path: Path, file: str, found: str, words: str, same: bool
) -> None:
    names = ("wav/A1.wav", "wav/caf\xe9.wav", "Or\xe9au/b.wav", "wav/n\u0303.wav")
    recordings = made(tmp_path, *names)
    absence = explain(recordings, [file])[file]
    assert (absence.found, absence.same) == (found, same)
    assert words in absence.problem
    assert absence.remedy == f"write {found}"


def test_two_spellings_are_not_guessed(tmp_path: Path) -> None:
    recordings = made(tmp_path, "a.wav", "A.WAV", "c.wav", "c.flac", "v1.0/d.wav")
    assert explain(recordings, ["a.Wav", "b.wav", "c.mp3", "v1.1/d.wav"]) == {}


def test_other_reasons(tmp_path: Path) -> None:
    recordings = made(tmp_path, "wav/a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    reasons = explain(recordings, ["C:\\speech\\a.wav", "d:/a.wav", "wav", "pipe.wav", "b.wav"])
    assert {file: absence.problem for file, absence in reasons.items()} == {
        "C:\\speech\\a.wav": "on a drive of Windows",
        "d:/a.wav": "on a drive of Windows",
        "wav": "not a file: it is a folder",
        "pipe.wav": "not a file: it is a pipe or a device",
    }


def test_a_corpus_learns_nothing_about_other_places(tmp_path: Path) -> None:
    made(tmp_path, "other/a.wav", "corpus/b.wav")
    corpus = Recordings.open(str(tmp_path / "corpus"))
    assert explain(corpus, ["..\\other\\a.wav", f"{tmp_path}/other/a.wav".replace("/", "\\")]) == {}


def test_the_spelling_of_files_elsewhere(tmp_path: Path) -> None:
    made(tmp_path, "other/deep/A.wav", "corpus/b.wav")
    own = Recordings.open(str(tmp_path / "corpus"), own=True)
    files = {
        f"{tmp_path}/OTHER/deep/a.wav": f"{tmp_path}/other/deep/A.wav",
        f"{tmp_path}/other/deep/A.wav".replace("/", "\\"): f"{tmp_path}/other/deep/A.wav",
        f"{tmp_path}/corpus/b.wav".replace("/", "\\"): "b.wav",
        "..\\other\\deep\\A.wav": "../other/deep/A.wav",
    }
    assert {file: a.found for file, a in explain(own, files).items()} == files


def test_the_nearest_place_to_a_missing_root(tmp_path: Path) -> None:
    made(tmp_path, "Data/corpus/a.wav", "Data/notes.txt", "Data/.hidden")
    (tmp_path / "link").symlink_to("unplugged")
    exists = f"the nearest folder that exists is {tmp_path}"
    places = {
        "Data/gone/deep": f"{exists}/Data (with corpus, notes.txt)",
        "data/Corpus": f"{tmp_path}/Data/corpus exists, in another upper and lower case",
        "link/corpus": f"{tmp_path}/link is not a file: it links to a file that does not exist: "
        "restore the file that the link names, or replace the link by its file",
        "Data/corpus/gone": f"{exists}/Data/corpus (with a.wav)",
    }
    assert {name: nearest(Storage.open(f"{tmp_path}/{name}")) for name in places} == places
