"""The reader of your own manifest."""

from pathlib import Path

import pyarrow.parquet as pq

from features.corpora import CORPORA
from tests.support.corpora import make_tree, problems


def test_a_manifest_is_compared_with_its_folders(tmp_path: Path) -> None:
    root = make_tree(tmp_path, "wav/a.wav", "wav/b.wav", "wav/._a.wav", "notes.txt")
    text = "file,speaker,emotion\nwav/a.wav,s,ang\n./wav/c.wav,s,neu\n"
    (tmp_path / "m.csv").write_text(text)
    manifest = CORPORA["manifest"](f"{root}/m.csv")
    assert problems(manifest, "does not exist (1 file)") == ["wav/c.wav"]
    assert problems(manifest, "does not name, skipped (1 file)") == ["wav/b.wav"]
    assert problems(manifest, "file manager") == ["wav/._a.wav"]
    pq.write_table(manifest.table, f"{root}/m.parquet")
    assert CORPORA["manifest"](f"{root}/m.parquet") == manifest
