"""Who trains, who selects the epoch, who tests.

In every fold of every scheme each labelled utterance is in exactly one of the three parts, and
an utterance without a label is in none. What a scheme promises besides is in its docstring and,
for the audit that runs before every training (`orchestrator.audit`), in `promise`.

Under `selection: held_out` there is no validation part; what would have been in it trains,
except where a docstring says otherwise.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.config.sections import ConfigError, FoldsConfig

Indices = NDArray[np.int64]

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "development", "devel", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "evaluation", "eval"), "test"),
}
"""What corpora call their parts, in lower case."""


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


@dataclass(frozen=True)
class Promise:
    """What a scheme keeps, beyond a place for every labelled utterance.

    unit : the column whose values are never on two sides of a fold, or None
    tests : in how many folds each labelled utterance is tested; None where it depends on chance
        or on the corpus
    """

    unit: str | None
    tests: int | None


def codes(column: pa.ChunkedArray) -> tuple[Indices, list[str]]:
    """The values of a string column as numbers.

    Shapes
    ------
    returns : (rows,) position in the names, -1 for null; the names in their natural order, in
        which 10 comes after 9
    """
    encoded = column.combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=lambda index: (_natural(found[index]), found[index]))
    place = np.empty(len(found) + 1, dtype=np.int64)
    place[order] = np.arange(len(found))
    place[-1] = -1
    return place[encoded.indices.fill_null(-1).to_numpy()], [found[index] for index in order]


def _natural(name: str) -> list[Any]:
    """Words and numbers in turn: a key that sorts numbers by their value."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def _groups(
    table: pa.Table, labelled: Indices, column: str, scheme: str
) -> tuple[Indices, list[str]]:
    """The group of each labelled utterance, and the names of the groups that occur.

    Raises ConfigError naming the first labelled row that has none.
    """
    group, names = codes(table.column(column))
    group = group[labelled]
    missing = labelled[group < 0]
    if len(missing) == len(labelled):
        raise ConfigError(
            f"folds.scheme: {scheme} needs the manifest's column `{column}`, which is missing "
            f"or empty; add it, or choose another scheme"
        )
    if len(missing):
        row = int(missing[0])
        raise ConfigError(
            f"folds.scheme: {scheme} needs a {column} in every labelled row, and {len(missing)} "
            f"have none; the first is row {row + 1}: {table['id'][row]}, "
            f"speaker {table['speaker'][row]}"
        )
    occurring, group = np.unique(group, return_inverse=True)
    return group, [names[code] for code in occurring]


def _enough(count: int, needed: int, what: str, names: Sequence[str], config: FoldsConfig) -> None:
    if count < needed:
        raise ConfigError(
            f"folds.scheme: {config.scheme} with selection {config.selection} needs at least "
            f"{needed} {what}s with labelled utterances; the manifest has {count}: "
            f"{', '.join(names)}"
        )


def _can_divide(count: int, what: str, needed: int, config: FoldsConfig) -> None:
    assert config.folds is not None
    if config.folds < needed:
        raise ConfigError(
            f"folds.folds: {config.scheme} with selection {config.selection} needs at least "
            f"{needed}, not {config.folds}"
        )
    if count < config.folds:
        raise ConfigError(
            f"folds.folds: {config.folds} folds need as many {what}s with labelled utterances, "
            f"and the manifest has {count}; lower folds.folds"
        )


def _rotation(
    labelled: Indices, group: Indices, names: Sequence[str], config: FoldsConfig
) -> list[Fold]:
    """A fold a group: the group tests, and the one after it validates, the first after the last.

    Shapes
    ------
    labelled : (labelled,) rows; group : (labelled,) position in the names
    """
    folds = []
    for position, name in enumerate(names):
        tests = group == position
        selects = np.zeros_like(tests)
        if config.selection == "validation":
            selects = group == (position + 1) % len(names)
        folds.append(Fold(name, labelled[~tests & ~selects], labelled[selects], labelled[tests]))
    return folds


def _numbered(word: str, count: int) -> list[str]:
    """`word 01` to `word 10`: names that sort in their order."""
    return [f"{word} {number:0{len(str(count))}d}" for number in range(1, count + 1)]


def _leave_one_group_out(column: str) -> Callable[[pa.Table, Indices, FoldsConfig], list[Fold]]:
    """A fold a group; each labelled utterance is tested once, and no group is on two sides.

    The validation part is the group after the test part, in the order of their names.
    """

    def scheme(table: pa.Table, labels: Indices, config: FoldsConfig) -> list[Fold]:
        labelled = np.flatnonzero(labels >= 0)
        group, names = _groups(table, labelled, column, config.scheme)
        needed = 3 if config.selection == "validation" else 2
        _enough(len(names), needed, column, names, config)
        return _rotation(labelled, group, names, config)

    return scheme


def random_repeated(table: pa.Table, labels: Indices, config: FoldsConfig) -> list[Fold]:
    """`folds` times a fresh shuffle of the utterances, of which `test_share` tests.

    Speaker-dependent: the same voices, and the same dialogues, are on all sides. An utterance is
    tested in as many folds as chance has it, in some corpora in none. Source: SSA-CRNN (Le Moine,
    Obin and Roebel, Interspeech 2021), ten random 80/20 splits. Ours: the shares are taken of each
    class, so that every part has every class and none swings with the draw.

    The validation part is as large as the test part, and comes after it in the same shuffle; the
    rest trains. The first folds of more folds are the folds of fewer.
    """
    assert config.folds is not None
    assert config.test_share is not None
    assert config.seed is not None
    labelled = np.flatnonzero(labels >= 0)
    parts = 3 if config.selection == "validation" else 2
    members = [labelled[labels[labelled] == c] for c in np.unique(labels[labelled])]
    smallest = min(members, key=len, default=labelled)
    if len(smallest) < parts:
        row = int(smallest[0]) if len(smallest) else 0
        raise ConfigError(
            f"folds.scheme: random_repeated with selection {config.selection} needs {parts} "
            f"utterances of each class; that of row {row + 1}, {table['id'][row]}, has "
            f"{len(smallest)}; leave the class out"
        )
    folds = []
    for number, name in enumerate(_numbered("split", config.folds)):
        generator = np.random.default_rng([config.seed, number])
        cut: list[list[Indices]] = [[], [], []]
        for rows in members:
            shuffled = generator.permutation(rows)
            size = round(config.test_share * len(rows))
            size = min(max(size, 1), (len(rows) - 1) // (parts - 1))
            tests, rest = shuffled[:size], shuffled[size:]
            selects = rest[:size] if parts == 3 else rest[:0]
            for part, chosen in zip(cut, (rest[len(selects) :], selects, tests), strict=True):
                part.append(chosen)
        folds.append(Fold(name, *(np.sort(np.concatenate(part)) for part in cut)))
    return folds


def phrase_groups(table: pa.Table, labels: Indices, config: FoldsConfig) -> list[Fold]:
    """The phrases, shuffled, in `folds` groups of like size; no phrase is on two sides of a fold.

    Speaker-dependent. Each fold keeps two neighbouring groups from training. Under `validation`
    the first tests and the second validates: each labelled utterance is tested once. Under
    `held_out` both test: each labelled utterance is tested twice. Source: SSA-CRNN, Att-HACK:
    100 phrases in ten random groups of ten, each of ten folds trains on 80 phrases and validates
    on 20. Which two groups go together is ours.
    """
    assert config.folds is not None
    labelled = np.flatnonzero(labels >= 0)
    phrase, phrases = _groups(table, labelled, "phrase", config.scheme)
    _can_divide(len(phrases), "phrase", 3, config)
    group_of = np.empty(len(phrases), dtype=np.int64)
    shuffled = np.random.default_rng(config.seed).permutation(len(phrases))
    for number, members in enumerate(np.array_split(shuffled, config.folds)):
        group_of[members] = number
    found = _rotation(labelled, group_of[phrase], _numbered("phrases", config.folds), config)
    if config.selection == "validation":
        return found
    folds = []
    for position, fold in enumerate(found):
        also = found[(position + 1) % len(found)].test
        test = np.sort(np.concatenate([fold.test, also]))
        folds.append(Fold(fold.name, np.setdiff1d(fold.train, also), fold.validation, test))
    return folds


def stratified_group_k_fold(table: pa.Table, labels: Indices, config: FoldsConfig) -> list[Fold]:
    """Each `group` whole in one of `folds` parts whose shares of the classes are much alike.

    Each labelled utterance is tested once, and no group is on two sides. The validation part is
    the part after the test part. The parts are scikit-learn's StratifiedGroupKFold, shuffled: the
    seed decides between groups that fit equally well, and where one fits best, nothing.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    assert config.folds is not None
    assert config.group is not None
    labelled = np.flatnonzero(labels >= 0)
    group, names = _groups(table, labelled, config.group, config.scheme)
    _can_divide(len(names), config.group, 3 if config.selection == "validation" else 2, config)
    counts = np.bincount(labels[labelled])
    if counts.max() < config.folds:
        raise ConfigError(
            f"folds.folds: {config.folds} folds, and no class has more than {counts.max()} "
            f"utterances; lower folds.folds"
        )
    splitter = StratifiedGroupKFold(config.folds, shuffle=True, random_state=config.seed)
    part = np.empty(len(labelled), dtype=np.int64)
    with warnings.catch_warnings():  # that a class is rare shows in the audit
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, tests) in enumerate(splitter.split(labelled, labels[labelled], group)):
            part[tests] = number
    return _rotation(labelled, part, _numbered("part", config.folds), config)


def corpus(table: pa.Table, labels: Indices, config: FoldsConfig) -> list[Fold]:
    """The corpus's own: the manifest's column `fold`, or where that is empty its `split`.

    `fold`: a fold a value, which tests; the value after it validates. Each labelled utterance is
    tested once. `split`: a single fold of the rows named train, validation (or dev) and test;
    under `held_out` the validation rows train. What the corpus keeps apart is its own affair:
    the audit counts what is on both sides.
    """
    labelled = np.flatnonzero(labels >= 0)
    if _own_column(table, labelled) == "fold":
        group, names = _groups(table, labelled, "fold", config.scheme)
        _enough(len(names), 3 if config.selection == "validation" else 2, "fold", names, config)
        return _rotation(labelled, group, names, config)
    if (codes(table["split"])[0] < 0).all():
        raise ConfigError(
            "folds.scheme: corpus needs the manifest's column `fold` or `split`, and both are "
            "missing or empty; add one, or choose another scheme"
        )
    group, names = _groups(table, labelled, "split", config.scheme)
    for code, name in enumerate(names):
        if name.lower() not in SPLITS:
            row = int(labelled[group == code][0])
            raise ConfigError(
                f"folds.scheme: corpus knows the splits train, validation and test, and row "
                f"{row + 1}, {table['id'][row]}, has {name}; rename it in the manifest"
            )
    meant = np.asarray([SPLITS[name.lower()] for name in names])[group]
    if config.selection == "held_out":
        meant[meant == "validation"] = "train"
    needed = ("train", "validation", "test")
    for name in needed:
        if name == "validation" and config.selection == "held_out":
            continue
        if not (meant == name).any():
            remedy = "choose another scheme"
            if name == "validation":
                remedy = "mark some in the manifest, or set folds.selection: held_out"
            raise ConfigError(
                f"folds.scheme: corpus with selection {config.selection} needs labelled rows "
                f"whose `split` is {name}, and there are none; {remedy}"
            )
    rows = (labelled[meant == name] for name in needed)
    return [Fold("corpus", *rows)]


def _own_column(table: pa.Table, labelled: Indices) -> str:
    """Which of its two columns gives a corpus's own folds."""
    fold, _ = codes(table["fold"])
    return "fold" if (fold[labelled] >= 0).any() else "split"


SCHEMES: dict[str, Callable[[pa.Table, Indices, FoldsConfig], list[Fold]]] = {
    "leave_one_session_out": _leave_one_group_out("session"),
    "leave_one_speaker_out": _leave_one_group_out("speaker"),
    "random_repeated": random_repeated,
    "phrase_groups": phrase_groups,
    "stratified_group_k_fold": stratified_group_k_fold,
    "corpus": corpus,
}


def promise(table: pa.Table, labels: Indices, config: FoldsConfig) -> Promise:
    """What the configured scheme keeps on this manifest."""
    match config.scheme:
        case "leave_one_session_out":
            return Promise("session", 1)
        case "leave_one_speaker_out":
            return Promise("speaker", 1)
        case "phrase_groups":
            return Promise("phrase", 2 if config.selection == "held_out" else 1)
        case "stratified_group_k_fold":
            return Promise(config.group, 1)
        case "corpus":
            own = _own_column(table, np.flatnonzero(labels >= 0))
            return Promise(None, 1 if own == "fold" else None)
    return Promise(None, None)


def make_folds(
    table: pa.Table, labels: Indices, classes: tuple[str, ...], config: FoldsConfig
) -> list[Fold]:
    """The folds of a scheme; the same manifest and configuration give the same folds.

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
        if not len(fold.test) or (config.selection == "validation" and not len(fold.validation)):
            part = "validation" if len(fold.test) else "test"
            raise ConfigError(
                f"folds.scheme: {config.scheme} leaves fold {fold.name} without a {part} "
                f"utterance; lower folds.folds, or choose another scheme"
            )
        absent = np.flatnonzero(np.bincount(labels[fold.train], minlength=len(classes)) == 0)
        if len(absent):
            raise ConfigError(
                f"corpus.classes: fold {fold.name} has no training utterance of class "
                f"{', '.join(classes[c] for c in absent)}; leave the class out, or choose "
                f"another scheme"
            )
    return folds
