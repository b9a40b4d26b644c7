"""From the audio of requests to utterances with features, in this process or over Ray Data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from features import audio
from features.sets import FeatureConfig
from features.signal import MIN_SAMPLES, SAMPLE_RATE
from orchestrator.inference.inputs import Request

Progress = Callable[[int, int], None]
Segment = float | Literal["speech"] | None
"""How recordings are cut: into windows of at most so many seconds, stretches of speech, or not."""


class Read(NamedTuple):
    """A request, or a piece of it, after its audio was read: with features, or with an error."""

    request: Request
    values: npt.NDArray[np.float32] | None
    seconds: float
    error: str | None


def windows(seconds: float, longest: float) -> list[tuple[float, float]]:
    """Cut `seconds` into windows of the same length, of at most `longest` seconds: (start, end)."""
    count = max(1, ceil(seconds / longest))
    edges = [seconds * edge / count for edge in range(count + 1)]
    return list(pairwise(edges))


class Reader:
    """Reads requests. It keeps the newest audio file, because a file may have many utterances.

    segment : how recordings are cut. The pieces are no turns of a dialogue
    """

    def __init__(self, features: FeatureConfig, segment: Segment = None) -> None:
        self.segment = segment
        self.feature_set = features.load()
        self.file: tuple[Request, audio.AudioFile] | None = None

    def __call__(self, request: Request) -> list[Read]:
        """The request's utterance, or its pieces."""
        try:
            file = self._fetched(request)
            samples = audio.decode(file, request.start, request.end)
        except (OSError, ValueError) as error:
            return [Read(request, None, 0.0, str(error))]
        if self.segment is None:
            return [self._read(request, samples)]
        seconds = len(samples) / SAMPLE_RATE
        if self.segment == "speech":
            from orchestrator.inference.speech import stretches  # it imports PyTorch

            edges = stretches(samples)
            if not edges:
                return [Read(request, None, seconds, "no speech")]
        else:
            edges = windows(seconds, self.segment)
        start = request.start or 0.0
        parts = []
        for first, last in edges:
            piece = replace(
                request,
                start=round(start + first, 3),
                end=round(start + last, 3),
                id=f"{request.id} {first:012.3f}",
                dialogue=None,
                turn=None,
            )
            cut = samples[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)]
            parts.append(self._read(piece, cut))
        return parts

    def _read(self, request: Request, samples: npt.NDArray[np.float32]) -> Read:
        seconds = len(samples) / SAMPLE_RATE
        if len(samples) >= MIN_SAMPLES and np.ptp(samples) == 0:
            return Read(request, None, seconds, "silent")
        try:
            values = self.feature_set.extract(samples, SAMPLE_RATE)
        except ValueError as error:
            return Read(request, None, seconds, str(error))
        return Read(request, values, seconds, None)

    def _fetched(self, request: Request) -> audio.AudioFile:
        if self.file is not None:
            before, file = self.file
            if (before.recordings, before.file) == (request.recordings, request.file):
                return file
        file = audio.fetch(request.recordings, request.file)
        self.file = (request, file)
        return file


def read(
    requests: Sequence[Request], features: FeatureConfig, segment: Segment, progress: Progress
) -> Iterator[Read]:
    """Read all requests in this process, in their order."""
    reader = Reader(features, segment)
    for done, request in enumerate(requests, start=1):
        yield from reader(request)
        progress(done, len(requests))
