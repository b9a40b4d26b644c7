"""From the audio of requests to utterances with features, in this process or over Ray Data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features import audio
from features.sets import FeatureConfig
from features.signal import MIN_SAMPLES, SAMPLE_RATE
from orchestrator.inference.inputs import Request

Progress = Callable[[int, int], None]


class Read(NamedTuple):
    """A request, or a window of it, after its audio was read: with features, or with an error."""

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

    longest : seconds of a window, into which longer utterances are cut; None: no windows
    """

    def __init__(self, features: FeatureConfig, longest: float | None = None) -> None:
        self.longest = longest
        self.feature_set = features.load()
        self.file: tuple[Request, audio.AudioFile] | None = None

    def __call__(self, request: Request) -> list[Read]:
        """The request's utterance, or its windows, which are no turns of a dialogue."""
        try:
            file = self._fetched(request)
            samples = audio.decode(file, request.start, request.end)
        except (OSError, ValueError) as error:
            return [Read(request, None, 0.0, str(error))]
        if self.longest is None:
            return [self._read(request, samples)]
        start = request.start or 0.0
        parts = []
        for first, last in windows(len(samples) / SAMPLE_RATE, self.longest):
            window = replace(
                request,
                start=round(start + first, 3),
                end=round(start + last, 3),
                id=f"{request.id} {first:012.3f}",
                dialogue=None,
                turn=None,
            )
            piece = samples[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)]
            parts.append(self._read(window, piece))
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
    requests: Sequence[Request], features: FeatureConfig, longest: float | None, progress: Progress
) -> Iterator[Read]:
    """Read all requests in this process, in their order."""
    reader = Reader(features, longest)
    for done, request in enumerate(requests, start=1):
        yield from reader(request)
        progress(done, len(requests))
