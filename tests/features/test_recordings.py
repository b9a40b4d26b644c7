"""The places of the recordings of a manifest, and the places that a corpus may not name."""

import itertools
import pickle
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs
import pytest

from features.errors import StorageError
from features.recordings import Recordings, cleaned, folder_of, leaves_folder
from features.storage import Storage


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with in.wav, beside other/out.wav."""
    for name in ("corpus/in.wav", "other/out.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path / "corpus"


def test_the_users_own_table_may_name_any_place(corpus: Path) -> None:
    recordings = Recordings.open(str(corpus), own=True)
    names = {
        "in.wav": b"corpus/in.wav",
        str(corpus / "in.wav"): b"corpus/in.wav",
        "../other/out.wav": b"other/out.wav",
        str(corpus.parent / "other/out.wav"): b"other/out.wav",
    }
    for file, data in names.items():
        assert recordings.read(file) == data
    infos = recordings.inspect([*names, "gone.wav", "/gone.wav", "../gone.wav"])
    assert [info.size for info in infos] == [*map(len, names.values()), None, None, None]
    assert {info.type for info in infos[4:]} == {pafs.FileType.NotFound}
    assert recordings.local_path("../other/out.wav") == f"{corpus}/../other/out.wav"
    again = pickle.loads(pickle.dumps(recordings))  # noqa: S301  (our own bytes)
    assert again.read("../other/out.wav") == b"other/out.wav"


@pytest.mark.parametrize("file", ["/other/out.wav", "../other/out.wav", "a/../../out.wav", "a\0b"])
def test_a_corpus_may_not_name_another_place(corpus: Path, file: str) -> None:
    assert leaves_folder(file)
    recordings = Recordings.open(str(corpus))
    for use in (recordings.read, recordings.local_path, lambda name: recordings.inspect([name])):
        with pytest.raises(ValueError, match="not a name inside"):
            use(file)


def test_a_uri_in_a_corpus_is_only_a_name(corpus: Path) -> None:
    assert leaves_folder("s3://bucket/a.wav")
    storage, name = Recordings.open(str(corpus)).place("s3://bucket/a.wav")
    assert (storage.path(name), storage.is_local) == (f"{corpus}/s3:/bucket/a.wav", True)


def test_uris_keep_the_options_of_their_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    root = "s3://bucket/corpus?region=ap-south-1&endpoint_override=127.0.0.1:9"
    recordings = Recordings.open(root, own=True)
    place = {
        "s3://bucket/other/a b.wav": "bucket/other/a b.wav",
        "../other/a.wav": "bucket/other/a.wav",
    }
    for file, path in place.items():
        storage, name = recordings.place(file)
        assert storage.path(name) == path
        assert storage.filesystem.region == "ap-south-1"
        assert recordings.local_path(file) is None
    with pytest.raises(StorageError, match="cannot open nowhere://host/"):
        recordings.place("nowhere://host/a.wav")


def test_names_are_expanded(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(corpus)
    for name in ("~/a.wav", "~me/a.wav", "s3:/bucket/a.wav"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    expanded = {
        "a.wav": "a.wav",
        "./sub//a.wav": "./sub//a.wav",
        "../a.wav": "../a.wav",
        f"{corpus}/sub/a.wav": "sub/a.wav",
        f"{corpus}/../a.wav": f"{corpus}/../a.wav",
        f"{corpus}2/a.wav": f"{corpus}2/a.wav",
        f"file://{corpus}/sub/a%20b.wav": "sub/a b.wav",
        "file://localhost/data/a.wav": "/data/a.wav",
        "file://server/a.wav": "file://server/a.wav",
        "gs://bucket/a/../b.wav": "gs://bucket/b.wav",
        "GS://Bucket/B.wav": "gs://Bucket/B.wav",
    }
    recordings = Recordings.open(str(corpus), own=True)
    assert recordings.expand(expanded) == expanded
    # Folders with such names exist, so the names are theirs.
    kept = ["~/a.wav", "~me/a.wav", "s3://bucket/a.wav", "~a.wav"]
    assert recordings.expand(kept) == {name: name for name in kept}
    elsewhere = Recordings.open(str(corpus.parent), own=True)
    assert elsewhere.expand(["~/a.wav", "~nobody_here/a.wav"]) == {
        "~/a.wav": "/home/me/a.wav",
        "~nobody_here/a.wav": "~nobody_here/a.wav",
    }


def test_uris_into_the_folder_become_relative() -> None:
    recordings = Recordings.open("s3://bucket/corpus?region=ap-south-1", own=True)
    assert recordings.expand(["s3://bucket/corpus/wav/a.wav", "s3://bucket/corpus2/a.wav"]) == {
        "s3://bucket/corpus/wav/a.wav": "wav/a.wav",
        "s3://bucket/corpus2/a.wav": "s3://bucket/corpus2/a.wav",
    }


def test_short_names_are_cleaned_as_by_pathlib() -> None:
    for length in range(7):
        for letters in itertools.product("a./", repeat=length):
            file = "".join(letters)
            path = PurePosixPath(file)
            assert cleaned(file) == str(path)
            assert leaves_folder(file) == (path.is_absolute() or ".." in path.parts)
            if not leaves_folder(file):
                assert Storage.open("/root").path(file) == str("/root" / path)


def test_folders_of_names() -> None:
    names = {
        "a.wav": "",
        "./b//a.wav": "b",
        "/a.wav": "/",
        "/b/a.wav": "/b",
        "../a.wav": "..",
        "s3://bucket/b/a.wav": "s3://bucket/b",
    }
    assert {name: folder_of(cleaned(name)) for name in names} == names
