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

from features.columns import arrow_table
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


def write_shard(storage: Storage, rows: list[Row]) -> list[Entry]:
    """Write rows of `SHARD_SCHEMA`, all of one speaker, as one shard. Returns their entries."""
    keys = "\n".join(repr(tuple(row[name] for name in TASK_SCHEMA.names)) for row in rows)
    digest = hashlib.sha1(keys.encode()).hexdigest()[:16]
    sink = pa.BufferOutputStream()
    cells = {name: [row[name] for row in rows] for name in SHARD_SCHEMA.names}
    pq.write_table(
        arrow_table(cells, SHARD_SCHEMA),
        sink,
        compression="zstd",
        use_dictionary=False,  # almost no two float values are equal
        # One stream for each of a float's four bytes: those of the exponents compress well.
        column_encoding={"values.list.element": "BYTE_STREAM_SPLIT"},
        write_page_checksum=True,
    )
    data = sink.getvalue()
    name = sealed_name(f"speaker={safe_name(rows[0]['speaker'])}/{digest}", data)
    storage.write(name, data)
    return [
        _entry(name, number, row, row["mean"], row["squares"], row["values"])
        for number, row in enumerate(rows)
    ]


def _entry(name: str, number: int, row: Row, mean: Any, squares: Any, values: Any) -> Entry:
    """The entry of a row. `values` are read only if the row is stored without a mean."""
    if mean is None and values is not None:  # of a single frame
        mean, squares = values, np.broadcast_to(0.0, len(values))
    return Entry(name, number, row["audio"], row["frames"], mean, squares, row["error"])


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
        values = read_values(storage, name) if single else pa.nulls(len(table))
    except FeatureError:
        return {}
    rows = table.drop_columns(["mean", "squares"]).to_pylist()
    vectors = (map(_vector, cells) for cells in (table["mean"], table["squares"], values))
    return {
        Key.of(row): _entry(name, number, row, *each)
        for number, (row, *each) in enumerate(zip(rows, *vectors, strict=True))
    }


def _vector(cell: pa.Scalar) -> Any:
    return cell.values.to_numpy() if cell.is_valid else None


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
