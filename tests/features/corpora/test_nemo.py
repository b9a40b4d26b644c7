"""nEMO's reader, on the real corpus and on a small tree with errors."""

import shutil
from collections import Counter
from pathlib import Path

from features.corpora import CORPORA
from tests.support.corpora import make_tree, problems, refused, rows


def test_the_real_corpus(nemo: Path) -> None:
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


def test_the_table_is_compared_with_the_recordings(tmp_path: Path) -> None:
    root = make_tree(
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
    assert problems(manifest, "does not exist (1 file)") == ["nEMO/Samples/A0_fear_2.wav"]
    assert problems(manifest, "does not name, skipped (1 file)") == ["nEMO/Samples/C.wav"]
    assert problems(manifest, "incomplete row, skipped (1 row)") == ["nEMO/data.tsv:5"]
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


def test_a_table_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    root = make_tree(tmp_path, "samples/A0_anger_1.wav")
    (tmp_path / "data.tsv").symlink_to(".git/annex/objects/x/data.tsv")
    assert "1 files, such as data.tsv: not a file: git-annex has not" in refused("nemo", root)
    (tmp_path / "data.tsv").unlink()
    (tmp_path / "data.tsv").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "data.tsv: a pointer of Git LFS" in refused("nemo", root)
    (tmp_path / "data.tsv").write_text("/annex/objects/MD5E-s9--0.tsv\n")
    assert "data.tsv: a pointer of git-annex" in refused("nemo", root)
    (tmp_path / "data.tsv").write_text(TABLE)
    (tmp_path / "samples/A0_fear_2.wav").symlink_to("../.git/annex/objects/x/x")
    manifest = CORPORA["nemo"](root)
    assert problems(manifest, "does not exist") == ["samples/B0_anger_1.wav"]
    assert problems(manifest, "git-annex has not fetched") == ["samples/A0_fear_2.wav"]
