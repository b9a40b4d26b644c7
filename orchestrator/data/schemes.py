"""Schemes: the ways to divide a corpus into folds. SCHEMES has one entry for each.

In every fold of every scheme, each labelled utterance is in exactly one part, and no other
utterance is in a part. The promise of a scheme says which rule its folds keep in addition;
the audit (`orchestrator.data.audit`) checks both rules before every training.

Under `selection: held_out` there is no validation part. Its utterances train, unless the scheme's
docstring says otherwise.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from features.context import Indices
from features.errors import shorten
from orchestrator.config import sections
from orchestrator.data.folds import Fold, Promise, codes
from orchestrator.errors import ConfigError

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "development", "devel", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "evaluation", "eval"), "test"),
}
"""Names that corpora use for their parts, in lower case."""


class Scheme(NamedTuple):
    """One way to divide a corpus: both functions take the manifest, labels (utterances,), options.

    make : returns the folds
    promise : returns the rule that these folds keep
    """

    make: Callable[[pa.Table, Indices, Any], list[Fold]]
    promise: Callable[[pa.Table, Indices, Any], Promise]


def _parts(config: sections.FoldsConfig) -> int:
    """Number of parts of a fold, and so the smallest number of groups."""
    return 3 if config.selection == "validation" else 2


def _groups(
    table: pa.Table, labelled: Indices, column: str, config: sections.FoldsConfig, smallest: int = 1
) -> tuple[Indices, list[str]]:
    """The group of each labelled utterance, and the names of the groups that occur.

    Raises ConfigError if a labelled row has no group, or if there are fewer than `smallest`.
    """
    every_group, names = codes(table[column])
    group = every_group[labelled]
    missing = labelled[group < 0]
    if len(missing) == len(labelled):
        raise ConfigError(
            f"folds.scheme: {config.scheme} needs the manifest's column `{column}`, which is "
            f"missing or empty. Add the column, or choose another scheme"
        )
    if len(missing):
        rows = [
            f"row {row + 1}, {table['id'][row]}, speaker {table['speaker'][row]}"
            for row in missing.tolist()
        ]
        raise ConfigError(
            f"folds.scheme: {config.scheme} needs a {column} in every labelled row, but "
            f"{len(missing)} rows have no {column}: {shorten(rows, separator='; ')}. Complete the "
            f"manifest, or choose another scheme"
        )
    occurring, group = np.unique(group, return_inverse=True)
    names = [names[code] for code in occurring]
    if len(names) < smallest:
        divides = "folds" in type(config).model_fields
        raise ConfigError(
            f"folds.{'folds' if divides else 'scheme'}: {config.scheme} with selection "
            f"{config.selection} needs at least {smallest} {column}s with labelled utterances, but "
            f"the manifest has {len(names)}: {', '.join(names)}. "
            f"{'Lower folds.folds' if divides else 'Choose another scheme'}"
        )
    return group, names


def _rotation(
    labelled: Indices,
    group: Indices,
    names: Sequence[str],
    config: sections.FoldsConfig,
    pairs: bool = False,
) -> list[Fold]:
    """One fold for each group: the group tests, and the next group (cyclically) validates.

    labelled : (labelled,) rows
    group : (labelled,) position in the names
    pairs : whether the next group tests too if there is no validation part
    """
    folds = []
    for position, name in enumerate(names):
        tests, selects = group == position, group == (position + 1) % len(names)
        if config.selection == "held_out":
            tests, selects = tests | (selects & pairs), np.zeros_like(tests)
        folds.append(Fold(name, labelled[~tests & ~selects], labelled[selects], labelled[tests]))
    return folds


def _numbered(word: str, count: int) -> list[str]:
    """`word 01` to `word 10`: names whose alphabetical order is their order."""
    return [f"{word} {number:0{len(str(count))}d}" for number in range(1, count + 1)]


def leave_one_group_out(
    table: pa.Table, labels: Indices, config: sections.FoldsConfig, column: str
) -> list[Fold]:
    """One fold for each value of a column. Its utterances test; no value is in two parts.

    Each labelled utterance is tested once. The validation part is the value after the test part,
    in natural order.
    """
    labelled = np.flatnonzero(labels >= 0)
    group, names = _groups(table, labelled, column, config, _parts(config))
    return _rotation(labelled, group, names, config)


def random_repeated(
    table: pa.Table, labels: Indices, config: sections.RandomRepeated
) -> list[Fold]:
    """Each of `folds` folds shuffles the utterances, and a `test_share` of them tests.

    Speaker-dependent: the same speakers and dialogues are in all parts. Chance decides how many
    folds test an utterance; for some utterances this number may be 0. Source: SSA-CRNN (Le Moine,
    Obin and Roebel, Interspeech 2021), ten random 80/20 splits. Our choice: the share is taken of
    each class, so that every part has every class in the same proportion.

    The validation part has the size of the test part and follows it in the shuffled order; the
    rest trains. With a smaller `folds`, the first folds stay the same.
    """
    parts = _parts(config)
    members = [np.flatnonzero(labels == c) for c in np.unique(labels[labels >= 0])]
    smallest = min(members, key=len)
    if len(smallest) < parts:
        row = int(smallest[0])
        raise ConfigError(
            f"folds.scheme: random_repeated with selection {config.selection} needs {parts} "
            f"utterances of each class, but the class of row {row + 1}, {table['id'][row]}, has "
            f"{len(smallest)}. Remove the class from corpus.classes"
        )
    folds = []
    for number, name in enumerate(_numbered("split", config.folds)):
        generator = np.random.default_rng([config.seed, number])
        cuts = []
        for rows in members:
            size = round(config.test_share * len(rows))
            size = min(max(size, 1), (len(rows) - 1) // (parts - 1))
            ends = [size, 2 * size if parts == 3 else size]
            cuts.append(np.split(generator.permutation(rows), ends))
        test, validation, train = (np.sort(np.concatenate(cut)) for cut in zip(*cuts, strict=True))
        folds.append(Fold(name, train, validation, test))
    return folds


def _check_count(
    config: sections.PhraseGroups | sections.StratifiedGroupKFold, smallest: int
) -> None:
    if config.folds < smallest:
        raise ConfigError(
            f"folds.folds: {config.scheme} with selection {config.selection} needs at least "
            f"{smallest}, not {config.folds}"
        )


def phrase_groups(table: pa.Table, labels: Indices, config: sections.PhraseGroups) -> list[Fold]:
    """Divide the phrases at random into `folds` groups of similar size.

    Speaker-dependent, but no phrase is in two parts. Two neighbouring groups of each fold do not
    train. Under `validation` the first tests and the second validates: each labelled utterance is
    tested once. Under `held_out` both test: each labelled utterance is tested twice. Source:
    SSA-CRNN on Att-HACK: 100 phrases in ten random groups of ten; each of ten folds trains on 80
    phrases and validates on 20. The choice of neighbouring groups is ours.
    """
    labelled = np.flatnonzero(labels >= 0)
    _check_count(config, 3)
    phrase, phrases = _groups(table, labelled, "phrase", config, config.folds)
    group_of = np.empty(len(phrases), dtype=np.int64)
    shuffled = np.random.default_rng(config.seed).permutation(len(phrases))
    for number, members in enumerate(np.array_split(shuffled, config.folds)):
        group_of[members] = number
    names = _numbered("phrases", config.folds)
    return _rotation(labelled, group_of[phrase], names, config, pairs=True)


def stratified_group_k_fold(
    table: pa.Table, labels: Indices, config: sections.StratifiedGroupKFold
) -> list[Fold]:
    """Divide the groups into `folds` parts with similar shares of the classes.

    Each labelled utterance is tested once, and no group is in two parts. The validation part of a
    fold is the test part of the next fold. The division is scikit-learn's StratifiedGroupKFold
    with shuffling: the seed decides between groups that fit equally well, and nothing else.
    """
    from sklearn import model_selection

    labelled = np.flatnonzero(labels >= 0)
    _check_count(config, _parts(config))
    group, _ = _groups(table, labelled, config.group, config, config.folds)
    largest = np.bincount(labels[labelled]).max()
    if largest < config.folds:
        raise ConfigError(
            f"folds.folds: {config.folds} folds need a class of as many utterances, but no class "
            f"has more than {largest}. Lower folds.folds"
        )
    splitter = model_selection.StratifiedGroupKFold(
        config.folds, shuffle=True, random_state=config.seed
    )
    part = np.empty(len(labelled), dtype=np.int64)
    with warnings.catch_warnings():  # scikit-learn warns of rare classes, which the audit counts
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, tests) in enumerate(splitter.split(labelled, labels[labelled], group)):
            part[tests] = number
    return _rotation(labelled, part, _numbered("part", config.folds), config)


def corpus_folds(table: pa.Table, labels: Indices, config: sections.CorpusFolds) -> list[Fold]:
    """The corpus's own folds: the manifest's column `fold` or, if that is empty, `split`.

    `fold`: one fold for each value, which tests; the next value validates. Each labelled utterance
    is tested once. `split`: one fold of the rows named train, validation (or dev) and test; under
    `held_out` the validation rows train. The corpus decides whether parts share speakers; the
    audit counts them.
    """
    labelled = np.flatnonzero(labels >= 0)
    if _has_folds(table, labels):
        return leave_one_group_out(table, labels, config, "fold")
    if table["split"].null_count == len(table):
        raise ConfigError(
            "folds.scheme: corpus needs the manifest's column `fold` or `split`, but both are "
            "missing or empty. Add a column, or choose another scheme"
        )
    group, names = _groups(table, labelled, "split", config)
    for code, name in enumerate(names):
        if name.lower() not in SPLITS:
            row = int(labelled[group == code][0])
            raise ConfigError(
                f"folds.scheme: corpus knows the splits train, validation and test, but row "
                f"{row + 1}, {table['id'][row]}, has {name}. Rename the split in the manifest"
            )
    part = np.asarray([SPLITS[name.lower()] for name in names])[group]
    if config.selection == "held_out":
        part[part == "validation"] = "train"
    for name in ("train", "validation", "test"):
        optional = name == "validation" and config.selection == "held_out"
        if not optional and not (part == name).any():
            other = ", or set folds.selection: held_out" if name == "validation" else ""
            raise ConfigError(
                f"folds.scheme: corpus with selection {config.selection} needs labelled rows whose "
                f"`split` is {name}, but the manifest has no such row. Mark some rows{other}"
            )
    return [Fold("corpus", *(labelled[part == p] for p in ("train", "validation", "test")))]


def _has_folds(table: pa.Table, labels: Indices) -> bool:
    """Whether the column `fold` (and not `split`) gives the corpus's own folds."""
    return bool((codes(table["fold"])[0][labels >= 0] >= 0).any())


def _by_column(column: str) -> Scheme:
    make = partial(leave_one_group_out, column=column)
    return Scheme(make, lambda *_: Promise(column, 1))


SCHEMES = {
    "leave_one_session_out": _by_column("session"),
    "leave_one_speaker_out": _by_column("speaker"),
    "random_repeated": Scheme(random_repeated, lambda *_: Promise(None, None)),
    "phrase_groups": Scheme(
        phrase_groups,
        lambda table, labels, config: Promise("phrase", 2 if config.selection == "held_out" else 1),
    ),
    "stratified_group_k_fold": Scheme(
        stratified_group_k_fold, lambda table, labels, config: Promise(config.group, 1)
    ),
    "corpus": Scheme(
        corpus_folds,
        lambda table, labels, config: Promise(None, 1 if _has_folds(table, labels) else None),
    ),
}
