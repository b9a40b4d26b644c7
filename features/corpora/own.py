"""A manifest of one's own: CSV or Parquet in the columns of `features.manifest`."""

from dataclasses import replace
from pathlib import PurePosixPath

from features.corpora.tree import Tree, is_audio
from features.manifest import Manifest, read_manifest


def read_own(path: str) -> Manifest:
    """The manifest at `path`, compared with the folders that its files lie in."""
    manifest = read_manifest(path)
    tree = Tree(manifest.root)
    files = [str(PurePosixPath(file)) for file in manifest.table["file"].to_pylist()]
    absent = tree.missing(files)
    tree.problems.add(
        absent,
        "named by the manifest, and not on the disk",
        "`file` is relative to the manifest's folder; put it there, or it fails at extraction",
    )
    named = set(files)
    for folder in dict.fromkeys(file.rpartition("/")[0] for file in files):
        tree.problems.add(
            (n for n in tree.entries(folder)[0] if is_audio(n) and n not in named),
            "a recording that the manifest does not name, left out",
            "add its row, or leave it",
        )
    return replace(manifest, problems=tree.problems.as_tuple())
