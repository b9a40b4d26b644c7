"""The worker's part of the extraction: compute the features of a batch, and write its shard."""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from features import audio
from features.errors import DecoderError
from features.recordings import Recordings
from features.sets import FeatureConfig, FeatureSet
from features.shards import Row, write_shard
from features.signal import SAMPLE_RATE
from features.storage import Storage


class Status(NamedTuple):
    """The result of an utterance.

    error : the reason why it has no features, or None
    stored : whether a shard holds its row
    """

    id: str
    error: str | None
    stored: bool


class Extractor:
    """Extracts batches. It keeps the newest audio file, because a file may have many utterances.

    config : the feature set. It is loaded by the process that extracts
    """

    def __init__(self, config: FeatureConfig, recordings: Recordings, shards: Storage) -> None:
        self.config = config
        self.recordings = recordings
        self.shards = shards
        self.file: audio.AudioFile | None = None

    @cached_property
    def feature_set(self) -> FeatureSet:
        """The feature set, loaded once."""
        return self.config.load()

    def __call__(self, batch: list[Row]) -> list[Status]:
        """Extract the rows of `TASK_SCHEMA` of one speaker, and write them as one shard.

        Raises StorageError if the shard cannot be written.
        """
        rows, status = [], []
        for task in batch:
            try:
                rows.append(self._row(task))
                status.append(Status(task["id"], rows[-1]["error"], True))
            except (OSError, DecoderError) as error:  # no fault of the audio: the next run retries
                status.append(Status(task["id"], str(error), False))
        if rows:
            write_shard(self.shards, rows)
        return status

    def _row(self, task: Row) -> Row:
        row = {**task, "audio": None, "frames": 0, "values": None, "error": None}
        try:
            if self.file is None or self.file.name != task["file"]:
                self.file = audio.fetch(self.recordings, task["file"])
            row["audio"] = self.file.sha1
            samples = audio.decode(self.file, task["start"], task["end"])
            values = self.feature_set.extract(samples, SAMPLE_RATE)
        except DecoderError:
            raise
        except ValueError as error:
            return {**row, "error": str(error)}
        exact = values.astype(np.float64)
        row |= {"frames": len(values), "values": values.ravel(), "mean": exact.mean(axis=0)}
        row["squares"] = ((exact - row["mean"]) ** 2).sum(axis=0)
        return row
