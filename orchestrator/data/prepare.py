"""From a configuration to the data that its trials share."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import pool
from features.cache import CachedFrames
from features.context import ABSENT, Indices, Turns, previous_turns, random_turns, turns_before
from features.copies import content_numbers
from features.extract import Compute, extract, extraction_hash
from features.sets import FeatureConfig
from features.sets.base import by_speaker
from features.storage import Storage
from features.store import FeatureStore, Layout, check_errors
from orchestrator.config import registry
from orchestrator.config.searched import features_key
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
from orchestrator.ledger.records import Audit, CorpusSummary, FeatureFiles


@dataclass(frozen=True)
class Plan:
    """A corpus and its folds, before any audio is opened.

    own, other : rows of the context turns that the model reads
    features : the sections `features` of all trials
    """

    configuration: Configuration
    features: tuple[FeatureConfig, ...]
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

    datasets : by `features_key`. Those of one feature set share all arrays but `frames`, and
        `frames` too if they keep them as extracted
    fingerprints : by `features_key`: SHA-1 of all data that trials with these features read or
        write down: features, classes and context
    notes : those of the plan, and sentences about the features
    """

    datasets: Mapping[str, Dataset]
    folds: list[Fold]
    fingerprints: Mapping[str, str]
    summary: CorpusSummary
    audit: Audit
    notes: list[str]

    @property
    def dataset(self) -> Dataset:
        """The first dataset. All datasets have the same utterances, classes and context."""
        return next(iter(self.datasets.values()))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the data of all trials."""
        different = list(dict.fromkeys(self.fingerprints.values()))
        if len(different) == 1:
            return different[0]
        return hashlib.sha1("\0".join(different).encode()).hexdigest()

    def fingerprint_of(self, features: FeatureConfig) -> str:
        """The fingerprint of the data that trials with these `features` read."""
        return self.fingerprints[features_key(features)]


def plan_folds(configuration: Configuration, features: Sequence[FeatureConfig] = ()) -> Plan:
    """Read the corpus, make its folds and audit them.

    features : the sections `features` of all trials; by default the configured one

    Raises ConfigError if the corpus cannot be used or does not fit the scheme, or if the folds
    break the scheme's promise.
    """
    corpus = read_corpus(configuration.corpus)
    context = context_rows(configuration, corpus.manifest.table)
    return _planned(configuration, tuple(features) or (configuration.features,), corpus, *context)


def _planned(
    configuration: Configuration,
    features: tuple[FeatureConfig, ...],
    corpus: Corpus,
    own: Turns,
    other: Turns,
) -> Plan:
    table, labels, classes = corpus.manifest.table, corpus.labels, corpus.classes
    scheme = configuration.folds
    folds = make_folds(table, labels, classes, scheme)
    normalize = tuple(dict.fromkeys(each.normalize for each in features))
    coverage = (
        speaker_coverage(corpus.manifest, labels) if any(map(by_speaker, normalize)) else None
    )
    try:
        audited = audit(table, labels, classes, folds, own, other, scheme, normalize, coverage)
    except AuditError as error:
        raise ConfigError(f"folds.scheme: {error}") from None
    return Plan(configuration, features, corpus, folds, audited, own, other)


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
    context = registry.model(configuration.model.name).context
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
    """Extract the features that are missing, and put all data but the frames into arrays.

    Frames are read from a file, which a process makes at its first read (`features.cache`).

    compute : who extracts: processes of this machine, or Ray's workers (`features.extract.extract`)

    Utterances without features are dropped. If the trials read several feature sets, an utterance
    that lacks the features of one of them is dropped for all trials, so that all trials have the
    same folds. The folds are then made and audited again, because the scheme may divide the
    remaining utterances in another way. Raises FeatureError if more files than
    `features.max_errors` cannot be used, and ConfigError as `plan_folds` does, or if copies of a
    recording are in two parts that the scheme promises to keep apart.
    """
    configuration, manifest = plan.configuration, plan.corpus.manifest
    stores: dict[str, FeatureStore] = {}
    for config in plan.features:
        extraction = extraction_hash(config)
        if extraction not in stores:
            store = extract(manifest, config, storage.child("features"), progress, compute=compute)
            check_errors(store, config)
            stores[extraction] = store
    failed = {name for store in stores.values() for name, _, _ in store.errors()}

    # Position in the dataset of each row. The last element is for ABSENT, which is -1.
    lacking = pc.is_in(manifest.table["id"], pa.array(sorted(failed), pa.string()))
    kept = np.flatnonzero(~lacking.to_numpy())
    place = np.full(len(manifest.table) + 1, ABSENT, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    if len(kept) < len(manifest.table):
        remaining = replace(manifest, table=manifest.table.take(kept))
        corpus = replace(plan.corpus, manifest=remaining, labels=plan.corpus.labels[kept])
        if (corpus.labels < 0).all():
            raise ConfigError("features.max_errors: no labelled utterance has features; lower it")
        own, other = (turns.take(kept).renumbered(place) for turns in (plan.own, plan.other))
        plan = _planned(configuration, plan.features, corpus, own, other)
    corpus = plan.corpus
    ids = corpus.manifest.table["id"].to_pylist()
    copies = _copies(plan, content_numbers(next(iter(stores.values())), ids))

    label_or_none = np.append(corpus.labels, -1)  # the last element is for ABSENT
    before = previous_turns(*_conversation(manifest.table))
    previous = np.stack([label_or_none[place[turns.newest[kept]]] for turns in before])
    parts = {fold.name: [ids[row] for row in fold.train] for fold in plan.folds}
    loaded: dict[str, tuple[Layout, CachedFrames]] = {}
    datasets, fingerprints = {}, {}
    for config in plan.features:
        store, feature_set = stores[extraction_hash(config)], config.load()
        key = features_key(config)
        form = _form(config)
        if form not in loaded:
            layout = store.layout(corpus.manifest, config)
            loaded[form] = layout, _cached(layout, configuration)
        layout, frames = loaded[form]
        datasets[key] = Dataset(
            frames=frames,
            offsets=layout.source.offsets,
            segment=config.cut,
            labels=corpus.labels,
            own=plan.own,
            other=plan.other,
            previous=previous,
            ids=ids,
            speakers=corpus.manifest.table["speaker"].to_pylist(),
            classes=corpus.classes,
            groups=feature_set.groups,
            picture=feature_set.picture,
            frame=config.pooling / feature_set.rate,
            statistics=store.statistics(parts) if config.normalize == "train" else {},
        )
        fingerprints[key] = _fingerprint(layout, datasets[key])
    summary = summarise_corpus(
        configuration.corpus.name, corpus.manifest, corpus.labels, corpus.classes, audio=False
    )
    notes = [*plan.notes, *copies, *_error_notes(list(stores.values()), len(failed))]
    for config in plan.features:
        cut, cap = loaded[_form(config)][0].cut, config.cap
        if cut and cap is not None:
            note = _cut_note(cut, cap, len(ids), config.load().rate)
            notes += [note] if note not in notes else []
    return Prepared(datasets, plan.folds, fingerprints, summary, plan.audit, notes)


def feature_files(sets: Iterable[FeatureConfig]) -> list[FeatureFiles]:
    """The files that these feature sets name, each once, for the sweep's record."""
    found: list[FeatureFiles] = []
    for config in sets:
        if files := config.files():
            entry = FeatureFiles(files=files, contents=list(config.load().contents))
            found += [] if entry in found else [entry]
    return found


def _form(config: FeatureConfig) -> str:
    """What decides the frames that a store gives.

    There is one file for each normalisation by speaker, because z-scores are rounded after
    pooling, and cost more than a batch of a GPU has time for. `train` and `none` share a file.
    """
    options = config.model_dump(mode="json", exclude={"normalize", "max_errors"})
    return json.dumps([options, config.group])


def _cached(layout: Layout, configuration: Configuration) -> CachedFrames:
    """The frames of a layout, in the folder that the configuration names."""
    cluster = configuration.cluster
    folder = cluster.cache
    if folder is not None and not folder.startswith("~"):
        folder = os.path.abspath(folder)  # workers may have another working directory
    return CachedFrames(layout.source, folder, int(cluster.cache_gb * 1e9))


def _fingerprint(layout: Layout, dataset: Dataset) -> str:
    """SHA-1 of all data that a trial reads or writes down."""
    fingerprint = hashlib.sha1(layout.fingerprint.encode())
    for array in (dataset.labels, *dataset.own, *dataset.other, dataset.previous):
        fingerprint.update(array.astype("<i8").tobytes())
    fingerprint.update("\0".join(dataset.classes).encode())
    return fingerprint.hexdigest()


def _error_notes(stores: list[FeatureStore], utterances: int) -> list[str]:
    """A sentence about the utterances without features; `utterances` is their number."""
    reasons = dict.fromkeys(
        f"{file}: {reason}" if len(stores) == 1 else f"{file} ({store.name}): {reason}"
        for store in stores
        for _, file, reason in store.errors()
    )
    if not reasons:
        return []
    left_out = ""
    if len(stores) > 1:
        left_out = " of at least one feature set, and are left out of all trials"
    return [f"{utterances} utterances have no features{left_out}: {'; '.join(reasons)}"]


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
