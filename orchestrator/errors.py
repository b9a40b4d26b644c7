"""The errors that a user can get. Each message names the fault, its place and the remedy.

    SerError               1  the run failed; its results so far are kept
    ├── UsageError         2  wrong use
    │   ├── ConfigError        a configuration, a corpus or folds that cannot be used
    │   ├── ComparisonError    two sweeps whose scores cannot be compared
    │   ├── NoSweepError       a folder that holds no sweep
    │   └── FolderError        a folder that holds something else
    ├── FeatureError       1  features that cannot be computed or read
    ├── LedgerError        1  a file on the storage that is damaged
    ├── LeaseError         1  another driver works on the sweep
    ├── ClusterError       1  Ray does not start or answer, or cannot run this program
    ├── HopelessError      1  too many trials in a row failed
    ├── DependencyError    1  an optional package is missing
    ├── StorageError       1  the storage cannot be read or written
    └── CacheError         1  a node's folder cannot hold the frames of the features

The number is the exit code of `ser`.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class SerError(Exception):
    """Base of all expected errors. `exit_code` is the exit code of `ser`."""

    exit_code = 1


class UsageError(SerError):
    """Base of the errors of wrong use."""

    exit_code = 2


class ConfigError(UsageError, ValueError):
    """A configuration, a corpus or folds that cannot be used. The message names the key."""


class ComparisonError(UsageError, ValueError):
    """Two sweeps whose scores cannot be compared."""


class NoSweepError(UsageError):
    """A folder that holds no sweep."""


class FolderError(UsageError):
    """A folder that cannot be used because it holds something else."""


class FeatureError(SerError):
    """Features that cannot be computed or read."""


class LedgerError(SerError):
    """A file on the storage that has changed since it was written."""


class LeaseError(SerError):
    """Another driver works on the sweep."""


class ClusterError(SerError):
    """Ray does not start or answer, refuses the connection, or cannot run this program."""


class HopelessError(SerError):
    """Too many trials in a row failed. The message names their common values."""


class DependencyError(SerError):
    """An optional package that is not installed. The message has the command that installs it."""


class StorageError(SerError):
    """The storage cannot be read or written."""


class CacheError(SerError):
    """A folder of a node cannot hold the frames of the features."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise the errors of `features` and `search_spaces`, and OSErrors, as errors of this tree.

    Those packages know nothing of `orchestrator`, so they have errors of their own.
    """
    from features import errors as features
    from search_spaces import SpaceError

    kinds: dict[type[Exception], type[SerError]] = {
        features.StorageError: StorageError,
        features.CacheError: CacheError,
        features.FeatureError: FeatureError,
        features.DependencyError: DependencyError,
        features.FolderError: FolderError,
        features.ManifestError: ConfigError,
        SpaceError: ConfigError,
    }
    try:
        yield
    except tuple(kinds) as error:
        ours = next(ours for theirs, ours in kinds.items() if isinstance(error, theirs))
        raise ours(str(error)) from error
    except OSError as error:
        raise SerError(f"{type(error).__name__}: {error}") from error


@contextmanager
def finished_trials_kept() -> Iterator[None]:
    """Add to the errors of the storage that finished trials are kept, and how to resume."""
    from features import errors as features

    kept = "Finished trials are kept: fix the problem, then run the same command"
    try:
        yield
    except features.FolderError:
        raise
    except (features.StorageError, features.CacheError) as error:
        raise type(error)(f"{error}. {kept}") from error
    except OSError as error:
        # Ray writes to the storage by itself, and uses other files and sockets too.
        reason = f"{type(error).__name__}: {str(error).strip()}"
        raise SerError(f"{reason}. {kept}") from error
