"""From a configuration to what its trials read: manifest, labels, folds, features, context."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.context import ABSENT, previous_turns, random_turns
from features.corpora import CORPORA
from features.extract import extract
from features.manifest import Manifest, ManifestError
from features.storage import Storage
from features.store import check_errors
from orchestrator.data.audit import Audit, AuditError, audit
from orchestrator.training.batches import Dataset
from orchestrator.config.sections import ConfigError, Configuration
from orchestrator.data.folds import Fold, make_folds
from orchestrator.data.statistics import summarise_corpus
from ser_models import MODELS

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """A manifest with the class of each row.

    labels : (utterances,) position in `classes`, or -1 for another label or none
    """

    manifest: Manifest
    labels: Indices
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """What every trial of a run shares.

    audit : counts of every part, and what was checked (`orchestrator.audit`)
    notes : what a reader of the scores should know about the data
    """

    dataset: Dataset
    folds: list[Fold]
    fingerprint: str
    summary: dict[str, Any]
    audit: dict[str, Any]
    notes: list[str]


def read_corpus(configuration: Configuration) -> Corpus:
    """Read and check the manifest; no audio is opened. Raises ConfigError."""
    corpus = configuration.corpus
    if corpus.name not in CORPORA:
        known = ", ".join(sorted(CORPORA))
        raise ConfigError(f"corpus.name: no corpus {corpus.name}; known: {known}")
    try:
        manifest = CORPORA[corpus.name](corpus.root)
    except (ManifestError, OSError, ImportError) as error:
        raise ConfigError(f"corpus.root: {error}") from None
    except csv.Error as error:
        raise ConfigError(f"corpus.root: {corpus.root} has a table that is none: {error}") from None
    manifest = _only(manifest, corpus.only)
    raw = manifest.table["emotion"].to_pylist()
    merged = [corpus.merge.get(label, label) for label in raw]
    occurring = Counter(label for label in merged if label is not None)
    for name in corpus.classes:
        if name not in occurring:
            found = ", ".join(f"{label} ({count})" for label, count in occurring.most_common())
            raise ConfigError(
                f"corpus.classes: no utterance is labelled {name}; labels that occur: {found}"
            )
    position = {name: index for index, name in enumerate(corpus.classes)}
    labels = np.asarray([position.get(label, -1) for label in merged], dtype=np.int64)
    return Corpus(manifest, labels, corpus.classes)


def _only(manifest: Manifest, only: dict[str, tuple[str, ...]]) -> Manifest:
    """The rows whose columns have one of the values that `corpus.only` names."""
    table = manifest.table
    for column, values in only.items():
        names = [field.name for field in table.schema if pa.types.is_string(field.type)]
        if column not in names:
            known = ", ".join(names)
            raise ConfigError(f"corpus.only: no column {column} of names; there are: {known}")
        kept = table.filter(pc.is_in(table[column], pa.array(values, pa.string())))
        if not len(kept):
            found = ", ".join(sorted(map(str, pc.unique(table[column]).to_pylist())))
            raise ConfigError(
                f"corpus.only: no row has {column} {' or '.join(values)}; there are: {found}"
            )
        table = kept
    return Manifest(table, manifest.root, manifest.problems)


def context_rows(configuration: Configuration, table: pa.Table) -> tuple[Indices, Indices]:
    """The context turns of each row that the configured model attends to."""
    kind = MODELS[configuration.model.name].context
    if kind == "random":
        dialogues, turns = table["dialogue"].to_pylist(), table["turn"].to_pylist()
        return random_turns(dialogues, turns, configuration.training.seed)
    if kind == "previous":
        return _previous_rows(table)
    return (np.full(len(table), ABSENT, dtype=np.int64),) * 2


def _previous_rows(table: pa.Table) -> tuple[Indices, Indices]:
    return previous_turns(*(table[name].to_pylist() for name in ("speaker", "dialogue", "turn")))


def corpus_folds(configuration: Configuration, corpus: Corpus) -> list[Fold]:
    """The folds over a corpus's rows, audited.

    Raises ConfigError where it cannot serve the scheme, or the scheme would break its own rule.
    """
    table = corpus.manifest.table
    folds = make_folds(table, corpus.labels, corpus.classes, configuration.folds)
    own, other = context_rows(configuration, table)
    _audited(configuration, table, corpus.labels, folds, own, other)
    return folds


def _audited(
    configuration: Configuration,
    table: pa.Table,
    labels: Indices,
    folds: list[Fold],
    own: Indices,
    other: Indices,
) -> Audit:
    classes, normalize = configuration.corpus.classes, configuration.features.normalize
    try:
        return audit(table, labels, classes, folds, own, other, configuration.folds, normalize)
    except AuditError as error:
        raise ConfigError(f"folds.scheme: {error}") from None


def prepare(
    configuration: Configuration,
    storage: Storage,
    progress: Callable[[int, int, str | None], None],
) -> Prepared:
    """Extract what is missing and put everything into arrays.

    Raises ConfigError for a corpus or scheme that does not fit, FeatureError where more files
    than `features.max_errors` cannot be used.
    """
    corpus = read_corpus(configuration)
    corpus_folds(configuration, corpus)  # what is wrong with the scheme shows before extraction
    manifest = corpus.manifest
    store = extract(manifest, configuration.features, storage.child("features"), progress)
    check_errors(store, configuration.features)
    features = store.load(manifest, configuration.features)
    ids = manifest.table["id"].to_pylist()
    own, other = context_rows(configuration, manifest.table)
    previous = _previous_rows(manifest.table)

    # Utterances without features leave; one that was context of another becomes absent there.
    kept_ids = set(features.ids)
    kept = np.asarray([row for row, name in enumerate(ids) if name in kept_ids], dtype=np.int64)
    place = np.full(len(ids) + 1, ABSENT, dtype=np.int64)  # the last element serves ABSENT = -1
    place[kept] = np.arange(len(kept))
    table = manifest.table.take(pa.array(kept))
    labels = corpus.labels[kept]
    with_none = np.append(labels, -1)  # the last element serves ABSENT
    dataset = Dataset(
        frames=features.frames,
        offsets=features.offsets,
        segment=configuration.features.cut,
        labels=labels,
        own=place[own[kept]],
        other=place[other[kept]],
        previous=np.stack([with_none[place[rows[kept]]] for rows in previous]),
        ids=features.ids,
        speakers=table["speaker"].to_pylist(),
        classes=corpus.classes,
    )
    folds = make_folds(table, labels, corpus.classes, configuration.folds)
    audited = _audited(configuration, table, labels, folds, dataset.own, dataset.other)
    summary = summarise_corpus(
        configuration.corpus.name,
        Manifest(table, manifest.root, manifest.problems),
        labels,
        corpus.classes,
        audio=False,
    )
    notes = list(audited.notes)
    if features.errors:
        names = "; ".join(f"{file}: {reason}" for _, file, reason in features.errors)
        notes.append(f"{len(features.errors)} utterances have no features: {names}")
    found = fingerprint(dataset, features.fingerprint)
    return Prepared(dataset, folds, found, summary, audited.as_dict(), notes)


def fingerprint(dataset: Dataset, features: str) -> str:
    """SHA-1 of all that trials read or write down: features, classes, context."""
    digest = hashlib.sha1(features.encode())
    for array in (dataset.labels, dataset.own, dataset.other, dataset.previous):
        digest.update(array.astype("<i8").tobytes())
    digest.update("\0".join(dataset.classes).encode())
    return digest.hexdigest()
