"""The reader of IEMOCAP, on a small tree with the layout and the irregularities of the release."""

import io
import shutil
import wave
from collections import Counter
from pathlib import Path

import pytest

from features.context import previous_turns
from features.corpora import CORPORA
from features.errors import ManifestError
from features.manifest import Manifest
from tests.support.corpora import problems

HEAD = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"

# The spoken order of Ses01F_impro01, in which the woman wears the markers. M002 has the label
# `xxx`, F002 has no label and no recording, M003 has a recording and a transcription only.
SPOKEN = [
    ("F000", 6.2901, 8.2357, "neu"),
    ("M000", 10.0, 11.5, "neu"),
    ("F001", 12.0, 13.0, "fru"),
    ("MXX0", 13.0, 13.5, None),
    ("M001", 14.0, 15.0, "ang"),
    ("F002", 15.0, 15.5, None),
    ("M002", 16.0, 17.25, "xxx"),
    ("F003", 18.0, 19.0, "ang"),
    ("M003", 19.5, 20.0, None),
    ("F004", 21.0, 22.0, "exc"),
]
COLUMNS = ("speaker", "dialogue", "turn")
ORDER = ["F000", "M000", "F001", "M001", "M002", "F003", "M003", "F004"]


def wav(path: Path, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * int(16_000 * seconds)))
    path.write_bytes(data.getvalue())


def label(name: str, start: float, end: float, emotion: str) -> str:
    judges = "C-E2:\tNeutral;\t()\nC-F1:\tNeutral; Anger;\t(curious)\nA-E3:\tval 3; act 2;\t()\n"
    return f"[{start:.4f} - {end:.4f}]\t{name}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n{judges}\n"


def line(name: str, start: float, end: float, text: str = "Excuse me.") -> str:
    return f"{name} [{start:08.4f}-{end:08.4f}]: {text}\n"


def dialogue(root: Path, name: str, spoken: list, recorded: tuple = ()) -> None:
    """The three folders of a dialogue: labels by speaker, lines in the spoken order."""
    session = root / f"Session{name[4]}"
    labelled = [turn for turn in spoken if turn[3]]
    labels = "".join(
        label(f"{name}_{turn}", start, end, emotion)
        for turn, start, end, emotion in sorted(labelled, key=lambda turn: turn[0])
    )
    for folder, text in (
        ("EmoEvaluation", HEAD + labels),
        ("transcriptions", "".join(line(f"{name}_{t}", a, b) for t, a, b, _ in spoken)),
    ):
        (session / "dialog" / folder).mkdir(parents=True, exist_ok=True)
        (session / "dialog" / folder / f"{name}.txt").write_text(text)
    for turn in (*(t[0] for t in labelled), *recorded):
        wav(session / "sentences" / "wav" / name / f"{name}_{turn}.wav")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "IEMOCAP_full_release"
    dialogue(root, "Ses01F_impro01", SPOKEN, recorded=("M003",))
    dialogue(root, "Ses01M_script01_1", [("F000", 1.0, 2.0, "sad"), ("M000", 2.5, 3.0, "oth")])
    for number in (2, 3, 4):
        dialogue(root, f"Ses0{number}F_impro02", [("M000", 0.5, 1.0, "hap"), ("F000", 2, 3, "neu")])
    dialogue(root, "Ses05M_script01_1b", [("M000", 0.5, 1.0, "neu"), ("F000", 2.0, 3.0, "sur")])
    # The files of single annotators are in a subfolder and are not labels.
    (root / "Session1/dialog/EmoEvaluation/Categorical").mkdir()
    judge = label("Ses01F_impro01_F000", 6.2901, 8.2357, "ang")
    (root / "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt").write_text(judge)
    return root


def read(root: Path) -> Manifest:
    return CORPORA["iemocap"](str(root))


def turns(manifest: Manifest, name: str = "Ses01F_impro01") -> list[dict]:
    return [row for row in manifest.table.to_pylist() if row["dialogue"] == name]


def test_rows_have_labels_and_speakers(release: Path) -> None:
    manifest = read(release)
    table = manifest.table
    assert manifest.root == str(release)
    assert len(table) == 18  # 17 labelled, and M003
    emotions = Counter(table["emotion"].to_pylist())
    assert emotions == {
        "neu": 6, "ang": 2, "hap": 3, "fru": 1, "xxx": 1, "exc": 1, "sad": 1, "oth": 1, "sur": 1,
        None: 1,
    }  # fmt: skip
    assert Counter(table["speaker"].to_pylist()) == {
        "Ses01F": 5, "Ses01M": 5, "Ses02F": 1, "Ses02M": 1, "Ses03F": 1, "Ses03M": 1, "Ses04F": 1,
        "Ses04M": 1, "Ses05F": 1, "Ses05M": 1,
    }  # fmt: skip
    assert Counter(table["session"].to_pylist()) == {"1": 10, "2": 2, "3": 2, "4": 2, "5": 2}
    rows = {row["id"]: row for row in table.to_pylist()}
    man = rows["Ses01F_impro01_M000"]
    assert man == {
        "id": "Ses01F_impro01_M000",
        "file": "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav",
        "start": None,
        "end": None,
        "speaker": "Ses01M",
        "emotion": "neu",
        "session": "1",
        "dialogue": "Ses01F_impro01",
        "turn": 1,
        "gender": "male",
        "phrase": None,
        "split": None,
        "fold": None,
        "style": "improvised",
        "text": "Excuse me.",
        "dialogue_start": 10.0,
        "dialogue_end": 11.5,
    }
    woman = rows["Ses01M_script01_1_F000"]
    assert (woman["speaker"], woman["gender"], woman["style"]) == ("Ses01F", "female", "scripted")
    assert rows["Ses05M_script01_1b_M000"]["dialogue"] == "Ses05M_script01_1b"


def test_turns_follow_the_transcription(release: Path) -> None:
    rows = turns(read(release))
    assert [row["id"].rpartition("_")[2] for row in rows] == ORDER
    assert [row["turn"] for row in rows] == list(range(8))


def test_context_of_a_dialogue(release: Path) -> None:
    rows = turns(read(release))
    own, other = previous_turns(*([row[key] for row in rows] for key in COLUMNS))
    #                         F000 M000 F001 M001 M002 F003 M003 F004
    assert own.newest.tolist() == [-1, -1, 0, 1, 3, 2, 4, 5]
    assert other.newest.tolist() == [-1, 0, 1, 2, 2, 4, 5, 6]


def test_the_folder_above_and_other_case_are_accepted(release: Path) -> None:
    (release / "Session1").rename(release / "SESSION1")
    (release / "Session2" / "dialog").rename(release / "Session2" / "Dialog")
    manifest = read(release.parent)
    assert len(manifest.table) == 18
    files = manifest.table["file"].to_pylist()
    assert all((release.parent / file).is_file() for file in files)
    assert files[0].startswith("IEMOCAP_full_release/SESSION1/")


def test_turns_without_label_and_recording_are_skipped_and_counted(release: Path) -> None:
    place = "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    manifest = read(release)
    assert problems(manifest, "without a label and a recording") == [f"{place}:4", f"{place}:6"]
    (reason,) = {
        p.reason for p in manifest.problems if "without a label and a recording" in p.reason
    }
    assert "(2 turns)" in reason
    assert problems(manifest, "turn without a label (1 turn)") == [
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M003.wav"
    ]
    assert problems(manifest, "17 of 10039 labelled turns") == ["."]
    assert len(manifest.problems) == 4


def test_a_missing_recording_keeps_its_row(release: Path) -> None:
    file = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav"
    (release / file).unlink()
    manifest = read(release)
    assert [row["id"].rpartition("_")[2] for row in turns(manifest)] == ORDER
    assert turns(manifest)[2]["file"] == file
    assert problems(manifest, "a labelled turn without its recording (1 file)") == [file]


def test_recordings_without_label_and_transcription_are_skipped(release: Path) -> None:
    folder = "Session2/sentences/wav/Ses02F_impro02"
    for name in ("Ses02F_impro02_F077", "copy of F000"):
        wav(release / folder / f"{name}.wav")
    manifest = read(release)
    assert len(manifest.table) == 18
    assert problems(manifest, "without a label and a transcription, skipped (2 turns)") == [
        f"{folder}/Ses02F_impro02_F077.wav",
        f"{folder}/copy of F000.wav",
    ]


def test_labels_without_a_transcription_are_placed_by_time(release: Path) -> None:
    path = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    kept = [ln for ln in path.read_text().splitlines(True) if "_M001" not in ln]
    path.write_text("".join(kept))
    manifest = read(release)
    assert [row["id"].rpartition("_")[2] for row in turns(manifest)] == ORDER
    assert turns(manifest)[3]["text"] is None
    assert len(problems(manifest, "without a transcription (1 turn)")) == 1
    path.unlink()  # all by time; without its transcription, M003 is not a turn
    manifest = read(release)
    order = [turn for turn in ORDER if turn != "M003"]
    assert [row["id"].rpartition("_")[2] for row in turns(manifest)] == order
    assert len(problems(manifest, "without a transcription (7 turns)")) == 7


def test_line_ends_encodings_and_macos_files(release: Path) -> None:
    texts = release / "Session1/dialog/transcriptions"
    path = texts / "Ses01F_impro01.txt"
    data = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(data.replace(b"Excuse me.", b"Caf\xe9 \x85 no\x81.", 1))
    labels = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    labels.write_bytes(b"\xef\xbb\xbf" + labels.read_bytes().replace(b"\n", b"\r\n"))
    junk = label("Ses01F_impro01_F000", 0, 1, "sad").encode()
    (labels.parent / "._Ses01F_impro01.txt").write_bytes(b"\0\5\x16\7" + junk)
    (release / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    wav(release / "Session1/sentences/wav/Ses01F_impro01/._Ses01F_impro01_F000.wav")
    (release / "Session3/sentences/wav/__MACOSX").mkdir()

    manifest = read(release)
    rows = turns(manifest)
    assert [row["id"].rpartition("_")[2] for row in rows] == ORDER
    assert [row["emotion"] for row in rows][:3] == ["neu", "neu", "fru"]
    assert rows[0]["text"] == "Café … no\ufffd."
    place = "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    assert problems(manifest, "not UTF-8, read as Windows-1252 (1 file)") == [place]
    assert set(problems(manifest, "line ends (2 files)")) == {
        place,
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
    }
    assert set(problems(manifest, "left behind by a file manager, skipped (4 files)")) == {
        ".DS_Store",
        "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt",
        "Session1/sentences/wav/Ses01F_impro01/._Ses01F_impro01_F000.wav",
        "Session3/sentences/wav/__MACOSX",
    }


def test_invalid_lines_are_skipped(release: Path) -> None:
    path = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    again = line("Ses01F_impro01_F000", 30.0, 31.0)
    path.write_text("M: You did this to me.\n" + path.read_text() + again)
    labels = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    labels.write_text(labels.read_text() + "[1.0 - 2.0]\tSes01F_impro01_F0")
    manifest = read(release)
    assert [row["id"].rpartition("_")[2] for row in turns(manifest)] == ORDER
    place = "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    assert problems(manifest, "without a turn's id and times") == [f"{place}:1"]
    assert problems(manifest, "that is transcribed twice") == [f"{place}:12"]
    assert len(problems(manifest, "a label with a wrong format")) == 1


def test_missing_parts_are_reported(release: Path) -> None:
    shutil.rmtree(release / "Session4")
    shutil.rmtree(release / "Session2/dialog/transcriptions")
    manifest = read(release)
    assert len(manifest.table) == 16
    assert problems(manifest, "session missing (1 session): unpack") == ["Session4"]
    assert problems(manifest, "missing (1 folder)") == ["Session2/dialog/transcriptions"]


def test_a_turn_with_two_labels_is_refused(release: Path) -> None:
    folder = release / "Session1/dialog/EmoEvaluation"
    shutil.copy(folder / "Ses01M_script01_1.txt", folder / "Ses01M_script01_1 copy.txt")
    with pytest.raises(ManifestError) as caught:
        read(release)
    assert "2 turns have two labels (Ses01M_script01_1_F000 in" in str(caught.value)
    assert "Ses01M_script01_1 copy.txt:3" in str(caught.value)


def test_other_roots_are_refused(release: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no folder Session1 to Session5"):
        read(release / "Session1")
    with pytest.raises(ManifestError, match="no such folder"):
        read(tmp_path / "nothing")
    (tmp_path / "IEMOCAP.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ManifestError, match="is a file: unpack it"):
        read(tmp_path / "IEMOCAP.tar.gz")
    for session in range(1, 6):
        shutil.rmtree(release / f"Session{session}/dialog/EmoEvaluation")
    with pytest.raises(ManifestError, match="dialog/EmoEvaluation of its sessions has no label"):
        read(release)
    shutil.copytree(release / "Session1", release.parent / "b" / "session1")
    with pytest.raises(ManifestError, match="a session twice"):
        read(release.parent)


def test_a_uri_is_accepted(release: Path) -> None:
    manifest = CORPORA["iemocap"](f"file://{release}")
    assert manifest.root == f"file://{release}"
    assert manifest.table == read(release).table


def test_happy_and_excited_can_be_merged(release: Path) -> None:
    emotions = Counter(read(release).table["emotion"].to_pylist())
    assert emotions["hap"] + emotions["exc"] == 4
