"""Read a corpus: its manifest, and the class of each utterance."""

import csv
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import arrow_column
from features.context import Indices
from features.errors import ManifestError
from features.manifest import Manifest, Problem
from features.names import spelling
from orchestrator.config import registry
from orchestrator.config.sections import CorpusConfig
from orchestrator.data.doubts import label_doubts, only_doubts, row_doubts
from orchestrator.errors import ConfigError
from search_spaces.plain_yaml import as_yaml


@dataclass(frozen=True)
class Corpus:
    """A manifest with the class of each row.

    labels : (utterances,) position in `classes`, or -1 for another label or no label
    doubts : probable mistakes (`orchestrator.data.doubts`), also among the manifest's problems
    """

    manifest: Manifest
    labels: Indices
    classes: tuple[str, ...]
    doubts: tuple[Problem, ...] = ()


def read_corpus(corpus: CorpusConfig) -> Corpus:
    """Read and check the manifest, without its audio. Raises ConfigError.

    If `corpus.classes` is None, every label that occurs is a class.
    """
    reader = registry.corpus(corpus.name)
    try:
        manifest = reader(corpus.root)
    except (ManifestError, OSError) as error:
        raise ConfigError(f"corpus.root: {error}") from None
    except csv.Error as error:
        raise ConfigError(f"corpus.root: cannot read {corpus.root} as CSV: {error}") from None
    table, doubts = manifest.table, list[Problem]()
    for column, values in corpus.only.items():
        names = [field.name for field in table.schema if pa.types.is_string(field.type)]
        if column not in names:
            raise ConfigError(
                f"corpus.only: the manifest has no text column {column}. Use one of "
                f"{', '.join(names)}"
            )
        occurring = Counter(table[column].drop_null().to_pylist())
        doubts += only_doubts(column, values, occurring)
        table = table.filter(pc.is_in(table[column], arrow_column(values, pa.string())))
        if not len(table):
            raise ConfigError(
                f"corpus.only: no row has {column} {' or '.join(values)}. Values that occur: "
                f"{', '.join(sorted(occurring)) or 'none'}"
            )
    raw = table["emotion"].to_pylist()
    merged = [corpus.merge.get(label, label) for label in raw]
    labels = Counter(label for label in merged if label is not None)
    classes = tuple(sorted(labels)) if corpus.classes is None else corpus.classes
    for name in classes:
        if name not in labels:
            counts = ", ".join(f"{label} ({count})" for label, count in labels.most_common())
            alike = {label: name for label in labels if spelling(label) == spelling(name)}
            example = f", as in {as_yaml(alike)}" if alike else ""
            raise ConfigError(
                f"corpus.classes: no utterance has the label {name} (labels: {counts}). Remove the "
                f"class, or rename a label with corpus.merge{example}"
            )
    position = {name: index for index, name in enumerate(classes)}
    numbers = np.asarray([position.get(label, -1) for label in merged], dtype=np.int64)
    doubts += label_doubts(corpus, Counter(label for label in raw if label is not None), classes)
    doubts += row_doubts(table)
    manifest = replace(manifest, table=table, problems=(*manifest.problems, *doubts))
    return Corpus(manifest, numbers, classes, tuple(doubts))
