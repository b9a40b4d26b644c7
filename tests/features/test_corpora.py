"""Readers of corpora whose files' names, or one table, tell everything."""

import shutil
import wave
from collections import Counter
from pathlib import Path

import pytest

from features.corpora import CORPORA
from features.manifest import Manifest, ManifestError, write_manifest


def tree(root: Path, *files: str) -> str:
    """Files below `root`: recordings of silence, or empty where the suffix is another."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".wav":
            with wave.open(str(path), "wb") as audio:
                audio.setparams((1, 2, 16_000, 0, "NONE", ""))
                audio.writeframes(bytes(3200))
        else:
            path.write_bytes(b"")
    return str(root)


def rows(manifest: Manifest, *columns: str) -> list[tuple]:
    return [tuple(row[c] for c in columns) for row in manifest.table.to_pylist()]


def problems(manifest: Manifest, words: str) -> list[str]:
    return [problem.file for problem in manifest.problems if words in problem.reason]


def refused(corpus: str, root: Path | str) -> str:
    with pytest.raises(ManifestError) as caught:
        CORPORA[corpus](str(root))
    return str(caught.value)


EXAMPLES = {
    "emodb": ("wav/03a01Fa.wav", "wav/08b10Wd.wav"),
    "ravdess": ("Actor_12/03-01-06-01-02-01-12.wav", "Actor_01/03-01-01-01-01-01-01.wav"),
    "crema_d": ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1091_IEO_SAD_HI.wav"),
    "att_hack": ("a/b/wav/F01_a1_s001_v01.wav", "a/b/wav/M09_a4_s100_v05.wav"),
}


@pytest.mark.parametrize("corpus", EXAMPLES)
def test_wherever_it_was_unpacked(corpus: str, tmp_path: Path) -> None:
    root = tree(tmp_path / "x", *(f"some/where/{name}" for name in EXAMPLES[corpus]))
    manifest = CORPORA[corpus](root)
    assert manifest.root == root
    assert {row[0] for row in rows(manifest, "file")} == {
        f"some/where/{name}" for name in EXAMPLES[corpus]
    }
    assert [problem.file for problem in manifest.problems if "missing" not in problem.reason]
    uri = CORPORA[corpus](f"file://{root}")
    assert uri.table == manifest.table


@pytest.mark.parametrize("corpus", EXAMPLES)
def test_not_this_corpus(corpus: str, tmp_path: Path) -> None:
    root = tree(tmp_path, "a.wav", "b.txt")
    text = refused(corpus, root)
    assert f"{root} is not " in text
    assert "among 1 recordings" in text
    assert "no such folder" in refused(corpus, tmp_path / "nothing")


@pytest.mark.parametrize("corpus", EXAMPLES)
def test_strays_clutter_and_copies(corpus: str, tmp_path: Path) -> None:
    first = Path(EXAMPLES[corpus][0])
    stray = str(first.with_name("take two.wav"))
    clutter = str(first.with_name(f"._{first.name}"))
    flac = str(first.with_suffix(".flac"))
    root = tree(tmp_path, *EXAMPLES[corpus], stray, flac, clutter, "__MACOSX/x.wav", ".DS_Store")
    manifest = CORPORA[corpus](root)
    assert len(manifest.table) == 2
    assert problems(manifest, "left out (1 file)") == [stray]
    assert problems(manifest, "in another format, not read (1 file)") == [flac]
    assert set(problems(manifest, "file manager, not read (3 files)")) == {
        clutter,
        "__MACOSX",
        ".DS_Store",
    }
    tree(tmp_path, f"copy/{first.name}")
    text = refused(corpus, root)
    assert "1 utterances" in text
    assert f"{first} and copy/{first.name}" in text or f"copy/{first.name} and {first}" in text


def test_emodb(tmp_path: Path) -> None:
    codes = "WLEAFTN"
    files = [f"wav/{speaker}a0{i}{code}b.wav" for speaker in ("03", "16") for i, code in
             enumerate(codes, start=1)]  # fmt: skip
    manifest = CORPORA["emodb"](tree(tmp_path, *files))
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
    manifest = CORPORA["ravdess"](tree(tmp_path, *speech, song, "Actor_01/02-01-01.mp4"))
    words = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
    assert rows(manifest, "speaker", "gender", "phrase", "emotion") == [
        (speaker, gender, "02", word)
        for word in words
        for speaker, gender in (("01", "male"), ("24", "female"))
    ]
    assert problems(manifest, "a song, left out (1 file)") == [song]
    assert len(problems(manifest, "speaker missing (22 speakers)")) == 22


def test_crema_d(tmp_path: Path) -> None:
    names = ("1001_DFA_ANG_XX", "1002_IEO_SAD_HI", "1002_ITH_SAD_X", "1002_IEO_NEU_XX")
    root = tree(
        tmp_path, *(f"AudioWAV/{name}.wav" for name in names), "AudioMP3/1002_IEO_SAD_HI.mp3"
    )
    manifest = CORPORA["crema_d"](root)
    assert rows(manifest, "id", "speaker", "phrase", "emotion", "gender") == [
        ("1001_DFA_ANG_XX", "1001", "DFA", "ANG", None),
        ("1002_IEO_NEU_XX", "1002", "IEO", "NEU", None),
        ("1002_IEO_SAD_HI", "1002", "IEO", "SAD", None),
        ("1002_ITH_SAD_X", "1002", "ITH", "SAD", None),
    ]
    assert problems(manifest, "in another format, not read") == ["AudioMP3/1002_IEO_SAD_HI.mp3"]
    assert problems(manifest, "no gender is known") == ["VideoDemographics.csv"]
    table = "ActorID,Age,Sex,Race,Ethnicity\r\n1001,51,Male,Caucasian,\r\n1002,21,Female,,\r\n"
    (tmp_path / "VideoDemographics.csv").write_bytes(table.encode())
    manifest = CORPORA["crema_d"](root)
    assert [row[0] for row in rows(manifest, "gender")] == ["male", "female", "female", "female"]


LONG = "data/lustre/corpus/att-hack/final"


def test_att_hack(tmp_path: Path) -> None:
    names = [f"{s}_a{a}_s00{p}_v01" for s in ("F01", "M02") for a in range(1, 5) for p in (1, 2)]
    tree(tmp_path, *(f"{LONG}/wav/{name}.wav" for name in names))
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


def test_nemo(nemo: Path) -> None:
    manifest = CORPORA["nemo"](str(nemo))
    assert manifest.problems == ()
    assert len(manifest.table) == 2158
    counts = Counter(rows(manifest, "speaker", "emotion"))
    speakers = ("EB0", "KD0", "KS0", "MK0", "SM0", "WR0")
    expected = {(s, e): 90 for s in speakers for e in ("anger", "happiness", "neutral", "sadness")}
    assert counts == expected | {("SM0", "happiness"): 89, ("WR0", "neutral"): 89}
    men = {"KS0", "SM0", "WR0"}
    assert all(gender == ("male" if s in men else "female") for s, gender in
               rows(manifest, "speaker", "gender"))  # fmt: skip
    assert Counter(len(set(p)) for p in [[r[0] for r in rows(manifest, "phrase")]]) == {90: 1}


TABLE = """file_id\temotion\tsentence_id\tspeaker_id\tgender\tage\traw_text
A0_anger_1.wav\tanger\t1\tA0\tmale\t30\tTo jest "zdanie".
A0_fear_2.wav\tfear\t2\tA0\tmale\t30\tDrugie.
B0_anger_1.wav\tanger\t1\tB0\tfemale\t25\tTo jest "zdanie".
"""


def test_nemo_compared_with_the_disk(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "nEMO/Samples/A0_anger_1.flac",
        "nEMO/Samples/B0_anger_1.wav",
        "nEMO/Samples/C.wav",
    )
    table = tmp_path / "nEMO/data.tsv"
    table.write_bytes(TABLE.replace("\n", "\r\n").encode() + b"A0_sad")
    manifest = CORPORA["nemo"](root)
    assert rows(manifest, "id", "file", "phrase", "text") == [
        ("A0_anger_1", "nEMO/Samples/A0_anger_1.flac", "1", 'To jest "zdanie".'),
        ("A0_fear_2", "nEMO/Samples/A0_fear_2.wav", "2", "Drugie."),
        ("B0_anger_1", "nEMO/Samples/B0_anger_1.wav", "1", 'To jest "zdanie".'),
    ]
    assert problems(manifest, "not on the disk (1 file)") == ["nEMO/Samples/A0_fear_2.wav"]
    assert problems(manifest, "does not name, left out (1 file)") == ["nEMO/Samples/C.wav"]
    assert problems(manifest, "cut short, left out (1 row)") == ["nEMO/data.tsv:5"]
    shutil.rmtree(tmp_path / "nEMO/Samples")
    assert problems(CORPORA["nemo"](root), "unpack samples/") == ["nEMO/samples"]
    table.write_text(TABLE + TABLE.splitlines()[1] + "\n")
    assert "(A0_anger_1 in lines 2 and 5)" in refused("nemo", root)
    table.write_text(TABLE.replace("speaker_id", "who"))
    assert "no column speaker_id" in refused("nemo", root)
    table.write_text(TABLE.splitlines()[0])
    assert "no utterance" in refused("nemo", root)
    table.unlink()
    assert "no data.tsv" in refused("nemo", root)


def test_a_manifest_of_one_s_own_is_compared_with_the_disk(tmp_path: Path) -> None:
    root = tree(tmp_path, "wav/a.wav", "wav/b.wav", "wav/._a.wav", "notes.txt")
    text = "file,speaker,emotion\nwav/a.wav,s,ang\n./wav/c.wav,s,neu\n"
    (tmp_path / "m.csv").write_text(text)
    manifest = CORPORA["manifest"](f"{root}/m.csv")
    assert problems(manifest, "not on the disk (1 file)") == ["wav/c.wav"]
    assert problems(manifest, "does not name, left out (1 file)") == ["wav/b.wav"]
    assert problems(manifest, "file manager") == ["wav/._a.wav"]
    write_manifest(manifest, f"{root}/m.parquet")
    assert CORPORA["manifest"](f"{root}/m.parquet") == manifest


def test_what_is_no_corpus_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.corpora.tree._NAMES", 3)
    root = tree(tmp_path, *(f"{n}.wav" for n in range(4)))
    assert "more than 3 files; give the corpus's own folder" in refused("emodb", root)
