"""The readers of EmoDB, RAVDESS, CREMA-D and Att-HACK: labels from file names."""

from collections import Counter
from pathlib import Path

from features.corpora import CORPORA
from tests.support.corpora import make_tree, problems, rows


def test_emodb(tmp_path: Path) -> None:
    codes = "WLEAFTN"
    files = [f"wav/{speaker}a0{i}{code}b.wav" for speaker in ("03", "16") for i, code in
             enumerate(codes, start=1)]  # fmt: skip
    manifest = CORPORA["emodb"](make_tree(tmp_path, *files))
    words = ["anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral"]
    assert rows(manifest, "id", "speaker", "gender", "phrase", "emotion") == [
        (f"{speaker}a0{i}{code}b", speaker, gender, f"a0{i}", word)
        for speaker, gender in (("03", "male"), ("16", "female"))
        for i, (code, word) in enumerate(zip(codes, words, strict=True), start=1)
    ]
    assert problems(manifest, "speaker missing (8 speakers)") == [
        "08", "09", "10", "11", "12", "13", "14", "15",
    ]  # fmt: skip
    assert problems(manifest, "14 of 535 utterances") == ["."]


def test_whole_emodb_has_no_problems(tmp_path: Path) -> None:
    speakers = ["03", *(f"{n:02d}" for n in range(8, 17))]
    texts = [f"{letter}{n:02d}" for letter in "ab" for n in range(1, 11)]
    names = [f"{s}{t}{e}a" for s in speakers for t in texts for e in "WLE"][:535]
    names[-1] = "16a01Na"
    (tmp_path / "wav").mkdir()
    for name in names:
        (tmp_path / "wav" / f"{name}.wav").touch()
    manifest = CORPORA["emodb"](str(tmp_path))
    assert len(manifest.table) == 535
    assert manifest.problems == ()


def test_ravdess(tmp_path: Path) -> None:
    speech = [f"Actor_{a}/03-01-0{e}-01-02-01-{a}.wav" for a in ("01", "24") for e in range(1, 9)]
    song = "Actor_01/03-02-03-01-01-01-01.wav"
    manifest = CORPORA["ravdess"](make_tree(tmp_path, *speech, song, "Actor_01/02-01-01.mp4"))
    words = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
    assert rows(manifest, "speaker", "gender", "phrase", "emotion") == [
        (speaker, gender, "02", word)
        for word in words
        for speaker, gender in (("01", "male"), ("24", "female"))
    ]
    assert problems(manifest, "a song, skipped (1 file)") == [song]
    assert len(problems(manifest, "speaker missing (22 speakers)")) == 22


def test_crema_d(tmp_path: Path) -> None:
    names = ("1001_DFA_ANG_XX", "1002_IEO_SAD_HI", "1002_ITH_SAD_X", "1002_IEO_NEU_XX")
    root = make_tree(
        tmp_path, *(f"AudioWAV/{name}.wav" for name in names), "AudioMP3/1002_IEO_SAD_HI.mp3"
    )
    manifest = CORPORA["crema_d"](root)
    assert rows(manifest, "id", "speaker", "phrase", "emotion", "gender") == [
        ("1001_DFA_ANG_XX", "1001", "DFA", "ANG", None),
        ("1002_IEO_NEU_XX", "1002", "IEO", "NEU", None),
        ("1002_IEO_SAD_HI", "1002", "IEO", "SAD", None),
        ("1002_ITH_SAD_X", "1002", "ITH", "SAD", None),
    ]
    assert problems(manifest, "in another format, skipped") == ["AudioMP3/1002_IEO_SAD_HI.mp3"]
    assert problems(manifest, "genders are unknown") == ["VideoDemographics.csv"]
    table = "ActorID,Age,Sex,Race,Ethnicity\r\n1001,51,Male,Caucasian,\r\n1002,21,Female,,\r\n"
    (tmp_path / "VideoDemographics.csv").write_bytes(table.encode())
    manifest = CORPORA["crema_d"](root)
    assert [row[0] for row in rows(manifest, "gender")] == ["male", "female", "female", "female"]


LONG = "data/lustre/corpus/att-hack/final"


def test_att_hack(tmp_path: Path) -> None:
    names = [f"{s}_a{a}_s00{p}_v01" for s in ("F01", "M02") for a in range(1, 5) for p in (1, 2)]
    make_tree(tmp_path, *(f"{LONG}/wav/{name}.wav" for name in names))
    texts = tmp_path / "texts" / LONG / "TXT"
    texts.mkdir(parents=True)
    (texts / "F01_a1_s001_v01.txt").write_bytes("C'est \xe9tonnant.\r\n".encode("latin-1"))
    manifest = CORPORA["att_hack"](str(tmp_path))
    got = rows(manifest, "id", "speaker", "gender", "phrase", "emotion", "text")
    assert len(got) == 16
    assert got[0] == ("F01_a1_s001_v01", "F01", "female", "s001", "friendly", "C'est étonnant.")
    assert got[-1] == ("M02_a4_s002_v01", "M02", "male", "s002", "seductive", None)
    assert Counter(row[4] for row in got) == dict.fromkeys(
        ("friendly", "distant", "dominant", "seductive"), 4
    )
    assert problems(manifest, "no text in txt/ (1 phrase)") == ["s002"]
    assert len(problems(manifest, "Windows-1252")) == 1
    assert problems(manifest, "2 of 20 speakers") == problems(manifest, "2 of 100 phrases") == ["."]
