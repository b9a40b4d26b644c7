"""Conversion of a manifest's rows, and the messages for wrong rows."""

import pyarrow as pa
import pytest

from features.errors import ManifestError
from features.manifest_rows import SCHEMA, normalise, without_value


def table(**columns: list) -> pa.Table:
    rows = len(next(iter(columns.values())))
    defaults = {"speaker": ["s"] * rows, "emotion": ["neu"] * rows}
    return pa.table({"file": [f"{i}.wav" for i in range(rows)], **defaults, **columns})


def test_defaults_and_types() -> None:
    got = normalise(table(session=[1, 2], emotion=["a", None]))
    assert got.schema == SCHEMA
    assert got["id"].to_pylist() == ["0", "1"]
    assert got["session"].to_pylist() == ["1", "2"]
    assert got["emotion"].to_pylist() == ["a", None]
    assert got["turn"].to_pylist() == [None, None]
    assert normalise(got) == got


def test_durations_with_days_and_hours() -> None:
    got = normalise(table(start=["0 days 00:00:01.2", "00:01:00"], end=["1 days 01:00:00", "61.5"]))
    assert got["start"].to_pylist() == [1.2, 60]
    assert got["end"].to_pylist() == [90000, 61.5]


def test_files_that_share_a_stem_use_their_path_as_id() -> None:
    got = normalise(table(file=["train/1.wav", "test/1.wav", "test/2.wav"]))
    assert got["id"].to_pylist() == ["train/1.wav", "test/1.wav", "2"]


def test_ids_of_absolute_paths_do_not_depend_on_the_machine() -> None:
    for home in ("", "/data", "/home/me/my corpora"):
        files = [f"{home}/c/train/1.wav", f"{home}/c/test/1.wav", f"{home}/c/2.wav", "1.wav"]
        ids = normalise(table(file=files), own=True)["id"].to_pylist()
        assert ids == ["train/1.wav", "test/1.wav", "2", "1.wav"]
    files = ["b/x.wav", "/data/b/x.wav", "/data/c/y.wav"]  # a relative file has the short name
    ids = normalise(table(file=files), own=True)["id"].to_pylist()
    assert ids == ["b/x.wav", "/data/b/x.wav", "y"]
    files = ["s3://bucket/train/1.wav", "s3://bucket/test/1.wav", "../1.wav"]
    assert normalise(table(file=files), own=True)["id"].to_pylist() == files


@pytest.mark.parametrize("file", ["/a.wav", "../a.wav", "a/../../b.wav", "s3://bucket/a.wav"])
def test_only_the_users_own_table_may_leave_the_folder(file: str) -> None:
    assert normalise(table(file=[file]), own=True)["file"].to_pylist() == [file]
    with pytest.raises(ManifestError, match=r"inside the corpus's folder: only .* row 1: file '"):
        normalise(table(file=[file]))


@pytest.mark.parametrize("file", ["/", "..", ".", "a/..", "/data/.."])
def test_names_of_no_file_are_refused(file: str) -> None:
    for own in (False, True):
        with pytest.raises(ManifestError, match="file must be the path of a recording"):
            normalise(table(file=[file]), own)


def test_turns_follow_the_start_in_one_file_and_else_the_rows() -> None:
    one = table(file=["a.wav"] * 3, start=[4.0, 0.0, 2.0], end=[5.0, 1.0, 3.0], dialogue=["d"] * 3)
    assert normalise(one)["turn"].to_pylist() == [2, 0, 1]
    assert normalise(one)["start"].to_pylist() == [4, 0, 2]
    several = table(dialogue=["d", "e", "d", None])
    assert normalise(several)["turn"].to_pylist() == [0, 0, 1, None]
    assert normalise(table(dialogue=["d", "d"], turn=["7", "3.0"]))["turn"].to_pylist() == [7, 3]


@pytest.mark.parametrize("column", ["session", "dialogue", "phrase", "split", "fold"])
@pytest.mark.parametrize(
    "text", ["NaN", "nan", "NA", "N/A", "None", "NULL", "#N/A", "<NA>", "NaT", " ", "\ufeff"]
)
def test_a_text_that_means_no_value_is_no_name(column: str, text: str) -> None:
    given = table(**{column: ["a", text, f" {text} ", "Nan"]})
    assert normalise(given)[column].to_pylist() == ["a", None, None, "Nan"]
    counts = {column: {text: 2}} if text.strip() else {}  # an empty cell needs no remark
    assert without_value(given) == counts
    assert without_value(normalise(given)) == {}


def test_labels_and_words_stay_even_if_they_mean_no_value() -> None:
    texts = ["NA", "none", "nan"]
    got = normalise(table(emotion=texts, style=texts, text=texts, id=texts, gender=texts))
    for column in ("emotion", "style", "text", "id", "gender"):
        assert got[column].to_pylist() == texts
    assert without_value(got) == {}


def test_missing_columns() -> None:
    with pytest.raises(ManifestError, match=r"no column speaker or emotion.*file, label"):
        normalise(pa.table({"file": ["a"], "label": ["b"]}))
    with pytest.raises(ManifestError, match="no rows"):
        normalise(table(turn=[1]).slice(0, 0))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"speaker": ["a", None]}, "every utterance needs a speaker. row 2: speaker is empty"),
        ({"speaker": ["a", " "]}, "row 2: speaker is empty"),
        (
            {"speaker": ["a", "nan"]},
            "speaker, but some texts mean that there is no value. Fill .* row 2: speaker 'nan'",
        ),
        ({"speaker": ["NA", "<NA>"]}, "row 1: speaker 'NA'; row 2: speaker '<NA>'"),
        ({"speaker": ["a", "\u200b"]}, r"row 2: speaker '\\u200b'"),
        ({"file": ["", "b.wav"]}, "row 1: file is empty"),
        ({"file": ["/a.wav", "b.wav"]}, "row 1: file '/a.wav'"),
        ({"file": ["../a.wav", "b.wav"]}, "row 1: file '../a.wav'"),
        ({"id": ["u", "u"]}, "each id must occur once. row 2: id 'u' is also in row 1"),
        ({"id": ["NaN", "NaN"]}, "Empty the cells without an id: .*. row 2: id 'NaN' is also in"),
        ({"file": ["a.wav", "a.wav"]}, "row 2: id 'a_0.000_end' is also in row 1"),
        ({"start": [-1.0, 0.0]}, "row 1: start -1.0"),
        ({"start": [float("inf"), 0.0]}, "row 1: start inf"),
        ({"end": [float("nan"), 1.0]}, "row 1: end nan"),
        ({"end": ["soon", "1"]}, "end must be seconds, or a duration.*row 1: end 'soon'"),
        ({"start": [1.0, 2.0], "end": [1.0, 1.5]}, "row 1: start 1.0, end 1.0; row 2: start 2.0"),
        ({"end": [0.0, 1.0]}, "end must be after start. row 1: start 0.0, end 0.0"),
        ({"dialogue": ["d", "d"], "turn": [3, 3]}, "row 2: dialogue 'd' turn 3 is also in row 1"),
        (
            {"dialogue": ["d", "d"], "turn": [3, 3], "session": ["1", "2"]},
            "each session numbers its dialogues anew, write the session .*, as in Ses01_1. row 2: ",
        ),
        ({"dialogue": ["d", "d"], "turn": [3, None]}, "row 2: turn is empty"),
        ({"turn": ["1", "first"]}, "turn must be a whole number. row 2: turn 'first'"),
        ({"turn": [1.5, 2.0]}, "row 1: turn 1.5"),
        (
            {"emotion": ["a\nb", "c"]},
            r"emotion must not contain line ends.* row 1: emotion 'a\\nb'",
        ),
        ({"session": ["x" * 1001, "y"]}, "session must have at most 1000 characters. row 1"),
        ({"file": ["a" * 256, "b"]}, "file must have at most 255 bytes in each component. row 1"),
    ],
    ids=lambda value: None if isinstance(value, str) else ", ".join(value),
)
def test_wrong_rows_are_named(columns: dict[str, list], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        normalise(table(**columns))


def test_many_wrong_rows_are_counted() -> None:
    with pytest.raises(ManifestError) as caught:
        normalise(table(speaker=[None] * 12))
    assert "row 5:" in str(caught.value)
    assert "row 6:" not in str(caught.value)
    assert "and 7 more" in str(caught.value)
