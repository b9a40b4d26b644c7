"""Shards: Parquet files of extracted features, each with utterances of one speaker.

The name of a shard ends in the SHA-256 of its bytes, so damage is found before anything parses
them. A damaged shard is renamed, and its features are extracted again.
"""

import fnmatch
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import FeatureError
from features.parquet import ParquetError, check_seal, read_table, sealed_name
from features.storage import Storage, safe_name

Row = dict[str, Any]
"""An utterance, with the columns of `TASK_SCHEMA` and perhaps more."""
TASK_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("file", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("speaker", pa.string()),
        ("source", pa.string()),  # size:mtime of the audio file
    ]
)
"""An utterance before extraction."""
SHARD_SCHEMA = pa.schema(
    [
        *TASK_SCHEMA,
        ("audio", pa.string()),  # SHA-1 of the audio file
        ("frames", pa.int64()),
        ("values", pa.list_(pa.float32())),  # (frames, dims) row by row
        # Null for a set of one row an utterance, whose mean is the row itself.
        ("mean", pa.list_(pa.float64())),  # (dims,) over the frames
        ("squares", pa.list_(pa.float64())),  # (dims,) sum of squared deviations from `mean`
        ("error", pa.string()),
    ]
)
"""An utterance after extraction: with values, or with an error."""
_INDEX_COLUMNS = [name for name in SHARD_SCHEMA.names if name not in ("id", "speaker", "values")]


class Key(NamedTuple):
    """Everything that the values of an extracted row depend on: a segment of a file version."""

    file: str
    start: float | None
    end: float | None
    source: str

    @classmethod
    def of(cls, row: Row) -> "Key":
        return cls(row["file"], row["start"], row["end"], row["source"])


class Entry(NamedTuple):
    """The place of a row, and its columns without the values."""

    shard: str
    row: int
    audio: str | None
    frames: int
    mean: Any
    """(dims,) or None"""
    squares: Any
    """(dims,) or None"""
    error: str | None


def write_shard(storage: Storage, rows: list[Row]) -> None:
    """Write rows of `SHARD_SCHEMA`, all of one speaker, as one shard."""
    keys = "\n".join(repr(tuple(row[name] for name in TASK_SCHEMA.names)) for row in rows)
    digest = hashlib.sha1(keys.encode()).hexdigest()[:16]
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema=SHARD_SCHEMA)
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=False,  # almost no two float values are equal
        # One stream for each of a float's four bytes: those of the exponents compress well.
        column_encoding={"values.list.element": "BYTE_STREAM_SPLIT"},
        write_page_checksum=True,
    )
    data = sink.getvalue()
    stem = f"speaker={safe_name(rows[0]['speaker'])}/{digest}"
    storage.write(sealed_name(stem, data), data)


def read_index(storage: Storage) -> dict[Key, Entry]:
    """All rows of all undamaged shards."""
    names = fnmatch.filter(storage.list(recursive=True), "speaker=*.parquet")
    index: dict[Key, Entry] = {}
    with ThreadPoolExecutor(8) as threads:
        for part in threads.map(lambda name: _read_entries(storage, name), names):
            index.update(part)
    return index


def _read_entries(storage: Storage, name: str) -> dict[Key, Entry]:
    try:
        table = _read(storage, name, _INDEX_COLUMNS)
        errors = len(table) - table["error"].null_count
        single = table["mean"].null_count > errors  # rows of one frame are stored without a mean
        values = read_values(storage, name) if single else None
    except FeatureError:
        return {}
    if values is not None:
        vectors = [_of_one_row(cell) for cell in values]
    else:
        of_rows = zip(map(_vector, table["mean"]), map(_vector, table["squares"]), strict=True)
        vectors = list(of_rows)
    rows = zip(table.drop_columns(["mean", "squares"]).to_pylist(), vectors, strict=True)
    return {
        Key.of(row): Entry(name, number, row["audio"], row["frames"], mean, squares, row["error"])
        for number, (row, (mean, squares)) in enumerate(rows)
    }


def _of_one_row(cell: pa.ListScalar) -> tuple[Any, Any]:
    """The mean of a single row, which is the row, and its squared deviations, which are zeros."""
    mean = _vector(cell)
    return mean, None if mean is None else np.broadcast_to(0.0, mean.shape)


def _vector(cell: pa.ListScalar) -> Any:
    return None if cell.values is None else cell.values.to_numpy()


def read_values(storage: Storage, name: str) -> pa.ChunkedArray:
    """The values of all rows of a shard. Raises FeatureError if the shard is damaged."""
    return _read(storage, name, ["values"])["values"]


def _read(storage: Storage, name: str, columns: list[str]) -> pa.Table:
    data = storage.read_buffer(name)
    try:
        check_seal(name, data)
        return read_table(data, SHARD_SCHEMA, columns)
    except ParquetError as error:
        storage.rename_damaged(name, f"{error}; its features are extracted again")
        raise FeatureError(f"{name} is damaged: run the extraction again") from error
