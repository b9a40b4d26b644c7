"""Your own manifest: a table with the columns of `features.manifest`."""

from features.corpora.tree import Tree
from features.errors import ManifestError
from features.manifest import Manifest, normalise, read_rows, value_problems, with_files


def read_own(path: str) -> Manifest:
    """Read the manifest at `path`, and compare it with the folders of its files.

    A name that is surely that of a file, but written with backslashes or in another Unicode form,
    becomes the name on the storage. Raises ManifestError as `read_manifest` does.
    """
    rows, root, problems = read_rows(path)
    tree = Tree(root, own=True)
    try:
        table = normalise(rows, own=True)
        spelled = tree.spell(table["file"].to_pylist(), "the manifest")
        if spelled:
            files = [spelled.get(file, file) for file in table["file"].to_pylist()]
            table = normalise(with_files(rows, files), own=True)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error
    tree.compare(
        table["file"].to_pylist(),
        "the manifest",
        "put the file there, or its utterances fail at extraction; `file` is relative to the "
        "manifest's folder, or an absolute path, or a URI",
        "add a row for it, or ignore this",
    )
    return Manifest(table, root, problems + value_problems(rows) + tree.problems, own=True)
