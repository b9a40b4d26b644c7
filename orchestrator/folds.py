"""Who trains, who selects the epoch, who tests."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.config import ConfigError, FoldsConfig

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One split of the labelled utterances.

    train, validation, test : rows of the dataset; validation is empty under `held_out`
    """

    name: str
    train: Indices
    validation: Indices
    test: Indices

    @property
    def selection(self) -> Indices:
        """The part on which the epoch is chosen."""
        return self.validation if len(self.validation) else self.test


def _groups(table: pa.Table, column: str, scheme: str) -> NDArray[np.str_]:
    """The group of each row. Raises ConfigError naming the first row that has none."""
    values = table.column(column).to_pylist()
    missing = [row for row, value in enumerate(values) if value is None]
    if len(missing) == len(values):
        raise ConfigError(
            f"folds.scheme: {scheme} needs the manifest's column `{column}`, which is missing "
            f"or empty; add it, or choose another scheme"
        )
    if missing:
        row = missing[0]
        raise ConfigError(
            f"folds.scheme: {scheme} needs a {column} in every row, and {len(missing)} have none; "
            f"the first is row {row + 1}: {table['id'][row]}, speaker {table['speaker'][row]}"
        )
    return np.asarray(values, dtype=np.str_)


def _leave_one_group_out(column: str) -> Callable[[pa.Table, Indices, FoldsConfig], list[Fold]]:
    """A fold a group. Its validation part is the group after it, in the order of their names."""

    def scheme(table: pa.Table, labels: Indices, config: FoldsConfig) -> list[Fold]:
        groups = _groups(table, column, config.scheme)
        labelled = np.flatnonzero(labels >= 0)
        names = sorted(set(groups[labelled].tolist()))
        needed = 3 if config.selection == "validation" else 2
        if len(names) < needed:
            raise ConfigError(
                f"folds.scheme: {config.scheme} with selection {config.selection} needs at least "
                f"{needed} {column}s with labelled utterances; the manifest has {len(names)}: "
                f"{', '.join(names)}"
            )
        folds = []
        for position, name in enumerate(names):
            own = groups[labelled] == name
            selects = np.zeros_like(own)
            if config.selection == "validation":
                selects = groups[labelled] == names[(position + 1) % len(names)]
            trains = ~own & ~selects
            folds.append(Fold(name, labelled[trains], labelled[selects], labelled[own]))
        return folds

    return scheme


SCHEMES: dict[str, Callable[[pa.Table, Indices, FoldsConfig], list[Fold]]] = {
    "leave_one_session_out": _leave_one_group_out("session"),
    "leave_one_speaker_out": _leave_one_group_out("speaker"),
}


def make_folds(
    table: pa.Table, labels: Indices, classes: tuple[str, ...], config: FoldsConfig
) -> list[Fold]:
    """The folds of a scheme.

    table : the manifest's rows
    labels : (utterances,) class of each row, negative where it has none of the chosen classes
    Raises ConfigError where the manifest cannot serve the scheme, or a training part lacks a class.
    """
    if config.scheme not in SCHEMES:
        raise ConfigError(
            f"folds.scheme: no scheme {config.scheme}; known: {', '.join(sorted(SCHEMES))}"
        )
    folds = SCHEMES[config.scheme](table, labels, config)
    for fold in folds:
        absent = sorted(set(range(len(classes))) - set(labels[fold.train].tolist()))
        if absent:
            raise ConfigError(
                f"corpus.classes: fold {fold.name} has no training utterance of class "
                f"{', '.join(classes[c] for c in absent)}; leave the class out, or choose "
                f"another scheme"
            )
    return folds
