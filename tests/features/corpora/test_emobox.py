"""The reader of EmoBox: manifests, official folds, speakers."""

import json
import re
from pathlib import Path

import pytest

from features.corpora import CORPORA
from features.corpora.emobox import SPEAKERS
from features.errors import ManifestError
from features.manifest import Manifest
from tests.support.corpora import problems, refused

# A path of each corpus as in EmoBox, and its speaker.
PATHS = {
    "aesdd": ("disgust/d16 (5).wav", "5"),
    "cafe": ("CaFE_48k/Surprise/Faible/10-S-1-2.wav", "10"),
    "casia": ("zhaoquanyin/sad/246.wav", "zhaoquanyin"),
    "cremad": ("AudioWAV/1053_TSI_HAP_XX.wav", "1053"),
    "emodb": ("wav/03a02Wb.wav", "03"),
    "emovdb": ("jenie_Neutral/neutral_197-364_0226.wav", "jenie"),
    "emovo": ("m1/rab-m1-l4.wav", "m1"),
    "enterface": ("subject 13/disgust/sentence 4/s13_di_4.avi", "s13"),
    "esd": ("0018/Surprise/0018_001749.wav", "0018"),
    "iemocap": ("Session1/sentences/wav/Ses01F_impro04/Ses01F_impro04_M012.wav", "Ses01M"),
    "jlcorpus": (
        "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/male1_assertive_7b_2.wav",
        "male1",
    ),
    "mead": ("M027/audio/sad/level_1/018.m4a", "M027"),
    "oreau": ("Ore\u0301auFR_02/f/sessc/42a03Ca.wav", "42"),
    "polish": ("m3.a_nie_4.wav", "m3"),
    "ravdess": ("audio/Audio_Speech_Actors_01-24/Actor_21/03-01-04-01-01-01-21.wav", "21"),
    "savee": ("KL_n23.wav", "KL"),
    "shemo": ("female/F23H05.wav", "F23"),
    "subesco": ("M_03_ILIAS_S_10_HAPPY_4.wav", "M_03"),
    "tess": ("OAF_tip_happy.wav", "OAF"),
    "turevdb": ("Sound Source/Angry/1984_kz_tembel.wav", "kz"),
    "urdu": ("Angry/SM4_F1_A053.wav", "SM4"),
}


def record(path: str, emotion: str = "anger", name: str = "emodb", **more: object) -> str:
    fields = {
        "key": f"{name}-{Path(path).stem}",
        "dataset": name,
        "wav": f"downloads/{name}/{path}",
        "type": "raw",
        "sample_rate": 16000,
        "num_frame": 30045.0,
        "task": "category",
        "length": 1.8778125,
        "emo": emotion,
        "channel": 1,
    }
    return json.dumps(fields | more)


def wavs(*stems: str, **more: object) -> list[str]:
    return [record(f"wav/{stem}.wav", **more) for stem in stems]


class Box:
    """An EmoBox folder with one corpus."""

    def __init__(self, root: Path, name: str = "emodb") -> None:
        self.root, self.name = root, name
        self.data = root / "data" / name

    def whole(self, lines: list[str]) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / f"{self.name}.jsonl").write_text("\n".join(lines) + "\n")

    def fold(self, number: int, **parts: list[str]) -> None:
        folder = self.data / f"fold_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        for part, lines in parts.items():
            (folder / f"{self.name}_{part}_fold_{number}.jsonl").write_text("\n".join(lines))

    def audio(self, *stems: str) -> None:
        folder = self.root / "downloads" / self.name / "wav"
        folder.mkdir(parents=True, exist_ok=True)
        for stem in stems:
            (folder / f"{stem}.wav").touch()

    def read(self) -> Manifest:
        return CORPORA["emobox"](str(self.data))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "EmoBox")


def column(manifest: Manifest, name: str) -> list:
    return manifest.table[name].to_pylist()


A, B, C = (["03a01Wa", "03a02Na"], ["08a01Wa"], ["09b01Fb"])


def test_official_folds(box: Box) -> None:
    box.whole(wavs(*A, *B, *C))
    box.fold(1, train=wavs(*B, *C), test=wavs(*A))
    box.fold(2, train=wavs(*A, *C), test=wavs(*B))
    box.fold(3, train=wavs(*A, *B), test=wavs(*C))
    box.audio(*A, *B, *C)
    manifest = box.read()
    assert manifest.root == str(box.root)
    assert manifest.problems == ()
    assert column(manifest, "id") == [f"emodb-{stem}" for stem in A + B + C]
    assert column(manifest, "file") == [f"downloads/emodb/wav/{stem}.wav" for stem in A + B + C]
    assert column(manifest, "fold") == ["1", "1", "2", "3"]
    assert column(manifest, "split") == [None] * 4
    assert column(manifest, "speaker") == ["03", "03", "08", "09"]
    assert column(manifest, "emotion") == ["anger"] * 4
    uri = CORPORA["emobox"](f"file://{box.data}")
    assert uri.table == manifest.table
    assert uri.root == f"file://{box.root}"


def test_one_official_split_and_no_list_of_all(box: Box) -> None:
    box.fold(1, train=wavs(*A), valid=wavs(*B), test=wavs(*C))
    manifest = box.read()
    assert column(manifest, "split") == ["train", "train", "validation", "test"]
    assert column(manifest, "fold") == [None] * 4


def test_no_official_folds(box: Box) -> None:
    box.whole(wavs(*A))
    manifest = box.read()
    assert (column(manifest, "split"), column(manifest, "fold")) == ([None] * 2, [None] * 2)


@pytest.mark.parametrize(
    ("folds", "why"),
    [
        ({1: {"train": B + C, "test": A}, 2: {"train": A, "test": B + C + A[:1]}}, "in two parts"),
        (
            {1: {"train": B + C, "test": A}, 2: {"train": A, "test": B}},
            "does not train on all utterances",
        ),
        (
            {1: {"train": B, "test": A}, 2: {"train": A, "test": B}},
            "3 of 4 utterances are tested, 3 times",
        ),
        ({1: {"train": A + B, "test": B}}, "fold 1 has 1 utterances in two parts"),
    ],
    ids=["overlapping parts", "untrained utterances", "untested utterances", "one bad fold"],
)
def test_folds_that_are_not_a_partition_are_skipped(box: Box, folds: dict, why: str) -> None:
    box.whole(wavs(*A, *B, *C))
    for number, parts in folds.items():
        box.fold(number, **{part: wavs(*stems) for part, stems in parts.items()})
    manifest = box.read()
    assert column(manifest, "fold") == column(manifest, "split") == [None] * 4
    (reason,) = (p.reason for p in manifest.problems if "not a partition" in p.reason)
    assert why in reason


def test_manifests_are_compared_with_the_recordings(box: Box) -> None:
    box.whole([*wavs(*A), wavs(*A)[0], ""])
    box.audio(A[0], "03a09Ta", "._03a01Wa")
    (box.data / "fold_1").mkdir()
    (box.data / "fold_1" / "emodb_test_fold1.jsonl").write_text("{}")
    manifest = box.read()
    assert problems(manifest, "does not exist (1 file): put the corpus under downloads/") == [
        f"downloads/emodb/wav/{A[1]}.wav"
    ]
    assert problems(manifest, "does not name, skipped") == ["downloads/emodb/wav/03a09Ta.wav"]
    assert problems(manifest, "file manager") == ["downloads/emodb/wav/._03a01Wa.wav"]
    assert problems(manifest, "a repeated line (1 line)") == ["emodb.jsonl:3"]
    assert problems(manifest, "not the name of an EmoBox manifest, skipped") == [
        "fold_1/emodb_test_fold1.jsonl"
    ]


def test_segments_of_a_long_recording(box: Box) -> None:
    box.whole(
        [
            record("wav/03a01Wa.wav", key="one", start_time=0.5, end_time=1.25),
            record("wav/03a01Wa.wav", key="two", start_time=2, end_time=3.5),
        ]
    )
    manifest = box.read()
    assert column(manifest, "start") == [0.5, 2.0]
    assert column(manifest, "end") == [1.25, 3.5]


@pytest.mark.parametrize("name", PATHS)
def test_speakers_from_names(name: str, tmp_path: Path) -> None:
    path, speaker = PATHS[name]
    box = Box(tmp_path, name)
    box.whole([record(path, name=name)])
    assert column(box.read(), "speaker") == [speaker]


def test_every_pattern_has_a_path() -> None:
    assert PATHS.keys() == SPEAKERS.keys()
    assert all(re.compile(pattern).groups >= 1 for pattern in SPEAKERS.values())


def test_unknown_speakers_are_refused(tmp_path: Path) -> None:
    box = Box(tmp_path, "meld")
    line = record("output_repeated_splits_test/dia279_utt14.mp4", name="meld")
    box.whole([line])
    with pytest.raises(ManifestError) as caught:
        box.read()
    assert "the speaker of 1 of 1 utterances is unknown (meld-dia279_utt14)" in str(caught.value)
    assert "speakers.csv" in str(caught.value)
    (box.data / "speakers.csv").write_bytes(b"key,speaker\r\nmeld-dia279_utt14,Monica\r\n")
    assert column(box.read(), "speaker") == ["Monica"]
    box.whole([line[:-1] + ', "speaker": "Ross"}'])
    assert column(box.read(), "speaker") == ["Ross"]


def test_other_manifests_are_refused(box: Box, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not EmoBox's" in refused("emobox", tmp_path / "empty")
    box.whole([*wavs(*A), record("other/03a01Wa.wav")])
    assert (
        "emodb.jsonl:1 and emodb.jsonl:3 are different utterances with the key emodb-03a01Wa"
        in refused("emobox", box.data)
    )
    box.whole(["{}"])
    assert "emodb.jsonl:1: the line must be an object with key, wav and emo" in refused(
        "emobox", box.data
    )
    box.whole(["[1, 2"])
    assert "emodb.jsonl:1" in refused("emobox", box.data)
    box.whole([""])
    assert "its manifests are empty" in refused("emobox", box.data)
    box.fold(1, train=wavs(*A), test=wavs(*B))
    other = Box(box.root, "savee")
    other.fold(1, train=[record("KL_n23.wav", name="savee")])
    assert "holds 2 corpora (emodb, savee)" in refused("emobox", box.root / "data")


@pytest.mark.parametrize(
    "wav",
    ["/home/someone/EmoBox/downloads/a/03a01Wa.wav", "../a/03a01Wa.wav", "s3://b/03a01Wa.wav"],
)
def test_recordings_elsewhere_are_refused(box: Box, wav: str) -> None:
    box.whole([*wavs(*A), record("03a04Ta.wav", wav=wav)])
    text = refused("emobox", box.data)
    assert "wav must be relative to EmoBox's folder, such as downloads/emodb/wav/" in text
    assert f"1 lines name another place, the first is emodb.jsonl:3: {wav!r}" in text


@pytest.mark.parametrize("stem", ["03a01Wa", "08b02Tc", "13a05Nb"])
def test_backslashes_are_read_as_slashes(box: Box, stem: str) -> None:
    box.whole([record("", wav=f"downloads\\emodb\\wav\\{stem}.wav")])
    box.audio(stem)
    manifest = box.read()
    assert column(manifest, "file") == [f"downloads/emodb/wav/{stem}.wav"]
    assert column(manifest, "speaker") == [stem[:2]]
    assert manifest.root == str(box.root)
    (problem,) = manifest.problems
    assert "backslashes in place of /, read as on the disk" in problem.reason


def test_folders_with_another_unicode_form_are_found(tmp_path: Path) -> None:
    box = Box(tmp_path, "oreau")
    box.whole([record("Ore\u0301auFR_02/f/sessc/42a03Ca.wav", name="oreau")])
    folder = tmp_path / "downloads/oreau/Or\xe9auFR_02/f/sessc"
    folder.mkdir(parents=True)
    (folder / "42a03Ca.wav").touch()
    assert column(box.read(), "file") == ["downloads/oreau/Or\xe9auFR_02/f/sessc/42a03Ca.wav"]


@pytest.mark.parametrize(
    "table",
    [
        "key;speaker\nmeld-a;Ross\n",
        "sep=,\nkey,speaker\nmeld-a,Ross,\n",
        "speaker\tkey\nRoss\tmeld-a",
    ],
)
def test_the_table_of_speakers_may_have_any_separator(tmp_path: Path, table: str) -> None:
    box = Box(tmp_path, "meld")
    box.whole([record("a.mp4", name="meld")])
    for data in (table.encode(), table.encode("utf-16")):
        (box.data / "speakers.csv").write_bytes(data)
        assert column(box.read(), "speaker") == ["Ross"]
    (box.data / "speakers.csv").write_text(table + "\nmore;and;more\tand\tmore,and,more")
    assert "speakers.csv: each row must have" in refused("emobox", box.data)


def test_a_manifest_that_is_a_pointer_is_named(box: Box) -> None:
    box.whole(["version https://git-lfs.github.com/spec/v1", "oid sha256:0", "size 9"])
    assert "emodb.jsonl: a pointer of Git LFS in place of the file" in refused("emobox", box.data)
