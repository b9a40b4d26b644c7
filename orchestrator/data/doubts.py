"""Doubts about a corpus: names that look alike, names that match nothing, recordings in two rows.

A doubt never stops a run, because it may be a mistake or not. `ser corpus` lists the doubts as
problems, and every run repeats them as notes before it trains.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from features.errors import shorten
from features.manifest import Problem
from features.names import GROUPS, means_no_value, shown, spelling
from features.recordings import cleaned
from orchestrator.config.sections import CorpusConfig
from search_spaces.plain_yaml import as_yaml

_ALIKE = "only in case, spaces, invisible characters, Unicode form, or the zeros of a number"
"""How names with one `spelling` differ."""


def label_doubts(
    corpus: CorpusConfig, raw: Counter[str], classes: tuple[str, ...]
) -> Iterator[Problem]:
    """Doubts about labels, merges and classes.

    raw : label before merging -> its number of rows
    """
    target = {label: corpus.merge.get(label, label) for label in raw}
    labels = Counter[str]()
    for label, count in raw.items():
        labels[target[label]] += count
    meant = _meant(corpus.merge, target, classes, labels)
    wrong = {label: name for label, name in meant.items() if name != target[label]}
    remedy = f"merge: {as_yaml({**corpus.merge, **wrong})}"
    if lost := [label for label in wrong if target[label] not in classes]:
        yield Problem(
            "corpus.classes",
            f"{sum(raw[label] for label in lost)} utterances have no class, because their label "
            f"differs from a class or a merged label {_ALIKE}: {_counted(lost, raw)}. If they mean "
            f"the class, write `{remedy}` in the section corpus",
        )
    for names in _alike(classes):
        once = "" if corpus.classes is None else "name it once in corpus.classes, and "
        yield Problem(
            "corpus.classes",
            f"the classes {_counted(names, labels)} differ {_ALIKE}. If they are one class, {once}"
            f"write `{remedy}` in the section corpus",
        )
    if unused := [shown(label) for label in corpus.merge if label not in raw]:
        yield Problem(
            "corpus.merge",
            f"no utterance has the label {' or '.join(unused)}, so this merge does nothing "
            f"(labels: {_counted(raw, raw)}). Correct the label, or remove it from corpus.merge",
        )
    known = set(map(spelling, classes))
    nowhere = {target[label] for label in corpus.merge if label in raw} - set(classes)
    if nowhere := {name for name in nowhere if spelling(name) not in known}:
        yield Problem(
            "corpus.merge",
            f"{sum(labels[name] for name in nowhere)} utterances have no class, because "
            f"corpus.merge renames their label to {_counted(nowhere, labels)}, which is no class. "
            f"Add it to corpus.classes, or correct the merge",
        )
    empty = [name for name in classes if means_no_value(name)]
    if corpus.classes is None and empty:
        yield Problem(
            "corpus.classes",
            f"{sum(labels[name] for name in empty)} utterances have a label that means no value: "
            f"{_counted(empty, labels)}. If it is no emotion, empty these cells, or list the "
            f"classes in corpus.classes",
        )


def _meant(
    merge: Mapping[str, str],
    target: Mapping[str, str],
    classes: tuple[str, ...],
    labels: Counter[str],
) -> dict[str, str]:
    """Label -> the class that it probably means: one with the same spelling, if there is one.

    target : label -> label after merging
    labels : label after merging -> its number of rows
    """
    by_spelling = {spelling(name): name for name in classes}
    for names in _alike(classes):  # the most frequent is meant
        by_spelling[spelling(names[0])] = max(names, key=labels.__getitem__)
    merged = {spelling(label): spelling(name) for label, name in merge.items()}
    meant = {}
    for label, name in target.items():
        same = spelling(name)
        meant[label] = by_spelling.get(same) or by_spelling.get(merged.get(same, ""), name)
    return meant


def only_doubts(column: str, chosen: tuple[str, ...], names: Counter[str]) -> Iterator[Problem]:
    """Doubts about the values of `corpus.only` for a column.

    names : value -> its number of rows, before the other rows are left out
    """
    if absent := [shown(name) for name in chosen if name not in names]:
        yield Problem(
            "corpus.only",
            f"no row has {column} {' or '.join(absent)} (values: {_counted(names, names)}). "
            f"Correct the value, or remove it from corpus.only",
        )
    wanted = set(map(spelling, chosen))
    if alike := [name for name in names if name not in chosen and spelling(name) in wanted]:
        yield Problem(
            "corpus.only",
            f"{sum(names[name] for name in alike)} rows are left out, because their {column} "
            f"differs from a chosen value {_ALIKE}: {_counted(alike, names)}. If you need them, "
            f"write `{column}: {as_yaml([*chosen, *alike])}` in corpus.only",
        )


def row_doubts(table: pa.Table) -> Iterator[Problem]:
    """Doubts about the rows of a manifest: its names, its recordings and its dialogues."""
    for column in GROUPS:
        names = Counter(table[column].drop_null().to_pylist())
        if pairs := [_counted(group, names) for group in _alike(names)]:
            yield Problem(
                f"column {column}",
                f"some {column}s differ {_ALIKE}, and count as different {column}s: "
                f"{shorten(pairs, separator='; ')}. If they are the same {column}, write one name",
            )
    yield from _recording_doubts(table)
    yield from _dialogue_doubts(table)


def _dialogue_doubts(table: pa.Table) -> Iterator[Problem]:
    """Doubts about dialogues whose names are used again in another session."""
    columns = (table[name].to_pylist() for name in ("dialogue", "session"))
    sessions = defaultdict(set)
    for dialogue, session in zip(*columns, strict=True):
        if dialogue is not None and session is not None:
            sessions[dialogue].add(session)
    if several := [name for name, places in sessions.items() if len(places) > 1]:
        first, place = several[0], min(sessions[several[0]])
        yield Problem(
            "column dialogue",
            f"{len(several)} dialogues have turns in several sessions, and each counts as one "
            f"dialogue: {shorten([shown(name) for name in several])}. If each session numbers its "
            f"dialogues anew, write the session into the name, as in {shown(f'{place}_{first}')}",
        )


def _recording_doubts(table: pa.Table) -> Iterator[Problem]:
    """Doubts about recordings (the same part of the same file) that several rows have."""
    columns = (table[name].to_pylist() for name in ("file", "start", "end"))
    rows_of = defaultdict(list)
    for row, (file, start, end) in enumerate(zip(*columns, strict=True)):
        rows_of[cleaned(file), start or 0.0, end].append(row)
    files, ids, labels = (table[name].to_pylist() for name in ("file", "id", "emotion"))
    repeated = [same for same in rows_of.values() if len(same) > 1]
    for differs, words, remedy in (
        (True, "different labels", "Keep the row with the right label"),
        (False, "the same label", "Keep one of them"),
    ):
        found = [rows for rows in repeated if (len({labels[i] for i in rows}) > 1) == differs]
        if found:
            listed = shorten([f"{ids[row]} ({labels[row]})" for row in found[0]], 3)
            yield Problem(
                files[found[0][0]],
                f"{len(found)} recordings are in several rows with {words}, and each row counts as "
                f"an utterance. The ids of the first: {listed}. {remedy}",
            )


def _alike(names: Iterable[str]) -> list[list[str]]:
    """The groups of different names that have the same spelling."""
    groups = defaultdict(list)
    for name in names:
        groups[spelling(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _counted(names: Iterable[str], counts: Counter[str]) -> str:
    """Names with their numbers of rows, the most frequent first."""
    ranked = sorted(names, key=lambda name: (-counts[name], name))
    return shorten([f"{shown(name)} ({counts[name]})" for name in ranked])
