"""From a configuration to the data that its trials share."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features import pool
from features.context import ABSENT, Indices, Turns, previous_turns, random_turns, turns_before
from features.copies import content_numbers
from features.extract import Compute, extract
from features.manifest import Manifest
from features.sets import FeatureConfig
from features.sets.base import by_speaker
from features.storage import Storage
from features.store import Features, FeatureStore, check_errors
from orchestrator.config.sections import Configuration
from orchestrator.data.audit import AuditError, audit
from orchestrator.data.copies import audit_copies
from orchestrator.data.corpus import Corpus, read_corpus
from orchestrator.data.coverage import speaker_coverage
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold, make_folds
from orchestrator.data.schemes import SCHEMES
from orchestrator.data.statistics import summarise_corpus
from orchestrator.errors import ConfigError
from orchestrator.ledger.records import Audit, CorpusSummary
from ser_models import MODELS


@dataclass(frozen=True)
class Plan:
    """A corpus and its folds, before any audio is opened.

    own, other : rows of the context turns that the model reads
    normalize : the values of `features.normalize` that the run uses, the configured one first
    """

    configuration: Configuration
    normalize: tuple[str, ...]
    corpus: Corpus
    folds: list[Fold]
    audit: Audit
    own: Turns
    other: Turns

    @property
    def notes(self) -> list[str]:
        """Sentences about the corpus and its folds that a reader of the scores should know."""
        doubts = [f"{doubt.file}: {doubt.reason}." for doubt in self.corpus.doubts]
        return doubts + self.audit.notes


@dataclass(frozen=True)
class Prepared:
    """The data that every trial of a run shares.

    datasets : by value of `features.normalize`, the configured one first. They share all arrays but
        `frames`, and `frames` too if both values keep them as extracted
    fingerprint : SHA-1 of all data that trials read or write down: features, classes and context
    notes : those of the plan, and sentences about the features
    """

    datasets: Mapping[str, Dataset]
    folds: list[Fold]
    fingerprint: str
    summary: CorpusSummary
    audit: Audit
    notes: list[str]

    @property
    def dataset(self) -> Dataset:
        """The dataset of the configured value of `features.normalize`."""
        return next(iter(self.datasets.values()))


def plan_folds(configuration: Configuration, searched: Sequence[str] = ()) -> Plan:
    """Read the corpus, make its folds and audit them.

    searched : values of `features.normalize` that the search may choose

    Raises ConfigError if the corpus cannot be used or does not fit the scheme, or if the folds
    break the scheme's promise.
    """
    corpus = read_corpus(configuration.corpus)
    normalize = tuple(dict.fromkeys((configuration.features.normalize, *searched)))
    context = context_rows(configuration, corpus.manifest.table)
    return _planned(configuration, normalize, corpus, *context)


def _planned(
    configuration: Configuration,
    normalize: tuple[str, ...],
    corpus: Corpus,
    own: Turns,
    other: Turns,
) -> Plan:
    table, labels, classes = corpus.manifest.table, corpus.labels, corpus.classes
    scheme = configuration.folds
    folds = make_folds(table, labels, classes, scheme)
    coverage = (
        speaker_coverage(corpus.manifest, labels) if any(map(by_speaker, normalize)) else None
    )
    try:
        audited = audit(table, labels, classes, folds, own, other, scheme, normalize, coverage)
    except AuditError as error:
        raise ConfigError(f"folds.scheme: {error}") from None
    return Plan(configuration, normalize, corpus, folds, audited, own, other)


def _copies(plan: Plan, contents: Indices) -> list[str]:
    """Notes about copies of recordings. Raises ConfigError if copies break the scheme's promise."""
    table, labels = plan.corpus.manifest.table, plan.corpus.labels
    scheme = plan.configuration.folds
    promise = SCHEMES[scheme.scheme].promise(table, labels, scheme)
    try:
        return audit_copies(table, contents, plan.folds, scheme.scheme, promise)
    except AuditError as error:
        raise ConfigError(f"folds.scheme: {error}") from None


def context_rows(configuration: Configuration, table: pa.Table) -> tuple[Turns, Turns]:
    """The context turns of the same and of other speakers that the configured model reads."""
    context = MODELS[configuration.model.name].context
    speakers, dialogues, turns = _conversation(table)
    if context.kind == "random":
        return random_turns(dialogues, turns, configuration.training.seed)
    if context.kind == "before":
        return turns_before(speakers, dialogues, turns, context.window, context.most)
    return (Turns.none(len(table)),) * 2


def _conversation(table: pa.Table) -> tuple[list[Any], ...]:
    return tuple(table[name].to_pylist() for name in ("speaker", "dialogue", "turn"))


def prepare(
    plan: Plan,
    storage: Storage,
    progress: Callable[[int, int, str | None], None],
    compute: Compute = pool.compute,
) -> Prepared:
    """Extract the features that are missing, and put all data into arrays.

    compute : who extracts: processes of this machine, or Ray's workers (`features.extract.extract`)

    Utterances without features are dropped. The folds are then made and audited again, because
    the scheme may divide the remaining utterances in another way. Raises FeatureError if more
    files than `features.max_errors` cannot be used, and ConfigError as `plan_folds` does, or if
    copies of a recording are in two parts that the scheme promises to keep apart.
    """
    configuration, manifest = plan.configuration, plan.corpus.manifest
    store = extract(
        manifest,
        configuration.features,
        storage.child("features"),
        progress,
        compute=compute,
    )
    check_errors(store, configuration.features)
    features, frames = _load(store, manifest, configuration.features, plan.normalize)

    # Position in the dataset of each row. The last element is for ABSENT, which is -1.
    has_features = pc.is_in(manifest.table["id"], pa.array(features.ids, pa.string()))
    kept = np.flatnonzero(has_features.to_numpy())
    place = np.full(len(manifest.table) + 1, ABSENT, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    if len(kept) < len(manifest.table):
        remaining = replace(manifest, table=manifest.table.take(kept))
        corpus = replace(plan.corpus, manifest=remaining, labels=plan.corpus.labels[kept])
        if (corpus.labels < 0).all():
            raise ConfigError("features.max_errors: no labelled utterance has features; lower it")
        own, other = (turns.take(kept).renumbered(place) for turns in (plan.own, plan.other))
        plan = _planned(configuration, plan.normalize, corpus, own, other)
    corpus = plan.corpus
    copies = _copies(plan, content_numbers(store, features.ids))

    feature_set = configuration.features.load()
    label_or_none = np.append(corpus.labels, -1)  # the last element is for ABSENT
    before = previous_turns(*_conversation(manifest.table))
    previous = [label_or_none[place[turns.newest[kept]]] for turns in before]
    dataset = Dataset(
        frames=features.frames,  # those of the configured normalisation
        offsets=features.offsets,
        segment=configuration.features.cut,
        labels=corpus.labels,
        own=plan.own,
        other=plan.other,
        previous=np.stack(previous),
        ids=features.ids,
        speakers=corpus.manifest.table["speaker"].to_pylist(),
        classes=corpus.classes,
        groups=feature_set.groups,
        picture=feature_set.picture,
    )
    datasets = {name: replace(dataset, frames=values) for name, values in frames.items()}
    if "train" in datasets:
        parts = {fold.name: [features.ids[row] for row in fold.train] for fold in plan.folds}
        datasets["train"] = replace(datasets["train"], statistics=store.statistics(parts))
    fingerprint = hashlib.sha1(features.fingerprint.encode())
    for array in (dataset.labels, *dataset.own, *dataset.other, dataset.previous):
        fingerprint.update(array.astype("<i8").tobytes())
    fingerprint.update("\0".join(dataset.classes).encode())
    summary = summarise_corpus(
        configuration.corpus.name, corpus.manifest, corpus.labels, corpus.classes, audio=False
    )
    notes = [*plan.notes, *copies]
    if features.errors:
        reasons = "; ".join(f"{file}: {reason}" for _, file, reason in features.errors)
        notes.append(f"{len(features.errors)} utterances have no features: {reasons}")
    if features.cut and configuration.features.cap is not None:
        cap = configuration.features.cap
        notes.append(_cut_note(features.cut, cap, len(features.ids), feature_set.rate))
    return Prepared(datasets, plan.folds, fingerprint.hexdigest(), summary, plan.audit, notes)


def _load(
    store: FeatureStore, manifest: Manifest, config: FeatureConfig, normalize: Sequence[str]
) -> tuple[Features, dict[str, NDArray[np.float32]]]:
    """The features of the first of `normalize`, and the frames of each.

    There is one array for each normalisation by speaker, because z-scores are rounded after
    pooling. `train` and `none` share an array.
    """
    loaded: dict[int | None, Features] = {}
    frames = {}
    for value in normalize:
        chosen = type(config).model_validate({**config.model_dump(), "normalize": value})
        if chosen.group not in loaded:
            loaded[chosen.group] = store.load(manifest, chosen)
        frames[value] = loaded[chosen.group].frames
    return next(iter(loaded.values())), frames


def _cut_note(cut: dict[str, int], cap: int, utterances: int, rate: float) -> str:
    """The sentences about utterances of which only the first `cap` frames are kept.

    rate : frames in a second
    """
    kept, lost, longest = (
        frames / rate for frames in (cap, sum(cut.values()) - cap * len(cut), max(cut.values()))
    )
    return (
        f"{len(cut)} of {utterances} utterances are longer than features.max_frames ({cap} frames, "
        f"{kept:g} s) and are cut there: {lost:.1f} s are left out, and the longest utterance has "
        f"{longest:.1f} s. Raise features.max_frames to keep more."
    )
