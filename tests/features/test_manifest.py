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
