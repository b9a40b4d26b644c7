"""Reading manifests: CSV, Parquet, and audformat's tables."""

from pathlib import Path

import audformat
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from features.corpora import CORPORA
from features.errors import ManifestError
from features.manifest import Manifest, normalise, read_manifest


def manifest_in(folder: Path, suffix: str = "csv") -> Manifest:
    """The manifest in the new file `m.csv` or `m.parquet`."""
    columns = {"file": ["0.wav", "1.wav"], "speaker": ["s", "s"], "emotion": ["neu", None]}
    segments = {"start": [0.1, 1 / 3], "end": [None, 2.5], "dialogue": ["d", "d"], "turn": [1, 0]}
    table = normalise(pa.table(columns | segments))
    write = pa.csv.write_csv if suffix == "csv" else pq.write_table
    write(table, folder / f"m.{suffix}")
    return Manifest(table, str(folder), own=True)


def test_csv_with_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = 'file,speaker,emotion,session,start\r\n"a,b.wav",S1,ang,1,\r\nsub/c.wav,S2,,2,0.5\r\n'
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    got = CORPORA["manifest"](str(tmp_path / "m.csv"))
    assert got.root == str(tmp_path)
    assert got.table.select(["id", "file", "emotion", "session", "start"]).to_pylist() == [
        {"id": "a,b", "file": "a,b.wav", "emotion": "ang", "session": "1", "start": None},
        {"id": "c", "file": "sub/c.wav", "emotion": None, "session": "2", "start": 0.5},
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_all_columns_are_read(suffix: str, tmp_path: Path) -> None:
    manifest = manifest_in(tmp_path, suffix)
    assert read_manifest(str(tmp_path / f"m.{suffix}")) == manifest


def test_a_uri_works_like_a_path(tmp_path: Path) -> None:
    manifest = manifest_in(tmp_path)
    uri = read_manifest(f"file://{tmp_path}/m.csv")
    assert uri == Manifest(manifest.table, f"file://{tmp_path}", own=True)


def test_a_relative_path_has_an_absolute_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert read_manifest("m.csv") == manifest


def test_audformat_tables_are_manifests(tmp_path: Path) -> None:
    index = audformat.segmented_index(
        ["a.wav", "a.wav", "b.wav"], ["0s", "1.2s", "0s"], ["1.2s", "2.5s", pd.NaT]
    )
    frame = pd.DataFrame({"speaker": 1, "emotion": "ang"}, index)
    frame.to_csv(tmp_path / "m.csv")
    frame.reset_index().to_parquet(tmp_path / "m.parquet")
    frame.to_parquet(tmp_path / "indexed.parquet")
    for name in ("m.csv", "m.parquet", "indexed.parquet"):
        rows = read_manifest(str(tmp_path / name)).table.to_pylist()
        assert [row["id"] for row in rows] == ["a_0.000_1.200", "a_1.200_2.500", "b"]
        assert [(row["start"], row["end"]) for row in rows] == [(0, 1.2), (1.2, 2.5), (0, None)]
        assert {row["speaker"] for row in rows} == {"1"}


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    cases = {
        "ragged.csv": (b"file,speaker,emotion\na,b,c\na,b\n", "row 2: 2 values"),
        "shift_jis.csv": (b"file,speaker,emotion\na,\x83\x81\x81[\x83\x8b,b\n", "save it as UTF-8"),
        "empty.csv": (b"", "no column file or speaker or emotion"),
        "twice.csv": (b"file,file,speaker,emotion\n", "repeats a column name"),
        "not.parquet": (b"hello", "not a Parquet file"),
        "m.xlsx": (b"hello", r"a \.txt or a \.parquet"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ManifestError, match=words) as caught:
            read_manifest(str(tmp_path / name))
        assert name in str(caught.value)
    with pytest.raises(ManifestError, match=r"absent\.csv does not exist"):
        read_manifest(str(tmp_path / "absent.csv"))


def test_categories_and_pandas_gaps(tmp_path: Path) -> None:
    frame = pd.DataFrame({"file": ["a.wav", "b.wav"], "speaker": ["s", "t"]})
    frame["emotion"] = pd.Categorical(["ang", None])
    frame["session"] = [1.0, None]
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "m.parquet")
    got = read_manifest(str(tmp_path / "m.parquet")).table
    assert got["emotion"].to_pylist() == ["ang", None]
    assert got["session"].to_pylist() == ["1", None]


def test_nemo(nemo: Path) -> None:
    manifest = read_manifest(str(nemo / "manifest.csv"))
    assert manifest.table.num_rows == 2138
    assert set(manifest.table["session"].to_pylist()) == {"1", "2", "3"}
    assert len(set(manifest.table["dialogue"].to_pylist())) == 83


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["0,5;1,25", "1,25;12,5"], [(0.5, 1.25), (1.25, 12.5)]),
        (["0;1", "1;2,000"], [(0, 1), (1, 2)]),
        (["0.5;1.25", "1.25;2"], [(0.5, 1.25), (1.25, 2)]),
        (["00:00:01.5;0 days 00:00:02.25", " 2,5 ;"], [(1.5, 2.25), (2.5, None)]),
    ],
)
def test_decimal_commas_between_semicolons(
    tmp_path: Path, times: list[str], expected: list[tuple[float, float | None]]
) -> None:
    lines = [f"{i}.wav;1,5;neu;{time}" for i, time in enumerate(times)]
    text = "\n".join(["file;speaker;emotion;start;end", *lines])
    (tmp_path / "m.csv").write_text(text)
    rows = read_manifest(str(tmp_path / "m.csv")).table.to_pylist()
    assert [(row["start"], row["end"]) for row in rows] == expected
    assert {row["speaker"] for row in rows} == {"1,5"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file;speaker;emotion;start\na;b;c;0,5\nd;e;f;1.5\n", "times must all .* 1: start '0,5'"),
        ("file;speaker;emotion;start;end\na;b;c;1.5;1,750\n", "row 1: end '1,750'"),
        ("file;speaker;emotion;end\na;b;c;1.234,5\n", "with a decimal point. row 1: end '1.234,5'"),
        ('file,speaker,emotion,end\na,b,c,"1,5"\n', "with a decimal point. row 1: end '1,5'"),
        ("file\tspeaker\temotion\tend\na\tb\tc\t1,5\n", "with a decimal point. row 1: end '1,5'"),
    ],
)
def test_decimal_commas_elsewhere_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ManifestError, match=words):
        read_manifest(str(tmp_path / "m.csv"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["m.csv", "b.TSV", "notes.txt"], "give one of its tables (b.TSV, m.csv)"),
        (["deep/m.parquet", "deep/er/m.csv", "a.wav"], "its tables (deep/m.parquet)"),
        (["a.wav", "deep/er/m.csv"], "write a table into it, or set corpus.name to the reader"),
    ],
)
def test_a_folder_is_refused_with_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], words: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for path in (str(tmp_path), f"{tmp_path}/", f"file://{tmp_path}", f"file://{tmp_path}/"):
        with pytest.raises(ManifestError) as caught:
            read_manifest(path)
        assert str(caught.value).startswith(f"{path} is a folder, but a manifest is a table: ")
        assert words in str(caught.value)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(ManifestError, match=r"^\.\. is a folder"):
        read_manifest("..")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("data/gone/m.csv", "the nearest folder that exists is {}/data (with M.csv, link.csv)"),
        ("data/m.csv", "{}/data/M.csv exists, in another upper and lower case"),
        ("Data/M.csv", "{}/data/M.csv exists, in another upper and lower case"),
        ("data/M.csv/m.csv", "the nearest folder that exists is {}/data"),
        ("data/link.csv", "{}/data/link.csv is not a file: it links to a file that does not exist"),
    ],
)
def test_a_missing_table_is_refused_with_the_nearest_place(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/M.csv").touch()
    (tmp_path / "data/link.csv").symlink_to("gone.csv")
    with pytest.raises(ManifestError) as caught:
        read_manifest(str(tmp_path / name))
    assert f"{name} does not exist: {words.format(tmp_path)}" in str(caught.value)


def test_a_table_that_is_a_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ManifestError, match=r"m\.csv: a pointer of Git LFS .* `git lfs pull`"):
        read_manifest(str(tmp_path / "m.csv"))
