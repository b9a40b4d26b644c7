"""Features of a corpus, computed once: Ray Data over an actor pool, into Parquet shards.

A run computes only what the store does not hold. An utterance's values depend on its audio
alone, so they are the same bits however the work was divided.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from features import audio
from features.config import FeatureConfig
from features.manifest import Manifest
from features.parquet import sealed_name
from features.samples import SAMPLE_RATE
from features.sets import FEATURES
from features.storage import Storage, safe_name
from features.store import SHARD_SCHEMA, FeatureStore, Key, read_index, write_speakers

EXTRACTION_VERSION = 1
"""Raised when a change of this package's code changes extracted values."""
_BATCH = 16
"""Utterances a shard: what a killed run can lose, for each worker."""

Progress = Callable[[int, int, str | None], None]


def extraction_hash(config: FeatureConfig) -> str:
    """Hex name of what decides extracted values: feature set, library versions, our code."""
    parts = [config.name, *FEATURES[config.name].identity(), str(EXTRACTION_VERSION)]
    return hashlib.sha1("\0".join(parts).encode()).hexdigest()[:16]


def shards_folder(config: FeatureConfig, root: str) -> str:
    """Where a corpus's shards lie. Two may agree in names, sizes and times: each has its own."""
    return f"{config.name}-{extraction_hash(config)}/{hashlib.sha1(root.encode()).hexdigest()[:8]}"


def extract(
    manifest: Manifest,
    config: FeatureConfig,
    storage: Storage,
    progress: Progress = lambda done, total, error: None,
    workers: int | None = None,
) -> FeatureStore:
    """Extract what `storage` lacks of a manifest's features; return the store with all of them.

    `progress(done, total, error)` is called after each utterance that this run works on, with
    its id and reason where it failed. `workers`: actors of one CPU, by default as many as the
    cluster has. An utterance that failed is kept as failed until its file changes; only missing
    files are looked for again. Raises RuntimeError where there is work and Ray is not
    initialised (with nothing to do, Ray is not touched), or where Ray's workers keep dying.
    """
    name, dims = extraction_hash(config), FEATURES[config.name].dims
    shards = storage.child(shards_folder(config, manifest.root))
    rows = manifest.table.select(["id", "file", "start", "end", "speaker"]).to_pylist()
    root = Storage.open(manifest.root)
    sources = _sources(root, [row["file"] for row in rows])
    for row in rows:
        row["source"] = sources.get(row["file"])
    absent = {row["id"]: "missing" for row in rows if row["source"] is None}
    index = read_index(shards, dims)
    todo = [r for r in rows if r["source"] is not None and Key.of(r) not in index]
    total = len(absent) + len(todo)
    for done, utterance in enumerate(absent, start=1):
        progress(done, total, f"{utterance}: missing")
    if todo:
        failed: dict[str, str] = {}
        results = _compute(config.name, _batches(todo), root, shards, workers)
        for done, (utterance, error, stored) in enumerate(results, start=len(absent) + 1):
            if error and not stored:
                failed[utterance] = error
            progress(done, total, f"{utterance}: {error}" if error else None)
        absent |= failed
        index = read_index(shards, dims)
    store = FeatureStore(shards, config.name, name, rows, index, absent)
    write_speakers(shards, store.statistics(manifest))
    return store


def _sources(root: Storage, files: list[str]) -> dict[str, str]:
    """What tells one state of each file from another: size and time. Missing files have none."""
    names = sorted(set(files))
    infos = root.filesystem.get_file_info([root.path(name) for name in names])
    return {
        name: f"{info.size}:{info.mtime_ns}"
        for name, info in zip(names, infos, strict=True)
        if info.type == pafs.FileType.File
    }


def _batches(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows by speaker, neighbours in a file together, in batches that become one shard each."""
    rows = sorted(rows, key=lambda r: (r["speaker"], r["file"], r["start"] or 0.0, r["id"]))
    batches: list[list[dict[str, Any]]] = []
    for row in rows:
        if not batches or len(batches[-1]) == _BATCH or batches[-1][0]["speaker"] != row["speaker"]:
            batches.append([])
        batches[-1].append(row)
    return batches


def _compute(
    name: str,
    batches: list[list[dict[str, Any]]],
    root: Storage,
    shards: Storage,
    workers: int | None,
) -> Iterator[tuple[str, str | None, bool]]:
    """Run the batches on Ray, each of feature set `name`.

    Yields (id, error, whether it was stored) as they are done.
    """
    import ray
    import ray.data

    if not ray.is_initialized():
        raise RuntimeError("features are missing and Ray is not running: call ray.init first")
    cpus = int(ray.cluster_resources().get("CPU", 1))
    size = max(1, min(workers or cpus, len(batches)))
    tables = [pa.Table.from_pylist(batch, schema=_TASK_SCHEMA) for batch in batches]
    with _quiet_ray_data():
        with warnings.catch_warnings():
            # Ray has no other name yet for max_task_retries.
            warnings.simplefilter("ignore", DeprecationWarning)
            done = ray.data.from_arrow(tables).map_batches(
                _Extractor,
                fn_constructor_args=(name, root, shards),
                batch_size=None,  # a block is a batch is a shard
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=size),
                num_cpus=1,
                # A batch that kills its process each time fails the run instead of hanging it.
                max_task_retries=3,
            )
        try:
            for row in done.iter_rows():
                yield row["id"], row["error"], row["stored"]
        except ray.exceptions.RayActorError as error:
            raise RuntimeError(
                "extraction stopped: a worker process died, four times over, most likely of "
                "too little memory. What was done is kept: run it again to go on"
            ) from error


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Ray Data without its progress bars and its log on the console: ours is shown instead."""
    import ray.data

    context = ray.data.DataContext.get_current()
    # The second one tells, as a warning, that the progress bars are off.
    levels = {"ray.data": logging.WARNING, "ray.data._internal.progress": logging.ERROR}
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


_TASK_SCHEMA = pa.schema(
    [SHARD_SCHEMA.field(name) for name in ("id", "file", "start", "end", "speaker", "source")]
)


class _Extractor:
    """The actor: one feature set, one open file. Takes a batch, writes its shard."""

    def __init__(self, name: str, root: Storage, shards: Storage) -> None:
        self.extract = FEATURES[name].extract
        self.root = root
        self.shards = shards
        self.file: audio.AudioFile | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows, status = [], []
        for task in batch.to_pylist():
            try:
                rows.append(self._row(task))
                status.append((task["id"], rows[-1]["error"], True))
            except OSError as error:  # storage's fault, not the audio's: try again next time
                status.append((task["id"], f"cannot be read: {error}", False))
        if rows:
            data = _parquet(rows)
            self.shards.write(sealed_name(_shard_stem(rows), data), data)
        ids, errors, stored = zip(*status, strict=True)
        return pa.table(
            {"id": pa.array(ids), "error": pa.array(errors, pa.string()), "stored": stored}
        )

    def _row(self, task: dict[str, Any]) -> dict[str, Any]:
        row = {**task, "audio": None, "frames": 0, "values": None, "error": None}
        try:
            if self.file is None or self.file.name != task["file"]:
                self.file = audio.fetch(self.root, task["file"])
            row["audio"] = self.file.sha1
            samples = audio.decode(self.file, task["start"], task["end"])
            values = self.extract(samples, SAMPLE_RATE)
        except ValueError as error:
            return {**row, "error": str(error)}
        exact = values.astype(np.float64)
        mean = exact.mean(axis=0)
        return {
            **row,
            "frames": len(values),
            "values": values.ravel(),
            "mean": mean,
            "squares": ((exact - mean) ** 2).sum(axis=0),
        }


def _shard_stem(rows: list[dict[str, Any]]) -> str:
    keys = "\n".join(repr(tuple(row[name] for name in _TASK_SCHEMA.names)) for row in rows)
    digest = hashlib.sha1(keys.encode()).hexdigest()[:16]
    return f"speaker={safe_name(rows[0]['speaker'])}/{digest}"


def _parquet(rows: list[dict[str, Any]]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema=SHARD_SCHEMA)
    # Dictionaries only cost here: almost no two float values are the same.
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
    return sink.getvalue()
