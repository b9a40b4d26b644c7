"""Extract the features of a corpus once: Ray Data over an actor pool, into Parquet shards.

A run computes only features that the store does not hold. The values of an utterance depend on
its audio alone, so they are the same bits for any division of the work.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from features import audio
from features.absences import explain
from features.errors import DecoderError, FeatureError, StorageError
from features.manifest import Manifest
from features.recordings import Recordings
from features.sets import FEATURES, FeatureConfig
from features.shards import TASK_SCHEMA, Key, Row, read_index, write_shard
from features.signal import SAMPLE_RATE
from features.storage import Storage
from features.store import FeatureStore

EXTRACTION_VERSION = 2
"""Raise it if a change of this package's code changes extracted values or stored errors."""
_BATCH = 16
"""Utterances in a shard: each worker of a killed run loses at most this number."""

Progress = Callable[[int, int, str | None], None]


def extraction_hash(config: FeatureConfig) -> str:
    """Hex digest of everything that decides extracted values: feature set, libraries, our code."""
    parts = [config.name, *FEATURES[config.name].identity(), str(EXTRACTION_VERSION)]
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
) -> FeatureStore:
    """Extract the features of a manifest that `storage` lacks; return the store with all of them.

    progress : called as `progress(done, total, error)` after each utterance of this run; `error`
        names a failed utterance and the reason
    workers : actors of one CPU; by default as many as the cluster has CPUs

    A failed utterance stays failed until its file changes. Every run tries again the files that
    were missing, that the storage could not read, or whose decoder was not installed.

    Raises FeatureError if features are missing and Ray is not initialised (otherwise Ray is not
    used), or if Ray's workers keep crashing; StorageError if the storage fails.
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
        failed: dict[str, str] = {}
        status = _compute(config.name, _batches(todo), recordings, shards, workers)
        for done, (utterance, error, stored) in enumerate(status, start=len(unread) + 1):
            if error and not stored:
                failed[utterance] = error
            progress(done, total, f"{utterance}: {error}" if error else None)
        unread |= failed
        index = read_index(shards)
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


def _compute(
    name: str,
    batches: list[list[Row]],
    recordings: Recordings,
    shards: Storage,
    workers: int | None,
) -> Iterator[tuple[str, str | None, bool]]:
    """Extract the batches on Ray; yield (id, error, whether a shard holds the row)."""
    import ray
    import ray.data

    if not ray.is_initialized():
        raise FeatureError("features are missing and Ray is not running: call ray.init() first")
    cpus = int(ray.cluster_resources().get("CPU", 1))
    size = max(1, min(workers or cpus, len(batches)))
    tables = [pa.Table.from_pylist(batch, schema=TASK_SCHEMA) for batch in batches]
    with _quiet_ray_data():
        with warnings.catch_warnings():
            # Ray 2.60 deprecates max_task_retries without a replacement.
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = ray.data.from_arrow(tables).map_batches(
                _Extractor,
                fn_constructor_args=(name, recordings, shards),
                batch_size=None,  # one block is one batch is one shard
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=size),
                num_cpus=1,
                # Without a limit, a batch that always crashes its worker is retried forever.
                max_task_retries=3,
            )
        try:
            for row in dataset.iter_rows():
                if row["failure"]:
                    raise StorageError(row["failure"])
                yield row["id"], row["error"], row["stored"]
        except ray.exceptions.RayTaskError:
            raise  # an error in our code
        except ray.exceptions.RayError as error:
            if cause := re.search(r"^\s*(ModuleNotFoundError|ImportError): (.+)", str(error), re.M):
                raise FeatureError(
                    f"a worker of the extraction cannot import this program ({cause[2]}). Install "
                    f"the same version of it on every node, then run the same command"
                ) from error
            raise FeatureError(
                f"a worker of the extraction crashed: {str(error).strip().splitlines()[0]} "
                "Finished utterances are kept: give each worker more memory, or start Ray with "
                "fewer CPUs, then run the same command"
            ) from error


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Hide Ray Data's progress bars and its log on the console: `progress` replaces them."""
    import ray.data

    context = ray.data.DataContext.get_current()
    # Ray Data 2.60 warns in the second logger that its progress bars are off. In the third, it
    # prints the trace of every error that it raises.
    levels = {
        "ray.data": logging.WARNING,
        "ray.data._internal.progress": logging.ERROR,
        "ray.data.exceptions": logging.CRITICAL,
    }
    bars, before = context.enable_progress_bars, {n: logging.getLogger(n).level for n in levels}
    context.enable_progress_bars = False
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


_STATUS_SCHEMA = pa.schema(
    [("id", pa.string()), ("error", pa.string()), ("stored", pa.bool_()), ("failure", pa.string())]
)


class _Extractor:
    """The actor: extracts a batch and writes its shard. It keeps the newest audio file."""

    def __init__(self, name: str, recordings: Recordings, shards: Storage) -> None:
        self.extract = FEATURES[name].extract
        self.recordings = recordings
        self.shards = shards
        self.file: audio.AudioFile | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows, status = [], []
        for task in batch.to_pylist():
            try:
                rows.append(self._row(task))
                status.append((task["id"], rows[-1]["error"], True))
            except (OSError, DecoderError) as error:  # no fault of the audio: the next run retries
                status.append((task["id"], str(error), False))
        failure = None  # returned, because Ray Data drops the cause of an exception
        try:
            if rows:
                write_shard(self.shards, rows)
        except StorageError as error:
            failure = str(error)
        columns = zip(*((*row, failure) for row in status), strict=True)
        return pa.Table.from_arrays(list(map(list, columns)), schema=_STATUS_SCHEMA)

    def _row(self, task: Row) -> Row:
        row = {**task, "audio": None, "frames": 0, "values": None, "error": None}
        try:
            if self.file is None or self.file.name != task["file"]:
                self.file = audio.fetch(self.recordings, task["file"])
            row["audio"] = self.file.sha1
            samples = audio.decode(self.file, task["start"], task["end"])
            values = self.extract(samples, SAMPLE_RATE)
        except DecoderError:
            raise
        except ValueError as error:
            return {**row, "error": str(error)}
        exact = values.astype(np.float64)
        row |= {"frames": len(values), "values": values.ravel(), "mean": exact.mean(axis=0)}
        row["squares"] = ((exact - row["mean"]) ** 2).sum(axis=0)
        return row
