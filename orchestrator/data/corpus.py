"""Read a corpus: its manifest, and the class of each utterance."""

import csv
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.context import Indices
from features.corpora import CORPORA
from features.errors import ManifestError
from features.manifest import Manifest
from orchestrator.config.sections import CorpusConfig
from orchestrator.errors import ConfigError


@dataclass(frozen=True)
class Corpus:
    """A manifest with the class of each row.

    labels : (utterances,) position in `classes`, or -1 for another label or no label
    """

    manifest: Manifest
    labels: Indices
    classes: tuple[str, ...]


def read_corpus(corpus: CorpusConfig) -> Corpus:
    """Read and check the manifest, without its audio. Raises ConfigError.

    If `corpus.classes` is None, every label that occurs is a class.
    """
    if corpus.name not in CORPORA:
        known = ", ".join(sorted(CORPORA))
        raise ConfigError(f"corpus.name: no corpus {corpus.name}; known: {known}")
    try:
        manifest = CORPORA[corpus.name](corpus.root)
    except (ManifestError, OSError) as error:
        raise ConfigError(f"corpus.root: {error}") from None
    except csv.Error as error:
        raise ConfigError(f"corpus.root: cannot read {corpus.root} as CSV: {error}") from None
    table = manifest.table
    for column, values in corpus.only.items():
        names = [field.name for field in table.schema if pa.types.is_string(field.type)]
        if column not in names:
            raise ConfigError(
                f"corpus.only: the manifest has no text column {column}. Use one of "
                f"{', '.join(names)}"
            )
        occurring = ", ".join(sorted(map(str, pc.unique(table[column]).to_pylist())))
        table = table.filter(pc.is_in(table[column], pa.array(values, pa.string())))
        if not len(table):
            raise ConfigError(
                f"corpus.only: no row has {column} {' or '.join(values)}. Values that occur: "
                f"{occurring}"
            )
    merged = [corpus.merge.get(label, label) for label in table["emotion"].to_pylist()]
    labels = Counter(label for label in merged if label is not None)
    classes = tuple(sorted(labels)) if corpus.classes is None else corpus.classes
    for name in classes:
        if name not in labels:
            counts = ", ".join(f"{label} ({count})" for label, count in labels.most_common())
            raise ConfigError(
                f"corpus.classes: no utterance has the label {name} (labels: {counts}). Remove the "
                f"class, or rename a label with corpus.merge"
            )
    position = {name: index for index, name in enumerate(classes)}
    numbers = np.asarray([position.get(label, -1) for label in merged], dtype=np.int64)
    return Corpus(replace(manifest, table=table), numbers, classes)
