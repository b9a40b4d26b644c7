"""Extract the features of a corpus once, into Parquet shards.

A run computes only features that the store does not hold. The values of an utterance depend on
its audio alone, so they are the same bits for any division of the work.
"""

import hashlib
import json
from collections.abc import Callable, Iterator

import pyarrow.fs as pafs

from features import pool
from features.absences import explain
from features.extractor import Extractor, Status
from features.manifest import Manifest
from features.sets import FeatureConfig
from features.shards import Entry, Key, Row, read_index
from features.storage import Storage
from features.store import FeatureStore

EXTRACTION_VERSION = 2
"""Raise it if a change of this package's code changes extracted values or stored errors."""
_BATCH = 16
"""Utterances in a shard: each worker of a killed run loses at most this number."""

Progress = Callable[[int, int, str | None], None]
Compute = Callable[[Extractor, list[list[Row]], int | None], Iterator[Status]]
"""Extracts batches with a number of workers (None: all CPUs); yields each utterance's status."""


def extraction_hash(config: FeatureConfig) -> str:
    """Hex digest of everything that decides extracted values: set, options, libraries, our code."""
    options = [json.dumps(option) for option in sorted(config.extracted().items())]
    parts = [config.name, *options, *config.load().identity(), str(EXTRACTION_VERSION)]
    return hashlib.sha1("\0".join(parts).encode()).hexdigest()[:16]


def shards_folder(config: FeatureConfig, root: str) -> str:
    """The folder of a corpus's shards. It depends on `root`: the files of two corpora may agree
    in name, size and time."""
    return f"{config.name}-{extraction_hash(config)}/{hashlib.sha1(root.encode()).hexdigest()[:8]}"


def extract(
    manifest: Manifest,
    config: FeatureConfig,
    storage: Storage,
    progress: Progress = lambda done, total, error: None,
    workers: int | None = None,
    compute: Compute = pool.compute,
) -> FeatureStore:
    """Extract the features of a manifest that `storage` lacks; return the store with all of them.

    progress : called as `progress(done, total, error)` after each utterance of this run; `error`
        names a failed utterance and the reason
    workers : processes of one CPU; by default as many as there are CPUs
    compute : who computes missing features: processes of this machine, or `ray_data.compute`, for
        recordings that only the nodes of a cluster can read. It is not called if none is missing

    A failed utterance stays failed until its file changes. Every run tries again the files that
    were missing, that the storage could not read, or whose decoder was not installed.

    Raises FeatureError if the workers keep crashing; StorageError if the storage fails.
    """
    shards = storage.child(shards_folder(config, manifest.root))
    rows = manifest.table.select(["id", "file", "start", "end", "speaker"]).to_pylist()
    recordings = manifest.recordings()
    files = sorted({row["file"] for row in rows})
    sources = {
        file: f"{info.size}:{info.mtime_ns}"
        for file, info in zip(files, recordings.inspect(files), strict=True)
        if info.type == pafs.FileType.File
    }
    for row in rows:
        row["source"] = sources.get(row["file"])
    missing = {row["id"]: row["file"] for row in rows if row["source"] is None}
    absences = explain(recordings, dict.fromkeys(missing.values()))
    unread = {name: str(absences.get(file, "missing")) for name, file in missing.items()}
    index = read_index(shards)
    todo = [r for r in rows if r["source"] is not None and Key.of(r) not in index]
    total = len(unread) + len(todo)
    for done, (utterance, reason) in enumerate(unread.items(), start=1):
        progress(done, total, f"{utterance}: {reason}")
    if todo:
        keys = {row["id"]: Key.of(row) for row in todo}
        failed: dict[str, str] = {}
        status = compute(Extractor(config, recordings, shards), _batches(todo), workers)
        made: dict[Key, Entry] = {}
        for done, (utterance, error, entry) in enumerate(status, start=len(unread) + 1):
            if entry:
                made[keys[utterance]] = entry
            elif error:
                failed[utterance] = error
            progress(done, total, f"{utterance}: {error}" if error else None)
        unread |= failed
        # A worker of another node may have written to a disk that this process does not see.
        seen = set(shards.list(recursive=True))
        index |= {key: entry for key, entry in made.items() if entry.shard in seen}
    return FeatureStore(shards, config.name, extraction_hash(config), rows, index, unread)


def _batches(rows: list[Row]) -> list[list[Row]]:
    """Divide rows into batches of one speaker, sorted by file; each batch becomes a shard."""
    rows = sorted(rows, key=lambda r: (r["speaker"], r["file"], r["start"] or 0.0, r["id"]))
    batches: list[list[Row]] = []
    for row in rows:
        if not batches or len(batches[-1]) == _BATCH or batches[-1][0]["speaker"] != row["speaker"]:
            batches.append([])
        batches[-1].append(row)
    return batches
