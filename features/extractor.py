"""The worker's part of the extraction: compute the features of a batch, and write its shard."""

import platform
from functools import cached_property
from typing import NamedTuple

import numpy as np

from features import audio
from features.errors import DecoderError, DeviceError, FeatureError
from features.recordings import Recordings
from features.sets import FeatureConfig, FeatureSet
from features.shards import SHARD_SCHEMA, Entry, Row, write_shard
from features.signal import SAMPLE_RATE
from features.storage import Storage


class Status(NamedTuple):
    """The result of an utterance.

    error : the reason why it has no features, or None
    entry : the place of its row in a shard, or None if no shard holds it
    """

    id: str
    error: str | None
    entry: Entry | None


class Extractor:
    """Extracts batches. It keeps the newest audio file, because a file may have many utterances.

    config : the feature set. It is loaded by the process that extracts. Its identity there must be
        that of the process that made this object, because this process names the shards' folder
    """

    def __init__(self, config: FeatureConfig, recordings: Recordings, shards: Storage) -> None:
        self.config = config
        self.identity = config.load().identity()
        self.recordings = recordings
        self.shards = shards
        self.file: audio.AudioFile | None = None

    @cached_property
    def feature_set(self) -> FeatureSet:
        """The feature set, loaded once.

        Raises FeatureError if its files or libraries here are not those of the driver.
        """
        feature_set = self.config.load()
        _check_identity(self.identity, feature_set.identity())
        return feature_set

    def __call__(self, batch: list[Row]) -> list[Status]:
        """Extract the rows of `TASK_SCHEMA` of one speaker, and write them as one shard.

        Raises StorageError if the shard cannot be written; FeatureError if this machine cannot
        compute the features of any recording.
        """
        rows, failed = [], []
        self.feature_set.ready()
        for task in batch:
            try:
                rows.append(self._row(task))
            except (OSError, DecoderError) as error:  # no fault of the audio: the next run retries
                failed.append(Status(task["id"], str(error), None))
        entries = write_shard(self.shards, rows) if rows else []
        stored = zip(rows, entries, strict=True)
        return [*failed, *(Status(row["id"], entry.error, entry) for row, entry in stored)]

    def _row(self, task: Row) -> Row:
        row = {**dict.fromkeys(SHARD_SCHEMA.names), **task, "frames": 0}
        try:
            if self.file is None or self.file.name != task["file"]:
                self.file = audio.fetch(self.recordings, task["file"])
            row["audio"] = self.file.sha1
            samples = audio.decode(self.file, task["start"], task["end"])
            values = self.feature_set.extract(samples, SAMPLE_RATE)
        except (DecoderError, DeviceError):
            raise
        except ValueError as error:
            return {**row, "error": str(error)}
        row |= {"frames": len(values), "values": values.ravel()}
        if self.feature_set.shape != "vector":  # the mean of one row is the row
            exact = values.astype(np.float64)
            row["mean"] = exact.mean(axis=0)
            exact -= row["mean"]
            row["squares"] = np.square(exact, out=exact).sum(axis=0)
        return row


def _check_identity(driver: tuple[str, ...], here: tuple[str, ...]) -> None:
    """Refuse to compute other values than those that the name of the shards' folder promises."""
    if here == driver:
        return
    libraries = [
        ", ".join(text for text in texts if " " in text and text not in others)
        for texts, others in ((driver, here), (here, driver))
    ]
    reason = "driver: {}; here: {}".format(*libraries) if any(libraries) else "other files"
    raise FeatureError(
        f"the features of {platform.node()} would differ from those of the driver ({reason}): give "
        "every node the same files and the same versions of libraries, then run the same command"
    )
