"""The feature store: extracted features, and how a run reads them: frames with offsets."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.errors import FeatureError, shorten
from features.manifest import Manifest
from features.sets import FeatureConfig
from features.shards import Entry, Key, Row
from features.source import Source
from features.statistics import Statistics, merge, share, statistics_of
from features.storage import Storage


@dataclass(frozen=True)
class Features:
    """Features of the usable utterances of a manifest, in its order.

    Utterance i is `frames[offsets[i]:offsets[i + 1]]`, at least one row.
    """

    ids: list[str]
    frames: npt.NDArray[np.float32]
    """(sum of frames, dims), contiguous."""
    offsets: npt.NDArray[np.int64]
    """(utterances + 1,)"""
    fingerprint: str
    """SHA-1 of ids, speakers, audio contents, times and extraction; equal on all machines."""
    errors: list[tuple[str, str, str]]
    """(id, file, reason) of each utterance without features."""
    cut: dict[str, int]
    """id -> frames before pooling, of each utterance of which only `config.cap` frames are kept."""


@dataclass(frozen=True)
class Layout:
    """The usable utterances of a manifest, in its order, and the source of their frames.

    The other fields are those of `Features`.
    """

    ids: list[str]
    source: Source
    fingerprint: str
    errors: list[tuple[str, str, str]]
    cut: dict[str, int]


@dataclass(frozen=True)
class FeatureStore:
    """Extracted features of a manifest, made by `features.extract.extract`."""

    storage: Storage
    name: str
    """The feature set."""
    extraction: str
    """Its `features.extract.extraction_hash`."""
    rows: list[Row]
    index: dict[Key, Entry]
    unread: dict[str, str]
    """Reasons, by id, for utterances whose files could not be read. They have no row in a shard."""

    def errors(self, rows: list[Row] | None = None) -> list[tuple[str, str, str]]:
        """(id, file, reason) of each of `rows` (default: all) without features, in their order."""
        rows = self.rows if rows is None else rows
        return [(row["id"], row["file"], error) for row in rows if (error := self._error(row))]

    def _error(self, row: Row) -> str | None:
        if row["id"] in self.unread:
            return self.unread[row["id"]]
        entry = self.index.get(Key.of(row))
        return "its features are not in the store" if entry is None else entry.error

    def _rows_of(self, manifest: Manifest) -> list[Row]:
        known = {row["id"]: row for row in self.rows}
        ids = manifest.table["id"].to_pylist()
        unknown = [name for name in ids if name not in known]
        if unknown:
            raise FeatureError(
                f"{len(unknown)} utterances were not extracted ({shorten(unknown)}): "
                "extract the features of this manifest first"
            )
        return [known[name] for name in ids]

    def layout(self, manifest: Manifest, config: FeatureConfig) -> Layout:
        """How `manifest` is loaded: normalised by speaker if `config` says so, cut, pooled.

        Utterances without features are dropped. `manifest` may be a part of the extracted
        manifest; statistics are then over the usable utterances of this part. With `normalize:
        train` the frames stay as extracted: `statistics` gives the numbers for each fold. No shard
        is read.

        Raises FeatureError if an utterance was not extracted, or if `config` belongs to another
        feature set.
        """
        if config.name != self.name:
            raise FeatureError(f"the store holds {self.name}: it has no {config.name}")
        rows = self._rows_of(manifest)
        usable = [(row, self.index[Key.of(row)]) for row in rows if not self._error(row)]
        entries = [entry for _, entry in usable]
        group, cap = config.group, config.cap
        speakers = {}
        if group:
            speakers = {name: share(s, group) for name, s in statistics_of(usable).items()}
        kept = [entry.frames if cap is None else min(entry.frames, cap) for entry in entries]
        lengths = [-(-frames // config.pooling) for frames in kept]
        shards = tuple(dict.fromkeys(entry.shard for entry in entries))
        shard_of = {name: number for number, name in enumerate(shards)}
        speaker_of = {name: number for number, name in enumerate(speakers)}
        places = [(shard_of[entry.shard], entry.row) for entry in entries]
        source = Source(
            storage=self.storage,
            extraction=self.extraction,
            shards=shards,
            places=np.asarray(places, dtype=np.int64).reshape(-1, 2),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            dims=config.load().dims,
            cap=cap,
            pooling=config.pooling,
            speakers=np.asarray(
                [speaker_of.get(row["speaker"], -1) for row, _ in usable], np.int64
            ),
            statistics=tuple(speakers.values()),
        )
        cut = {
            row["id"]: entry.frames
            for row, entry in usable
            if cap is not None and entry.frames > cap
        }
        ids = [row["id"] for row, _ in usable]
        fingerprint = _fingerprint(self.extraction, usable)
        return Layout(ids, source, fingerprint, self.errors(rows), cut)

    def load(self, manifest: Manifest, config: FeatureConfig) -> Features:
        """Load the features of `manifest` into memory, as its `layout` says.

        Raises FeatureError as `layout` does, if memory is too small, or if a shard was damaged
        since the extraction.
        """
        layout = self.layout(manifest, config)
        source = layout.source
        try:
            frames = np.empty(source.shape, np.float32)
        except MemoryError:
            raise FeatureError(
                f"{source.shape[0]} frames of {source.dims} values do not fit into memory: use a "
                "machine with more memory, or select a part of the corpus with corpus.only"
            ) from None
        for i, values in source.utterances():
            frames[source.offsets[i] : source.offsets[i + 1]] = values
        return Features(
            layout.ids, frames, source.offsets, layout.fingerprint, layout.errors, layout.cut
        )

    def statistics(self, parts: Mapping[str, Sequence[str]]) -> dict[str, Statistics]:
        """The statistics over all frames of the utterances of each part, whose ids are given.

        The frames beyond `cap` count too, as in the statistics of a speaker. No shard is read,
        because the index has the sums of each utterance.
        """
        entries = {row["id"]: self.index[Key.of(row)] for row in self.rows if not self._error(row)}
        # Sorted, because the last bits of a sum depend on its order.
        return {name: merge([entries[key] for key in sorted(ids)]) for name, ids in parts.items()}


def _fingerprint(extraction: str, usable: list[tuple[Row, Entry]]) -> str:
    digest = hashlib.sha1(extraction.encode())
    for row, entry in usable:
        parts = (row["id"], row["speaker"], entry.audio, row["start"], row["end"])
        digest.update(repr(parts).encode())
    return digest.hexdigest()


def check_errors(store: FeatureStore, config: FeatureConfig) -> None:
    """Raise FeatureError if more utterances than `config.max_errors` have no features.

    The message has one more line for each of these utterances.
    """
    errors = store.errors()
    if len(errors) > config.max_errors:
        lines = "\n".join(f"  {name} ({file}): {reason}" for name, file, reason in errors)
        raise FeatureError(
            f"{len(errors)} of {len(store.rows)} utterances have no features and "
            f"features.max_errors is {config.max_errors}. Fix these files, or raise it:\n{lines}"
        )
