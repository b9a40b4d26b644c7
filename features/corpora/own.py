"""Your own manifest: CSV or Parquet with the columns of `features.manifest`."""

from dataclasses import replace
from pathlib import PurePosixPath

from features.corpora.tree import Tree
from features.manifest import Manifest, read_manifest


def read_own(path: str) -> Manifest:
    """Read the manifest at `path`, and compare it with the folders of its files."""
    manifest = read_manifest(path)
    tree = Tree(manifest.root)
    tree.compare(
        [str(PurePosixPath(file)) for file in manifest.table["file"].to_pylist()],
        "the manifest",
        "put the file there, or its utterances fail at extraction; `file` is relative to the "
        "manifest's folder",
        "add a row for it, or ignore this",
    )
    return replace(manifest, problems=manifest.problems + tree.problems)
