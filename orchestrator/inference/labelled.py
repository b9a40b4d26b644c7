"""The table of recognised utterances, and the files into which it is written."""

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from features.context import ABSENT
from features.storage import Storage
from orchestrator.errors import UsageError
from orchestrator.inference.model import SpeechModel
from orchestrator.inference.predict import (
    Utterance,
    context_of,
    log_posteriors,
    speakers_of,
    use_of,
)
from orchestrator.inference.reading import Read

SUFFIXES = (".csv", ".parquet", ".jsonl")


class Skipped(NamedTuple):
    """An utterance that has no posteriors, and the reason."""

    file: str
    reason: str


class Labelled(NamedTuple):
    """A row for each recognised utterance, and the utterances without a row.

    table : file, start, end, speaker, emotion, posterior_<class> for each class, statistics,
        speaker_seconds and speaker_weight (`orchestrator.inference.predict.Use`)
    """

    table: pa.Table
    skipped: list[Skipped]


def label(model: SpeechModel, reads: Sequence[Read]) -> Labelled:
    """Recognise the emotions of all utterances that could be read."""
    # Context turns are found before utterances are left out, as in training.
    requests = [read.request for read in reads]
    context = context_of(
        model,
        [request.group for request in requests],
        [request.dialogue for request in requests],
        [request.turn for request in requests],
    )
    kept = [row for row, read in enumerate(reads) if read.error is None]
    place = np.full(len(reads) + 1, ABSENT, dtype=np.int64)  # the last element is for ABSENT
    place[kept] = np.arange(len(kept))
    own, other = (turns.take(np.asarray(kept, int)).renumbered(place) for turns in context)
    utterances = [
        Utterance(read.values, read.seconds, read.request.group, read.request.id)
        for read in reads
        if read.values is not None
    ]
    skipped = [_skipped(read) for read in reads if read.error is not None]
    posteriors = np.zeros((0, len(model.classes)))
    if utterances:
        posteriors = np.exp(log_posteriors(model, utterances, context=(own, other)))
    return Labelled(_table(model, [reads[row] for row in kept], utterances, posteriors), skipped)


def _skipped(read: Read) -> Skipped:
    request = read.request
    part = "" if request.end is None else f" ({request.start or 0:g} to {request.end:g} s)"
    return Skipped(f"{request.shown}{part}", str(read.error))


def _table(
    model: SpeechModel,
    reads: Sequence[Read],
    utterances: Sequence[Utterance],
    posteriors: np.ndarray,
) -> pa.Table:
    speakers = speakers_of(utterances)
    uses = {name: use_of(model, statistics) for name, statistics in speakers.items()}
    groups = [read.request.group for read in reads]
    best = [model.classes[number] for number in posteriors.argmax(axis=1)]
    columns = {
        "file": pa.array([read.request.shown for read in reads], pa.string()),
        "start": pa.array([read.request.start for read in reads], pa.float64()),
        "end": pa.array([read.request.end for read in reads], pa.float64()),
        "speaker": pa.array([read.request.speaker for read in reads], pa.string()),
        "emotion": pa.array(best, pa.string()),
        **{f"posterior_{name}": posteriors[:, n] for n, name in enumerate(model.classes)},
        "statistics": pa.array([uses[group].statistics for group in groups], pa.string()),
        "speaker_seconds": pa.array([speakers[group].seconds for group in groups], pa.float64()),
        "speaker_weight": pa.array([uses[group].weight for group in groups], pa.float64()),
    }
    return pa.table(columns)


def check_suffix(path: str) -> None:
    """Raise UsageError if `write` knows no format with the suffix of `path`."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--to: the suffix is {suffix!r}. Use one of {', '.join(SUFFIXES)}")


def write(table: pa.Table, path: str) -> None:
    """Write a table as CSV, Parquet or JSON lines, by the suffix of `path` (a path or a URI)."""
    check_suffix(path)
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".jsonl":
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in table.to_pylist()]
        data: bytes | pa.Buffer = "".join(f"{line}\n" for line in lines).encode()
    else:
        sink = pa.BufferOutputStream()
        if suffix == ".csv":
            csv.write_csv(table, sink)
        else:
            pq.write_table(table, sink, compression="zstd")
        data = sink.getvalue()
    target = Storage.open(path)
    folder, _, name = target.root.rpartition("/")
    Storage(target.filesystem, folder or "/", target.waits).write(name, data)
