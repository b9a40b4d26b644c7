"""Folds: which utterances train, which select the epoch, and which test."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from features.context import Indices
from features.manifest import Problem
from orchestrator.config.sections import FoldsConfig
from orchestrator.errors import ConfigError


@dataclass(frozen=True)
class Fold:
    """One division of the labelled utterances into three parts, as rows of the dataset.

    The validation part is empty under `held_out`.
    """

    name: str
    train: Indices
    validation: Indices
    test: Indices


class Promise(NamedTuple):
    """The rule of a scheme, in addition to the rule that each labelled utterance is in one part.

    unit : the column whose values are never in two parts of a fold, or None
    tests : number of folds that test each labelled utterance; None if chance or the corpus
        decides it
    """

    unit: str | None
    tests: int | None


def codes(column: pa.ChunkedArray) -> tuple[Indices, list[str]]:
    """The values of a string column as numbers.

    Shapes
    ------
    returns : (rows,) position in the names, -1 for null; the names in natural order, in which 10
        comes after 9
    """

    def natural(name: str) -> list[str | int]:
        """Words and numbers in turn."""
        return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]

    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=lambda index: (natural(values[index]), values[index]))
    place = np.full(len(values) + 1, -1, dtype=np.int64)  # the last element is for null
    place[order] = np.arange(len(values))
    return place[encoded.indices.fill_null(-1).to_numpy()], [values[index] for index in order]


def make_folds(
    table: pa.Table, labels: Indices, classes: tuple[str, ...], config: FoldsConfig
) -> list[Fold]:
    """The folds of a scheme. The same manifest and configuration give the same folds.

    table : the rows of the manifest
    labels : (utterances,) class of each row, negative if the row has none of the classes
    Raises ConfigError if the manifest does not fit the scheme, or a train part lacks a class.
    """
    from orchestrator.data.schemes import SCHEMES  # which itself imports Fold from this module

    folds = SCHEMES[config.scheme].make(table, labels, config)
    for fold in folds:
        if not len(fold.test) or (config.selection == "validation" and not len(fold.validation)):
            part = "validation" if len(fold.test) else "test"
            raise ConfigError(
                f"folds.scheme: the {part} part of {config.scheme}'s fold {fold.name} is empty. "
                f"Lower folds.folds, or choose another scheme"
            )
        counts = np.bincount(labels[fold.train], minlength=len(classes))
        if absent := [name for name, count in zip(classes, counts, strict=True) if not count]:
            raise ConfigError(
                f"corpus.classes: the train part of fold {fold.name} has no utterance of class "
                f"{', '.join(absent)}. Remove the class, or choose another folds.scheme"
            )
    return folds


def scheme_problems(error: str, path: str) -> Iterator[Problem]:
    """The lines of an error about the folds of the configuration at `path`, for `ser corpus`.

    For example, the scheme needs sessions, and rows have no session.
    """
    for line in error.split("\n"):
        key, _, reason = line.removeprefix(f"{path}: ").partition(": ")
        yield Problem(key, reason)
