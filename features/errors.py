"""The errors that this package raises. Each message names the problem, the place and the remedy.

Only `check_errors` adds lines: one for each utterance without features.
"""


class FeatureError(ValueError):
    """Features that cannot be computed or read."""


class AudioError(FeatureError):
    """An utterance whose audio cannot be used. The message is the reason."""


class DecoderError(AudioError):
    """Audio that this machine cannot decode, because a program is missing. It is tried again."""


class DeviceError(FeatureError):
    """A device with too little memory. It is no fault of the audio, and ends the extraction."""


class ManifestError(ValueError):
    """A corpus or a manifest that cannot be used. Rows count from 1, without the header."""


class DependencyError(ImportError):
    """An optional package that is missing or does not work."""


class FolderError(FileExistsError):
    """A folder that holds something else."""


class StorageError(OSError):
    """A storage that cannot be read or written, after all retries.

    A file that does not exist is a FileNotFoundError instead.
    """


class CacheError(OSError):
    """A folder that cannot hold the frames of a run."""


def shorten(texts: list[str], limit: int = 5, separator: str = ", ") -> str:
    """The first of many texts, and the number of the others, for a message."""
    more = [f"and {len(texts) - limit} more"] if len(texts) > limit else []
    return separator.join(texts[:limit] + more)
