"""What a sweep's corpus and feature store still tell about its speakers."""

from collections.abc import Mapping, Sequence

from features.extract import extract
from features.shards import Key
from features.statistics import Statistics, statistics_of
from features.storage import Storage
from orchestrator.config.sections import Configuration
from orchestrator.data.corpus import read_corpus
from orchestrator.errors import ConfigError
from orchestrator.inference.speakers import typical
from orchestrator.ledger.ledger import Ledger


def typical_speakers(
    ledger: Ledger, configuration: Configuration, training: Mapping[str, Sequence[str]]
) -> dict[str, Statistics]:
    """The typical training speaker of each fold of a sweep.

    training : fold -> its training speakers

    Features that the store lacks are extracted. Raises ConfigError if the corpus cannot be read, or
    has changed.
    """
    try:
        manifest = read_corpus(configuration.corpus).manifest
    except ConfigError as error:
        raise ConfigError(
            f"some speakers have little audio, so the statistics of the training speakers are "
            f"needed, but the corpus cannot be read: {error}. Give more audio of each speaker, or "
            f"`ser export` the model on the machine that has the corpus"
        ) from None
    store = extract(manifest, configuration.features, _features(ledger))
    usable = [
        (row, entry)
        for row in store.rows
        if row["source"] is not None
        and (entry := store.index.get(Key.of(row))) is not None
        and entry.error is None
    ]
    known = statistics_of(usable)
    missing = sorted({name for names in training.values() for name in names} - known.keys())
    if missing:
        raise ConfigError(
            f"corpus.root: speaker {missing[0]} trained the model, but has no features in "
            f"{configuration.corpus.root}. Restore the corpus, or run the sweep again"
        )
    return {fold: typical([known[name] for name in names]) for fold, names in training.items()}


def _features(ledger: Ledger) -> Storage:
    """The feature store, which is beside the sweep's folder."""
    storage = ledger.storage
    root = storage.root.rstrip("/").rpartition("/")[0]
    return Storage(storage.filesystem, root, storage.waits).child("features")
