"""The feature store: Parquet shards by speaker, loaded as one array with offsets.

A shard's name ends in the SHA-256 of its bytes, so damage is found before anything parses them;
those of earlier versions have none, and their pages have checksums.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.config import FeatureConfig
from features.manifest import Manifest
from features.parquet import ParquetError, check_seal, read_table
from features.sets import FEATURES
from features.storage import Storage

SHARD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("file", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("speaker", pa.string()),
        ("source", pa.string()),  # size:mtime of the file that was read
        ("audio", pa.string()),  # SHA-1 of its bytes
        ("frames", pa.int64()),
        ("values", pa.list_(pa.float32())),  # (frames, dims) row by row
        ("mean", pa.list_(pa.float64())),  # (dims,) over the frames
        ("squares", pa.list_(pa.float64())),  # (dims,) sum of squared deviations from `mean`
        ("error", pa.string()),
    ]
)
MOST_FRAMES = 24 * 3600 * 100
"""Of one utterance: a day of frames of 10 ms. Arrays are made as large as shards say."""
_INDEX_COLUMNS = [name for name in SHARD_SCHEMA.names if name not in ("id", "speaker", "values")]


class FeatureError(ValueError):
    """Features that cannot be used."""


class Key(NamedTuple):
    """What an extracted row's values depend on: a segment of one state of a file."""

    file: str
    start: float | None
    end: float | None
    source: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Key":
        return cls(row["file"], row["start"], row["end"], row["source"])


class Entry(NamedTuple):
    """Where a row lies, and all of it but its values; `mean` and `squares` are (dims,) or None."""

    shard: str
    row: int
    audio: str | None
    frames: int
    mean: Any
    squares: Any
    error: str | None


class Statistics(NamedTuple):
    """A speaker's columns over all frames of all good utterances."""

    frames: int
    mean: npt.NDArray[np.float64]
    """(dims,)"""
    deviation: npt.NDArray[np.float64]
    """(dims,) population standard deviation; exactly 0 for a column that never changes."""


@dataclass(frozen=True)
class Features:
    """Features of a manifest's good utterances, in its order.

    Utterance i is `frames[offsets[i]:offsets[i + 1]]`, at least one row.
    """

    ids: list[str]
    frames: npt.NDArray[np.float32]
    """(sum of frames, dims), contiguous."""
    offsets: npt.NDArray[np.int64]
    """(utterances + 1,)"""
    fingerprint: str
    """SHA-1 of ids, speakers, audio contents, segments and extraction: the same on any machine."""
    errors: list[tuple[str, str, str]] = field(default_factory=list)
    """(id, file, reason) of the utterances that were dropped."""


@dataclass(frozen=True)
class FeatureStore:
    """Extracted features of one manifest. Made by `features.extract.extract`."""

    storage: Storage
    name: str
    """The feature set."""
    extraction: str
    """Its `features.extract.extraction_hash`."""
    rows: list[dict[str, Any]]
    index: dict[Key, Entry]
    unread: dict[str, str]
    """Reasons, by id, of utterances whose files could not be read; they have no row."""

    def errors(self) -> list[tuple[str, str, str]]:
        """(id, file, reason) of each utterance without features, in the manifest's order."""
        return self._errors(self.rows)

    def _errors(self, rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
        return [(row["id"], row["file"], error) for row in rows if (error := self._error(row))]

    def _error(self, row: dict[str, Any]) -> str | None:
        if row["id"] in self.unread:
            return self.unread[row["id"]]
        entry = self.index.get(Key.of(row))
        return "its features are not in the store" if entry is None else entry.error

    def _good(self, rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], Entry]]:
        return [(row, self.index[Key.of(row)]) for row in rows if not self._error(row)]

    def statistics(self, manifest: Manifest) -> dict[str, Statistics]:
        """Each speaker's statistics over all good utterances of `manifest`."""
        return statistics_of(self._good(self._rows_of(manifest)))

    def _rows_of(self, manifest: Manifest) -> list[dict[str, Any]]:
        known = {row["id"]: row for row in self.rows}
        names = manifest.table["id"].to_pylist()
        strange = [name for name in names if name not in known]
        if strange:
            raise FeatureError(f"{len(strange)} utterances were not extracted: {strange[:5]}")
        return [known[name] for name in names]

    def load(self, manifest: Manifest, config: FeatureConfig) -> Features:
        """Features of `manifest`: normalised per speaker, cut, pooled. Errored ones are dropped.

        Statistics are over the good utterances of `manifest`, which may be a part of what was
        extracted. Raises FeatureError for an utterance that was not, for the configuration of
        another feature set, and for a shard damaged since (it is put aside; extraction makes it
        again).
        """
        if config.name != self.name:
            raise FeatureError(f"the store holds {self.name}, and not {config.name}")
        rows = self._rows_of(manifest)
        good = self._good(rows)
        entries = [entry for _, entry in good]
        dims, group, cap = FEATURES[self.name].dims, config.group, config.cap
        speakers = {}
        if group is not None:
            speakers = {who: share(found, group) for who, found in statistics_of(good).items()}
        kept = [entry.frames if cap is None else min(entry.frames, cap) for entry in entries]
        lengths = [-(-frames // config.pooling) for frames in kept]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        frames = _room(int(offsets[-1]), dims)
        by_shard: dict[str, list[int]] = defaultdict(list)
        for i, entry in enumerate(entries):
            by_shard[entry.shard].append(i)
        for shard, wanted in by_shard.items():
            values = _read_values(self.storage, shard, [entries[i] for i in wanted], dims)
            for i in wanted:
                x = values[entries[i].row].values.to_numpy().reshape(-1, dims)[:cap]
                if group is not None:
                    speaker = speakers[good[i][0]["speaker"]]
                    x = normalise(x, speaker.mean, speaker.deviation)
                frames[offsets[i] : offsets[i + 1]] = pool(x, config.pooling)
        return Features(
            [row["id"] for row, _ in good],
            frames,
            offsets,
            _fingerprint(self.extraction, good),
            self._errors(rows),
        )


def _room(frames: int, dims: int) -> npt.NDArray[np.float32]:
    """Memory for `frames` (frames, dims). Raises FeatureError where there is too little."""
    try:
        return np.empty((frames, dims), np.float32)
    except MemoryError:
        raise FeatureError(
            f"{frames} frames of {dims} values do not fit into memory: take a larger machine, or "
            "leave a part of the corpus out (corpus.only)"
        ) from None


def normalise(
    frames: npt.NDArray[np.floating],
    mean: npt.NDArray[np.float64],
    deviation: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """z-scores of `frames` (n, dims); 0 where a column never changes (deviation 0)."""
    scores = frames.astype(np.float64)
    scores -= mean
    scores /= np.where(deviation > 0, deviation, 1.0)
    scores[:, deviation == 0] = 0.0
    return scores


def pool(frames: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.floating]:
    """Means of each `size` frames: (n, dims) to (ceil(n / size), dims); of 1, `frames` itself.

    A last partial group is averaged over what it has.
    """
    if size == 1:
        return frames
    starts = np.arange(0, len(frames), size)
    counts = np.minimum(size, len(frames) - starts)
    return np.add.reduceat(frames, starts, axis=0, dtype=np.float64) / counts[:, None]


def check_errors(store: FeatureStore, config: FeatureConfig) -> None:
    """Raise FeatureError, with one line an utterance, where more failed than `max_errors`."""
    errors = store.errors()
    if len(errors) > config.max_errors:
        lines = "\n".join(f"  {name} ({file}): {reason}" for name, file, reason in errors)
        raise FeatureError(
            f"{len(errors)} of {len(store.rows)} utterances have no features "
            f"(features.max_errors is {config.max_errors}):\n{lines}"
        )


def read_index(storage: Storage, dims: int) -> dict[Key, Entry]:
    """All rows of all shards, of features of `dims` columns.

    A shard that is damaged, or whose content is not a shard's, is put aside and counts as absent.
    """
    names = [
        name
        for name in storage.list(recursive=True)
        if name.startswith("speaker=") and name.endswith(".parquet")
    ]
    index: dict[Key, Entry] = {}
    with ThreadPoolExecutor(8) as threads:
        for part in threads.map(lambda name: _read_shard(storage, name, dims), names):
            index.update(part)
    return index


def write_speakers(storage: Storage, speakers: dict[str, Statistics]) -> None:
    """Write each speaker's statistics to `speakers.parquet`, for people and other programs."""
    rows = [{"speaker": name, **values._asdict()} for name, values in speakers.items()]
    vector = pa.list_(pa.float64())
    schema = pa.schema(
        [("speaker", pa.string()), ("frames", pa.int64()), ("mean", vector), ("deviation", vector)]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    data = sink.getvalue()
    if not storage.exists("speakers.parquet") or storage.read_buffer("speakers.parquet") != data:
        storage.write("speakers.parquet", data)


def _read_shard(storage: Storage, name: str, dims: int) -> dict[Key, Entry]:
    data = storage.read_buffer(name)
    try:
        check_seal(name, data)
        table = read_table(data, SHARD_SCHEMA, _INDEX_COLUMNS)
        means, squares = table["mean"], table["squares"]
        rows = table.drop_columns(["mean", "squares"]).to_pylist()
        found = {
            Key.of(row): Entry(
                name,
                number,
                row["audio"],
                row["frames"],
                _vector(means[number]),
                _vector(squares[number]),
                row["error"],
            )
            for number, row in enumerate(rows)
        }
        _check_entries(found.values(), dims)
        return found
    except (ParquetError, pa.ArrowException) as error:
        storage.put_aside(name, f"{error}; its features are made again")
        return {}


def _check_entries(entries: Iterable[Entry], dims: int) -> None:
    """Raise ParquetError for rows that no extraction makes."""
    for entry in entries:
        good = entry.error is None
        sizes = [None if part is None else len(part) for part in (entry.mean, entry.squares)]
        whole = isinstance(entry.frames, int) and 0 <= entry.frames <= MOST_FRAMES
        if not whole or good != (entry.frames > 0) or sizes != [dims if good else None] * 2:
            raise ParquetError(
                f"row {entry.row} has {entry.frames} frames, {sizes[0]} means and {sizes[1]} "
                f"squares, for {dims} columns"
            )


def _vector(cell: pa.ListScalar) -> npt.NDArray[np.float64] | None:
    return None if cell.values is None else cell.values.to_numpy()


def _read_values(storage: Storage, name: str, entries: list[Entry], dims: int) -> pa.ChunkedArray:
    """The values of all rows of a shard; those of `entries` are as many as their frames say."""
    data = storage.read_buffer(name)
    try:
        check_seal(name, data)
        values = read_table(data, SHARD_SCHEMA, ["values"])["values"]
        for entry in entries:
            cell = values[entry.row] if entry.row < len(values) else None
            if cell is None or cell.values is None or len(cell.values) != entry.frames * dims:
                raise ParquetError(f"row {entry.row} has not the values of {entry.frames} frames")
            if cell.values.null_count:
                raise ParquetError(f"row {entry.row} has values that are none")
        return values
    except ParquetError as error:
        storage.put_aside(name, f"{error}; its features are made again")
        raise FeatureError(f"{name} is damaged: run the extraction again") from error


def _fingerprint(extraction: str, good: list[tuple[dict[str, Any], Entry]]) -> str:
    digest = hashlib.sha1(extraction.encode())
    for row, entry in good:
        parts = (row["id"], row["speaker"], entry.audio, row["start"], row["end"])
        digest.update(repr(parts).encode())
    return digest.hexdigest()


def statistics_of(good: list[tuple[dict[str, Any], Entry]]) -> dict[str, Statistics]:
    entries: dict[str, list[Entry]] = defaultdict(list)
    # By id: a sum of floats depends on its order, which must not be the manifest's or the shards'.
    for row, entry in sorted(good, key=lambda pair: pair[0]["id"]):
        entries[row["speaker"]].append(entry)
    return {speaker: _moments(entries[speaker]) for speaker in sorted(entries)}


def _moments(entries: list[Entry]) -> Statistics:
    """Statistics over utterances from each one's own (the update of Chan, Golub and LeVeque)."""
    zeros = np.zeros_like(entries[0].mean)
    count, mean, squares = 0, zeros, zeros
    for entry in entries:
        step = entry.mean - mean
        total = count + entry.frames
        mean = mean + step * (entry.frames / total)
        squares = squares + entry.squares + step**2 * (count * entry.frames / total)
        count = total
    return Statistics(count, mean, _deviation(mean, squares / count))


def _deviation(
    mean: npt.NDArray[np.float64], variance: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    deviation = np.sqrt(variance)
    # A column that never changes has a deviation of rounding errors only.
    return np.where(deviation > 1e-12 * np.abs(mean), deviation, 0.0)


def share(statistics: Statistics, group: int) -> Statistics:
    """Statistics of a group's columns taken together, for each `group` neighbouring columns.

    They are those of all its values, exactly: each column has the same count, so that the
    variance of the group is the mean of its columns' and the variance of their means.
    Returns (dims,) again, the same numbers throughout a group.
    """
    if group == 1:
        return statistics
    means = statistics.mean.reshape(-1, group)  # (groups, group)
    mean = means.mean(axis=1)
    variance = (statistics.deviation**2).reshape(-1, group).mean(axis=1) + means.var(axis=1)
    deviation = _deviation(mean, variance)
    return Statistics(statistics.frames, np.repeat(mean, group), np.repeat(deviation, group))
