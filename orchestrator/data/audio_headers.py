"""What the headers of a corpus's recordings say, and segments that do not fit into them."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from features.audio import SLACK, Header, read_header
from features.errors import AudioError
from features.manifest import Manifest, Problem

LONG_S = 600.0
"""Seconds from which on an utterance is suspicious, if there is no header to compare with."""


@dataclass(frozen=True)
class AudioHeaders:
    """Counts of a corpus's recordings, by their headers.

    seconds : of all utterances; None if headers would have to be fetched from a remote storage
    sample_rates, channels, formats : recordings of each, the most frequent first
    """

    seconds: float | None
    sample_rates: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class _Utterance:
    """An utterance's times in its file, or in its dialogue. All are in seconds or None."""

    file: str
    start: float | None
    end: float | None
    dialogue_start: float | None
    dialogue_end: float | None

    def by_times(self) -> float | None:
        """The length by the manifest alone."""
        if self.end is not None:
            return self.end - (self.start or 0.0)
        if self.start is None and self.dialogue_start is not None and self.dialogue_end is not None:
            return self.dialogue_end - self.dialogue_start
        return None

    def length(self, recorded: float | None) -> float:
        """The length, if the file has `recorded` seconds; an unknown length counts 0 s."""
        if recorded is None or (self.end is None and self.by_times() is not None):
            return self.by_times() or 0.0
        end = recorded if self.end is None else min(self.end, recorded)
        return max(end - (self.start or 0.0), 0.0)

    def last(self) -> float:
        """The second that the file must reach."""
        return self.end if self.end is not None else self.start or 0.0


def read_headers(manifest: Manifest) -> AudioHeaders:
    """Count the recordings of a manifest by the headers of its local files.

    The length of an utterance comes from its times and its file's header. A missing file counts
    0 s unless the times give a length. The headers of a remote storage are not read.
    """
    columns = ("file", "start", "end", "dialogue_start", "dialogue_end")
    rows = zip(*(manifest.table[name].to_pylist() for name in columns), strict=True)
    utterances = [_Utterance(*row) for row in rows]
    recordings = manifest.recordings()
    headers: dict[str, Header] = {}
    problems: list[Problem] = []
    unread: Counter[str] = Counter()
    remote = set()
    for file in dict.fromkeys(utterance.file for utterance in utterances):
        path = recordings.local_path(file)
        if path is None:
            remote.add(file)
        elif os.path.isfile(path):
            try:
                headers[file] = read_header(path)
            except (AudioError, OSError) as error:
                unread[PurePosixPath(file).suffix[1:].upper() or "no suffix"] += 1
                problems.append(Problem(file, str(error)))
    unknown = any(u.file in remote and u.by_times() is None for u in utterances)
    recorded = {file: header.seconds for file, header in headers.items()}
    seconds = sum(utterance.length(recorded.get(utterance.file)) for utterance in utterances)
    unheard = [utterance for utterance in utterances if utterance.file not in recorded]
    return AudioHeaders(
        None if unknown else seconds,
        _counts(Counter(str(header.sample_rate) for header in headers.values())),
        _counts(Counter(str(header.channels) for header in headers.values())),
        _counts(Counter(header.format for header in headers.values()) + unread),
        (*problems, *_beyond(utterances, recorded), *_long(unheard)),
    )


def _counts(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common())


def _beyond(utterances: list[_Utterance], recorded: dict[str, float]) -> Iterator[Problem]:
    """The segments that end after their file."""
    beyond = [
        (utterance, recorded[utterance.file])
        for utterance in utterances
        if utterance.last() > recorded.get(utterance.file, float("inf")) + SLACK
    ]
    if not beyond:
        return
    first, seconds = beyond[0]
    remedy = "Check the columns start and end, which are in seconds"
    fit = all(utterance.last() / 1000 <= length + SLACK for utterance, length in beyond)
    if fit and max(utterance.last() / max(length, SLACK) for utterance, length in beyond) > 10:
        remedy = "All fit as milliseconds: give start and end in seconds (divide them by 1000)"
    yield Problem(
        first.file,
        f"{len(beyond)} segments are beyond the end of their file; the first reaches "
        f"{first.last():.3f} s of {seconds:.3f} s. {remedy}",
    )


def _long(utterances: list[_Utterance]) -> Iterator[Problem]:
    """Utterances of improbable length, by their times."""
    long = [u for u in utterances if (u.by_times() or 0.0) > LONG_S]
    if long:
        yield Problem(
            long[0].file,
            f"{len(long)} utterances are longer than {LONG_S / 60:.0f} minutes by their times; the "
            f"first has {long[0].by_times():.3f} s. Give all times in seconds: divide milliseconds "
            "by 1000",
        )
