"""Every error that a user may meet. The message says what is wrong, where, and what to do.

    SerError               1  the run failed; its results so far are kept
    ├── ConfigError        2  a configuration, a corpus or folds that cannot be used
    ├── ComparisonError    2  two sweeps whose scores cannot be compared
    ├── NoSweepError       2  a folder that holds no sweep
    ├── FolderError        2  a folder that holds something else
    ├── FeatureError       1  features that cannot be computed or read
    ├── LedgerError        1  a file on the storage is damaged
    ├── LeaseError         1  another driver works on the sweep
    ├── ClusterError       1  the Ray cluster does not answer, or refuses the connection
    ├── HopelessError      1  too many trials in a row failed
    ├── DependencyError    1  an optional package is missing
    └── StorageError       1  the storage cannot be read or written

The number is the exit code of `ser`: 1 for a run that failed, 2 for wrong use.
"""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "ClusterError",
    "ComparisonError",
    "ConfigError",
    "DependencyError",
    "FeatureError",
    "FolderError",
    "HopelessError",
    "LeaseError",
    "LedgerError",
    "NoSweepError",
    "SerError",
    "StorageError",
]


class SerError(Exception):
    """Base of all expected errors. `exit_code` is the exit code of `ser`."""

    exit_code = 1


class ConfigError(SerError, ValueError):
    """A configuration, a corpus or folds that cannot be used. The message names the key."""

    exit_code = 2


class ComparisonError(SerError, ValueError):
    """Two sweeps whose scores cannot be compared."""

    exit_code = 2


class NoSweepError(SerError):
    """A folder that holds no sweep."""

    exit_code = 2


class FolderError(SerError):
    """A folder that cannot be used because it holds something else."""

    exit_code = 2


class FeatureError(SerError):
    """Features that cannot be computed or read."""


class LedgerError(SerError):
    """A file on the storage that is not what was written there."""


class LeaseError(SerError):
    """Another driver works on the sweep."""


class ClusterError(SerError):
    """The Ray cluster does not answer, or refuses the connection."""


class HopelessError(SerError):
    """Too many trials in a row failed. The message says what they have in common."""


class DependencyError(SerError):
    """An optional package that is not installed. The message has the command that installs it."""


class StorageError(SerError):
    """The storage cannot be read or written."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise the errors of `features` and `search_spaces` as errors of this tree.

    Those packages know nothing of `orchestrator`, so they have errors of their own.
    """
    from features.errors import FeatureError as BadFeatures
    from features.errors import ManifestError
    from features.storage import StorageError as BadStorage
    from search_spaces import SpaceError

    try:
        yield
    except BadStorage as error:
        raise StorageError(
            f"{error}. Finished trials are kept: fix the problem, then run the same command"
        ) from error
    except BadFeatures as error:
        raise FeatureError(str(error)) from error
    except (ManifestError, SpaceError) as error:
        raise ConfigError(str(error)) from error
