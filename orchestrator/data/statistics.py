"""Counts of a corpus, for `ser corpus` and the report."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from features.context import ABSENT, Indices, Turns, previous_turns
from features.manifest import Manifest
from orchestrator.config.sections import FoldsConfig
from orchestrator.data.audio_headers import AudioHeaders, read_headers
from orchestrator.data.audit import AuditError, audit
from orchestrator.data.corpus import Corpus
from orchestrator.data.folds import make_folds
from orchestrator.errors import ConfigError
from orchestrator.ledger.records import Audit, ContextCounts, CorpusSummary, ProblemRecord


def summarise_corpus(
    corpus: str, manifest: Manifest, labels: Indices, classes: Sequence[str], audio: bool = True
) -> CorpusSummary:
    """Counts of a corpus.

    corpus : the reader's name
    labels : (utterances,) position in `classes`, or -1 for another label or no label
    audio : whether to read the headers of local recordings
    """
    table = manifest.table

    def counts(column: str) -> dict[str, int]:
        return dict(sorted(Counter(table[column].drop_null().to_pylist()).items()))

    heard = read_headers(manifest) if audio else AudioHeaders(None)
    problems = (*manifest.problems, *heard.problems)
    return CorpusSummary(
        corpus=corpus,
        utterances=len(table),
        labelled=int((labels >= 0).sum()),
        duration_s=None if heard.seconds is None else round(heard.seconds, 3),
        sample_rates=heard.sample_rates,
        channels=heard.channels,
        formats=heard.formats,
        classes={name: int((labels == index).sum()) for index, name in enumerate(classes)},
        speakers=counts("speaker"),
        sessions=counts("session"),
        dialogues=len(counts("dialogue")),
        context=context_counts(manifest, labels),
        problems=[ProblemRecord(file=each.file, reason=each.reason) for each in problems],
    )


def audit_of_corpus(corpus: Corpus, config: FoldsConfig) -> Audit:
    """The audit of a corpus's folds, without context turns and without a model.

    Raises ConfigError if the corpus does not fit the scheme, or if the folds break its promise.
    """
    table, labels = corpus.manifest.table, corpus.labels
    folds = make_folds(table, labels, corpus.classes, config)
    without = Turns.none(len(labels))
    try:
        return audit(table, labels, corpus.classes, folds, without, without, config)
    except AuditError as error:
        raise ConfigError(f"folds.scheme: {error}") from None


def context_counts(manifest: Manifest, labels: Indices) -> ContextCounts:
    """How the classes of the labelled utterances agree with those of their context.

    `both_same`, `one_same` and `none_same` count utterances whose class is the class of both, one
    or none of two turns: the last turn of the same speaker, and that of the other speaker. A turn
    that is absent, or has no class, agrees with no utterance.
    """
    columns = (manifest.table[name].to_pylist() for name in ("speaker", "dialogue", "turn"))
    labelled = np.flatnonzero(labels >= 0)
    # (own and other, labelled)
    before = np.stack([turns.newest[labelled] for turns in previous_turns(*columns)])
    agree = ((before != ABSENT) & (labels[before] == labels[labelled])).sum(axis=0)
    none, one, both = (np.bincount(agree, minlength=3) / max(len(labelled), 1)).tolist()
    own, other = (before == ABSENT).sum(axis=1).tolist()
    return ContextCounts(
        both_same=both,
        one_same=one,
        none_same=none,
        no_previous_own=own,
        no_previous_other=other,
    )
