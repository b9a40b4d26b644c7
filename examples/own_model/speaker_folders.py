"""A corpus of your own: `SPEAKER/EMOTION/*.wav`. See docs/extending.md."""

from pathlib import Path

import pyarrow as pa

from features.manifest import Manifest
from features.manifest_rows import normalise


def read_speaker_folders(root: str) -> Manifest:
    """One row for each recording. `file` is relative to `root`."""
    rows = [
        {
            "file": path.relative_to(root).as_posix(),
            "speaker": path.parts[-3],
            "emotion": path.parts[-2],
        }
        for path in sorted(Path(root).glob("*/*/*.wav"))
    ]
    return Manifest(normalise(pa.Table.from_pylist(rows)), root)
