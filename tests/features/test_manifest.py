"""Manifests from CSV, Parquet and audformat; and the words for what is wrong with one."""

from pathlib import Path

import audformat
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.corpora import CORPORA
from features.manifest import (
    SCHEMA,
    Manifest,
    ManifestError,
    normalise,
    read_manifest,
    write_manifest,
)


def table(**columns: list) -> pa.Table:
    rows = len(next(iter(columns.values())))
    defaults = {"speaker": ["s"] * rows, "emotion": ["neu"] * rows}
    return pa.table({"file": [f"{i}.wav" for i in range(rows)], **defaults, **columns})


def refused(**columns: list) -> str:
    with pytest.raises(ManifestError) as caught:
        normalise(table(**columns))
    return str(caught.value)


def test_defaults_and_types() -> None:
    got = normalise(table(session=[1, 2], emotion=["a", None]))
    assert got.schema == SCHEMA
    assert got["id"].to_pylist() == ["0", "1"]
    assert got["session"].to_pylist() == ["1", "2"]
    assert got["emotion"].to_pylist() == ["a", None]
    assert got["turn"].to_pylist() == [None, None]
    assert normalise(got) == got


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
def test_round_trip(suffix: str, tmp_path: Path) -> None:
    columns = {"start": [0.1, 1 / 3], "end": [None, 2.5], "dialogue": ["d", "d"], "turn": [1, 0]}
    manifest = Manifest(normalise(table(**columns)), str(tmp_path))
    write_manifest(manifest, str(tmp_path / f"m.{suffix}"))
    assert read_manifest(str(tmp_path / f"m.{suffix}")) == manifest


def test_parquet_elsewhere_keeps_the_root_and_csv_refuses(tmp_path: Path) -> None:
    manifest = Manifest(normalise(table(turn=[None])), str(tmp_path / "audio"))
    write_manifest(manifest, str(tmp_path / "m.parquet"))
    assert read_manifest(str(tmp_path / "m.parquet")) == manifest
    with pytest.raises(ManifestError, match="root"):
        write_manifest(manifest, str(tmp_path / "m.csv"))


def test_a_uri_is_a_path(tmp_path: Path) -> None:
    manifest = Manifest(normalise(table(turn=[None])), f"file://{tmp_path}")
    write_manifest(manifest, f"file://{tmp_path}/m.csv")
    assert read_manifest(f"file://{tmp_path}/m.csv") == manifest


def test_a_relative_path_has_an_absolute_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(normalise(table(turn=[None])), str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_manifest(manifest, "m.csv")
    assert read_manifest("m.csv") == manifest


def test_audformat_segments_read_in(tmp_path: Path) -> None:
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


def test_durations_with_days_and_hours() -> None:
    got = normalise(table(start=["0 days 00:00:01.2", "00:01:00"], end=["1 days 01:00:00", "61.5"]))
    assert got["start"].to_pylist() == [1.2, 60]
    assert got["end"].to_pylist() == [90000, 61.5]


def test_ids_of_files_with_one_stem_are_their_paths() -> None:
    got = normalise(table(file=["train/1.wav", "test/1.wav", "test/2.wav"]))
    assert got["id"].to_pylist() == ["train/1.wav", "test/1.wav", "2"]


def test_turns_by_start_in_one_file_and_by_row_over_several() -> None:
    one = table(file=["a.wav"] * 3, start=[4.0, 0.0, 2.0], end=[5.0, 1.0, 3.0], dialogue=["d"] * 3)
    assert normalise(one)["turn"].to_pylist() == [2, 0, 1]
    assert normalise(one)["start"].to_pylist() == [4, 0, 2]
    several = table(dialogue=["d", "e", "d", None])
    assert normalise(several)["turn"].to_pylist() == [0, 0, 1, None]
    assert normalise(table(dialogue=["d", "d"], turn=["7", "3.0"]))["turn"].to_pylist() == [7, 3]


def test_missing_columns() -> None:
    with pytest.raises(ManifestError, match=r"no column speaker or emotion.*file, label"):
        normalise(pa.table({"file": ["a"], "label": ["b"]}))
    with pytest.raises(ManifestError, match="no rows"):
        normalise(table(turn=[1]).slice(0, 0))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"speaker": ["a", None]}, "every utterance has a speaker. row 2: speaker is empty"),
        ({"speaker": ["a", " "]}, "row 2: speaker is empty"),
        ({"file": ["", "b.wav"]}, "row 1: file is empty"),
        ({"file": ["/a.wav", "b.wav"]}, "row 1: file '/a.wav'"),
        ({"file": ["../a.wav", "b.wav"]}, "row 1: file '../a.wav'"),
        ({"id": ["u", "u"]}, "an id names one utterance. row 2: id 'u' is also row 1's"),
        ({"file": ["a.wav", "a.wav"]}, "row 2: id 'a_0.000_end' is also row 1's"),
        ({"start": [-1.0, 0.0]}, "row 1: start -1.0"),
        ({"start": [float("inf"), 0.0]}, "row 1: start inf"),
        ({"end": [float("nan"), 1.0]}, "row 1: end nan"),
        ({"end": ["soon", "1"]}, "end must be seconds, or a duration.*row 1: end 'soon'"),
        ({"start": [1.0, 2.0], "end": [1.0, 1.5]}, "row 1: start 1.0, end 1.0; row 2: start 2.0"),
        ({"end": [0.0, 1.0]}, "end comes after start. row 1: start 0.0, end 0.0"),
        ({"dialogue": ["d", "d"], "turn": [3, 3]}, "row 2: dialogue 'd' turn 3 is also row 1's"),
        ({"dialogue": ["d", "d"], "turn": [3, None]}, "row 2: turn is empty"),
        ({"turn": ["1", "first"]}, "turn must be a whole number. row 2: turn 'first'"),
        ({"turn": [1.5, 2.0]}, "row 1: turn 1.5"),
    ],
)
def test_wrong_rows_are_named(columns: dict[str, list], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        normalise(table(**columns))


def test_many_wrong_rows_are_counted() -> None:
    words = refused(speaker=[None] * 12)
    assert "row 5:" in words
    assert "row 6:" not in words
    assert "7 more, 12 in all" in words


def test_files_that_are_no_manifests(tmp_path: Path) -> None:
    cases = {
        "ragged.csv": (b"file,speaker,emotion\na,b,c\na,b\n", "row 2: 2 values"),
        "latin.csv": ("file,speaker,emotion\na,Jos\xe9,b\n".encode("latin-1"), "UTF-8"),
        "empty.csv": (b"", "no column file or speaker or emotion"),
        "twice.csv": (b"file,file,speaker,emotion\n", "twice"),
        "not.parquet": (b"hello", "not a Parquet file"),
        "m.xlsx": (b"hello", r"\.csv or a \.parquet"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ManifestError, match=words) as caught:
            read_manifest(str(tmp_path / name))
        assert name in str(caught.value)
    with pytest.raises(FileNotFoundError):
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
