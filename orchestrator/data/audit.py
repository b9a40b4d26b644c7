"""What the folds really are: counted before every training, and checked against their scheme.

Nothing here is shared with what makes the folds but `Promise`, so that a mistake there is found
here. A scheme that breaks its own rule stops the run; what it does not rule out, such as a voice
on both sides of a random split, is counted and said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestrator.config.sections import FoldsConfig
from orchestrator.data.folds import Fold, Promise, codes, promise

Indices = NDArray[np.int64]

PARTS = ("train", "validation", "test")
SOURCES = ("unlabelled", *PARTS)
TRAIN, TEST = SOURCES.index("train"), SOURCES.index("test")
UNITS = ("speaker", "session", "dialogue", "phrase")
APART_IN_DIALOGUE = ("session", "speaker", "dialogue")
"""Units that keep a test utterance from hearing, as context, what was trained on."""

SHOWN = 10


class AuditError(ValueError):
    """Folds that break the rule of their scheme. The message lists what, a line each."""


@dataclass(frozen=True)
class Part:
    """One part of a fold.

    classes, speakers : utterances of each class, and of each speaker that occurs
    lacking : the classes of which a speaker who occurs here has no utterance here
    """

    utterances: int
    classes: dict[str, int]
    speakers: dict[str, int]
    lacking: dict[str, list[str]]


@dataclass(frozen=True)
class FoldAudit:
    """One fold.

    parts : train, validation and test
    shared : test utterances whose speaker, session, dialogue or phrase also trains
    context : part -> source -> how many context turns the utterances of the part take from there
    """

    name: str
    parts: dict[str, Part]
    shared: dict[str, int]
    context: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Audit:
    """Folds that keep their scheme's rule, and what else a reader of the scores should know.

    unit : what the scheme keeps on one side, if anything
    tested : in how many folds -> how many labelled utterances are tested
    context : summed over folds
    crossing : speaker -> the sessions, where there are several
    notes : the same in sentences
    """

    scheme: str
    selection: str
    unit: str | None
    labelled: int
    unlabelled: int
    tested: dict[str, int]
    folds: list[FoldAudit]
    context: dict[str, dict[str, int]]
    crossing: dict[str, list[str]]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Rows:
    """The manifest as numbers, (utterances,) each; -1 where a row has no value."""

    ids: pa.ChunkedArray
    labels: Indices
    classes: Sequence[str]
    units: dict[str, tuple[Indices, list[str]]]
    recordings: Indices | None
    contexts: tuple[Indices, Indices]

    def first(self, rows: Indices) -> str:
        return f"row {rows[0] + 1}, {self.ids[int(rows[0])]}"


def audit(
    table: pa.Table,
    labels: Indices,
    classes: Sequence[str],
    folds: Sequence[Fold],
    own: Indices,
    other: Indices,
    config: FoldsConfig,
    normalize: str = "speaker",
) -> Audit:
    """Count what is in each fold. Raises AuditError where the folds break their scheme's rule.

    Shapes
    ------
    table : the manifest, (utterances,) rows
    labels : (utterances,) class, negative for none
    own, other : (utterances,) the row of each utterance's context turns, negative for none
    normalize : `features.normalize`
    """
    units = {name: codes(table[name]) for name in UNITS}
    units = {name: found for name, found in units.items() if (found[0] >= 0).any()}
    rows = _Rows(table["id"], labels, classes, units, _recordings(table), (own, other))
    kept = promise(table, labels, config)
    broken: list[str] = []
    names = [fold.name for fold in folds]
    if len(set(names)) < len(names):
        broken.append(f"two folds have one name: {', '.join(names)}")
    audited = []
    times = np.zeros(len(labels), dtype=np.int64)
    for fold in folds:
        found = list(_out_of_range(fold, len(labels)))
        if not found:
            times += np.bincount(fold.test, minlength=len(labels))
            part = _parts(fold, len(labels))
            context = _context(part, rows.contexts)
            found = list(_broken(fold, part, context, rows, kept, config))
            audited.append(_count(fold.name, part, context, rows))
        broken += (f"fold {fold.name}: {what}" for what in found)
    labelled = labels >= 0
    if kept.tests is not None:
        wrong = np.flatnonzero(labelled & (times != kept.tests))
        if len(wrong):
            broken.append(
                f"{len(wrong)} labelled utterances are not tested {kept.tests} times; the first "
                f"is {rows.first(wrong)}, tested {times[wrong[0]]} times"
            )
    if broken:
        more = [f"and {len(broken) - SHOWN} more"] if len(broken) > SHOWN else []
        rule = f"the folds of {config.scheme} break its rule:"
        raise AuditError("\n".join([rule, *broken[:SHOWN], *more]))
    total = {
        part: {source: sum(fold.context[part][source] for fold in audited) for source in SOURCES}
        for part in PARTS
    }
    tested = {str(n): int((times[labelled] == n).sum()) for n in np.unique(times[labelled])}
    crossing = _crossing(units)
    return Audit(
        config.scheme,
        config.selection,
        kept.unit,
        int(labelled.sum()),
        int((~labelled).sum()),
        tested,
        audited,
        total,
        crossing,
        list(_notes(audited, kept, tested, total, crossing, normalize)),
    )


def _recordings(table: pa.Table) -> Indices | None:
    """(rows,) the same number for the same piece of the same file; None where no two are one."""
    files = table["file"].combine_chunks().dictionary_encode()
    if len(files.dictionary) == len(files):
        return None
    file = files.indices.to_numpy()
    times = [table[name].combine_chunks().fill_null(-1).to_numpy() for name in ("start", "end")]
    order = np.lexsort((*times, file))
    changes = np.zeros(len(order), dtype=bool)
    for values in (file, *times):
        changes[1:] |= np.diff(values[order]) != 0
    number = np.empty(len(file), dtype=np.int64)
    number[order] = np.cumsum(changes)
    return None if changes.sum() + 1 == len(file) else number


def _out_of_range(fold: Fold, utterances: int) -> Iterator[str]:
    for name in PARTS:
        part = getattr(fold, name)
        outside = part[(part < 0) | (part >= utterances)]
        if len(outside):
            yield f"{name} has row {outside[0] + 1} of a manifest of {utterances}"


def _parts(fold: Fold, utterances: int) -> Indices:
    """(utterances,) the place in SOURCES of each utterance's part."""
    part = np.zeros(utterances, dtype=np.int64)
    for number, name in enumerate(PARTS, start=1):
        part[getattr(fold, name)] = number
    return part


def _sides(part: Indices, group: Indices, groups: int) -> NDArray[np.bool_]:
    """(source, group) whether any utterance of the group is there."""
    known = group >= 0
    flat = part[known] * groups + group[known]
    return np.bincount(flat, minlength=len(SOURCES) * groups).reshape(len(SOURCES), groups) > 0


def _context(part: Indices, contexts: tuple[Indices, Indices]) -> NDArray[np.int64]:
    """(part, source) how many context turns the utterances of the one take from the other."""
    size = len(SOURCES)
    found = np.zeros(size * size, dtype=np.int64)
    for context in contexts:
        has = np.flatnonzero(context >= 0)
        found += np.bincount(part[has] * size + part[context[has]], minlength=size * size)
    return found.reshape(size, size)


def _broken(
    fold: Fold,
    part: Indices,
    context: NDArray[np.int64],
    rows: _Rows,
    kept: Promise,
    config: FoldsConfig,
) -> Iterator[str]:
    """What this fold does against the rule of every scheme, and of its own."""
    used = np.concatenate([fold.train, fold.validation, fold.test])
    places = np.bincount(used, minlength=len(part))
    for wrong, what in (
        (places > 1, "more than once"),
        ((places > 0) & (rows.labels < 0), "without a label"),
        ((places == 0) & (rows.labels >= 0), "with a label in no part"),
    ):
        if wrong.any():
            first = rows.first(np.flatnonzero(wrong))
            yield f"{wrong.sum()} utterances {what}; the first is {first}"
    if (len(fold.validation) > 0) != (config.selection == "validation"):
        yield f"{len(fold.validation)} validation utterances with selection {config.selection}"
    for name in ("train", "test"):
        if not len(getattr(fold, name)):
            yield f"nothing to {name} on"
    if kept.unit is not None:
        group, names = rows.units.get(kept.unit, (np.full(len(part), -1), []))
        sides = _sides(part, group, len(names))[1:]
        for code in np.flatnonzero(sides.sum(axis=0) > 1):
            where = " and ".join(PARTS[n] for n in np.flatnonzero(sides[:, code]))
            yield f"{kept.unit} {names[code]} is in {where}"
        without = np.flatnonzero((group < 0) & (part > 0))
        if len(without):
            first = rows.first(without)
            yield f"{len(without)} utterances without a {kept.unit}; the first is {first}"
    if rows.recordings is not None:
        sides = _sides(part, rows.recordings, int(rows.recordings.max()) + 1)[1:]
        twice = (sides.sum(axis=0) > 1)[rows.recordings] & (part > 0)
        if twice.any():
            alike = np.flatnonzero(twice)
            same = alike[rows.recordings[alike] == rows.recordings[alike[0]]]
            yield (
                f"one recording under several ids is in different parts, {twice.sum()} rows; the "
                f"first is {rows.first(same)}, the same as {rows.first(same[1:])}"
            )
    if kept.unit in APART_IN_DIALOGUE and context[TEST, TRAIN]:
        yield _heard(part, context, rows)


def _heard(part: Indices, context: NDArray[np.int64], rows: _Rows) -> str:
    for turns in rows.contexts:
        tests = np.flatnonzero((part == TEST) & (turns >= 0))
        tests = tests[part[turns[tests]] == TRAIN]
        if len(tests):
            break
    return (
        f"{context[TEST, TRAIN]} context turns of test utterances are training utterances; the "
        f"first is {rows.first(turns[tests])}, context of {rows.first(tests)}. Keep dialogues "
        f"whole (leave_one_session_out), or train a model without context"
    )


def _count(name: str, part: Indices, context: NDArray[np.int64], rows: _Rows) -> FoldAudit:
    speaker, speakers = rows.units["speaker"]
    shape = (len(SOURCES), len(speakers), len(rows.classes))
    used = np.flatnonzero((part > 0) & (rows.labels >= 0))
    flat = np.ravel_multi_index((part[used], speaker[used], rows.labels[used]), shape)
    table = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)
    tests = part == TEST
    shared = {}
    for unit, (group, names) in rows.units.items():
        trains = np.append(_sides(part, group, len(names))[TRAIN], False)  # -1 is no group
        shared[unit] = int(trains[group[tests]].sum())
    numbered = list(enumerate(SOURCES))[1:]
    parts = {source: _part(table[n], speakers, rows.classes) for n, source in numbered}
    taken = {p: dict(zip(SOURCES, context[n].tolist(), strict=True)) for n, p in numbered}
    return FoldAudit(name, parts, shared, taken)


def _part(counts: NDArray[np.int64], speakers: list[str], classes: Sequence[str]) -> Part:
    """counts : (speaker, class)"""
    by_class = dict(zip(classes, counts.sum(axis=0).tolist(), strict=True))
    by_speaker, lacking = {}, {}
    for code in np.flatnonzero(counts.any(axis=1)).tolist():
        by_speaker[speakers[code]] = int(counts[code].sum())
        if not counts[code].all():
            absent = np.flatnonzero(counts[code] == 0).tolist()
            lacking[speakers[code]] = [classes[c] for c in absent]
    return Part(int(counts.sum()), by_class, by_speaker, lacking)


def _crossing(units: dict[str, tuple[Indices, list[str]]]) -> dict[str, list[str]]:
    if "session" not in units:
        return {}
    (speaker, speakers), (session, sessions) = units["speaker"], units["session"]
    known = session >= 0
    pairs = np.unique(speaker[known] * len(sessions) + session[known])
    found: dict[str, list[str]] = {}
    for pair in pairs.tolist():
        found.setdefault(speakers[pair // len(sessions)], []).append(sessions[pair % len(sessions)])
    return {name: where for name, where in found.items() if len(where) > 1}


def _notes(
    folds: list[FoldAudit],
    kept: Promise,
    tested: dict[str, int],
    context: dict[str, dict[str, int]],
    crossing: dict[str, list[str]],
    normalize: str,
) -> Iterator[str]:
    if normalize != "none":
        yield (
            "Features are normalised with each speaker's own mean and deviation, over all of "
            "their utterances, those of the test part included: transductive, without labels."
        )
    if crossing and kept.unit == "session":
        who = f"{len(crossing)} speakers occur in several sessions ({_few(crossing)})"
        yield f"{who}: sessions do not keep speakers apart."
    tests = sum(fold.parts["test"].utterances for fold in folds)
    known = sum(fold.shared["speaker"] for fold in folds)
    if known:
        yield (
            f"Of {tests} utterances tested over all folds, {known} ({known / tests:.0%}) are of a "
            f"speaker who also trains: the scores are not of unknown voices."
        )
    if kept.tests is None and "0" in tested:
        yield f"{tested['0']} labelled utterances are tested in no fold."
    if repeated := sum(count for times, count in tested.items() if int(times) > 1):
        yield f"{repeated} utterances are tested in several folds: pooled scores count each time."
    for source, name in (("train", "training"), ("validation", "validation")):
        if count := context["test"][source]:
            yield (
                f"{count} context turns of test utterances are {name} utterances of the same "
                f"fold: the model hears them, without their labels, beside what it is tested on."
            )
    if count := context["train"]["test"]:
        yield f"{count} context turns of training utterances are test utterances, without labels."
    for part in ("validation", "test"):
        lacking = []
        for fold in folds:
            what = [name for name, count in fold.parts[part].classes.items() if not count]
            if what and fold.parts[part].utterances:
                lacking.append(f"{fold.name} has no {', '.join(what)}")
        if lacking:
            yield f"A class is missing in the {part} part of {len(lacking)} folds: {_few(lacking)}."


def _few(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def audit_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a fold for a table, from `Audit.as_dict()` as sweep.yaml keeps it.

    fold; train, validation, test: utterances; train_speakers, test_speakers: how many;
    known_voices, known_phrases: test utterances whose speaker, or phrase, also trains (None where
    the corpus has no phrases); from_train, from_validation, from_unlabelled: context turns of
    test utterances; train_lacking, test_lacking: the speakers who lack a class there, in words.
    """
    rows = []
    for fold in found.get("folds") or []:
        parts, context = fold["parts"], fold["context"]["test"]
        row = {
            "fold": fold["name"],
            **{part: parts[part]["utterances"] for part in PARTS},
            "known_voices": fold["shared"]["speaker"],
            "known_phrases": fold["shared"].get("phrase"),
            **{f"from_{source}": context[source] for source in SOURCES if source != "test"},
        }
        for name in ("train", "test"):
            row[f"{name}_speakers"] = len(parts[name]["speakers"])
            lacking = parts[name]["lacking"].items()
            row[f"{name}_lacking"] = _few(f"{who}: no {', '.join(what)}" for who, what in lacking)
        rows.append(row)
    return rows
