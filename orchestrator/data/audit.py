"""Count every part of the folds, and check that the folds keep their scheme's promise.

The audit shares only `codes` and the promise with the code that makes the folds, so that it finds
mistakes there. Folds that break their promise stop the run. Anything that the promise allows, for
example a speaker in two parts of a random split, is counted and reported.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.context import Indices, Turns
from features.errors import shorten
from features.recordings import cleaned
from features.sets.base import by_speaker
from orchestrator.config.sections import FoldsConfig
from orchestrator.data.baselines import NOTHING, baselines_over_folds, label_baselines
from orchestrator.data.coverage import coverage_notes
from orchestrator.data.folds import Fold, Promise, codes
from orchestrator.data.schemes import SCHEMES
from orchestrator.ledger.records import Audit, FoldAudit, PartCounts, SpeakerCoverage

PARTS = ("train", "validation", "test")
SOURCES = ("unlabelled", *PARTS)
TRAIN, TEST = SOURCES.index("train"), SOURCES.index("test")
UNITS = ("speaker", "session", "dialogue", "phrase")
APART_IN_DIALOGUE = ("session", "speaker", "dialogue")
"""Units whose promise forbids that a test utterance has a training utterance as context."""

WORDS = {"train": "training", "validation": "validation", "test": "test"}
SHOWN = 10


class AuditError(ValueError):
    """Folds that break the promise of their scheme. The message has one line for each problem."""


@dataclass(frozen=True)
class _Rows:
    """Columns of the manifest as integers, (utterances,) each. A missing value is negative.

    units : unit -> positions in the names, and the names
    recordings : number of the recording; None if no two rows have the same recording
    takers, turns : (context turns,) an utterance, and a turn that is its context
    """

    ids: pa.ChunkedArray
    labels: Indices
    classes: Sequence[str]
    units: dict[str, tuple[Indices, list[str]]]
    recordings: Indices | None
    takers: Indices
    turns: Indices

    def first(self, rows: Indices) -> str:
        return f"row {rows[0] + 1}, {self.ids[int(rows[0])]}"


def audit(
    table: pa.Table,
    labels: Indices,
    classes: Sequence[str],
    folds: Sequence[Fold],
    own: Turns,
    other: Turns,
    config: FoldsConfig,
    normalize: Sequence[str] = ("speaker",),
    coverage: SpeakerCoverage | None = None,
) -> Audit:
    """Count the utterances in each fold. Raises AuditError if folds break their scheme's promise.

    table : the manifest, (utterances,) rows
    labels : (utterances,) class, negative without a class
    own, other : rows of each utterance's context turns
    normalize : the values of `features.normalize` that the run uses
    coverage : of the speakers, if a normalisation by speaker is among these values
    """
    units = {name: codes(table[name]) for name in UNITS}
    units = {name: values for name, values in units.items() if (values[0] >= 0).any()}
    takers = np.concatenate([own.takers, other.takers])
    turns = np.concatenate([own.rows, other.rows])
    rows = _Rows(table["id"], labels, classes, units, _recordings(table), takers, turns)
    promise = SCHEMES[config.scheme].promise(table, labels, config)
    broken: list[str] = []
    if len({fold.name for fold in folds}) < len(folds):
        broken.append(f"two folds have the same name: {', '.join(fold.name for fold in folds)}")
    audited = []
    times = np.zeros(len(labels), dtype=np.int64)
    for fold in folds:
        times += np.bincount(fold.test, minlength=len(labels))
        part = parts_of(fold, len(labels))
        counted = _count(fold.name, part, rows)
        audited.append(counted)
        problems = _broken(fold, part, counted, rows, promise, config)
        broken += (f"fold {fold.name}: {problem}" for problem in problems)
    labelled = labels >= 0
    if promise.tests is not None and (labelled & (times != promise.tests)).any():
        wrong = np.flatnonzero(labelled & (times != promise.tests))
        broken.append(
            f"{len(wrong)} labelled utterances are not tested {promise.tests} times; the first "
            f"is {rows.first(wrong)}, tested {times[wrong[0]]} times"
        )
    if broken:
        lines = shorten(broken, SHOWN, "\n")
        raise AuditError(f"the folds of {config.scheme} break its rule:\n{lines}")
    baselines = label_baselines(table, labels, len(classes), folds)
    audited = [
        fold.model_copy(update={"label_baselines": values})
        for fold, values in zip(audited, baselines, strict=True)
    ]
    counts = Audit(
        scheme=config.scheme,
        selection=config.selection,
        unit=promise.unit,
        labelled=int(labelled.sum()),
        unlabelled=int((~labelled).sum()),
        tested={str(n): int((times[labelled] == n).sum()) for n in np.unique(times[labelled])},
        folds=audited,
        context={p: {s: sum(f.context[p][s] for f in audited) for s in SOURCES} for p in PARTS},
        crossing=_crossing(units),
        coverage=coverage,
        notes=[],
    )
    return counts.model_copy(update={"notes": list(_notes(counts, promise, normalize))})


def _recordings(table: pa.Table) -> Indices | None:
    """(rows,) equal numbers for the same segment of the same file; None if all are different."""
    names = pa.array([cleaned(file) for file in table["file"].to_pylist()], pa.string())
    files = names.dictionary_encode()
    if len(files.dictionary) == len(files):
        return None
    # An empty start is the beginning of the file, an empty end the end of the file.
    times = [
        table[name].combine_chunks().fill_null(empty).to_numpy()
        for name, empty in (("start", 0.0), ("end", -1.0))
    ]
    segments = np.stack([files.indices.to_numpy(), *times])
    number = np.unique(segments, axis=1, return_inverse=True)[1].reshape(-1)
    return None if number.max() + 1 == len(number) else number


def parts_of(fold: Fold, utterances: int) -> Indices:
    """(utterances,) position in SOURCES of each utterance's part; 0 for no part."""
    part = np.zeros(utterances, dtype=np.int64)
    for number, name in enumerate(PARTS, start=1):
        part[getattr(fold, name)] = number
    return part


def occurrences(part: Indices, group: Indices, groups: int) -> NDArray[np.bool_]:
    """(source, group) whether any utterance of the group is in the source."""
    known = group >= 0
    flat = part[known] * groups + group[known]
    return np.bincount(flat, minlength=len(SOURCES) * groups).reshape(len(SOURCES), groups) > 0


def _broken(
    fold: Fold,
    part: Indices,
    counted: FoldAudit,
    rows: _Rows,
    promise: Promise,
    config: FoldsConfig,
) -> Iterator[str]:
    """The problems of one fold, by the rule of every scheme and by the promise of its own."""
    used = np.concatenate([fold.train, fold.validation, fold.test])
    places = np.bincount(used, minlength=len(part))
    for wrong, problem in (
        (places > 1, "utterances occur more than once"),
        ((places > 0) & (rows.labels < 0), "utterances without a class are in a part"),
        ((places == 0) & (rows.labels >= 0), "labelled utterances are in no part"),
    ):
        if wrong.any():
            yield f"{wrong.sum()} {problem}; the first is {rows.first(np.flatnonzero(wrong))}"
    for name in PARTS:
        size, expected = len(getattr(fold, name)), name in ("train", "test", config.selection)
        if (size > 0) != expected:
            yield f"the {name} part has {size} utterances with selection {config.selection}"
    if promise.unit is not None:
        group, names = rows.units.get(promise.unit, (np.full(len(part), -1), []))
        occurs = occurrences(part, group, len(names))[1:]
        for code in np.flatnonzero(occurs.sum(axis=0) > 1):
            several = " and ".join(PARTS[n] for n in np.flatnonzero(occurs[:, code]))
            yield f"{promise.unit} {names[code]} is in {several}"
        without = np.flatnonzero((group < 0) & (part > 0))
        if len(without):
            first = rows.first(without)
            yield f"{len(without)} utterances have no {promise.unit}; the first is {first}"
    if rows.recordings is not None:
        occurs = occurrences(part, rows.recordings, int(rows.recordings.max()) + 1)[1:]
        divided = np.flatnonzero((occurs.sum(axis=0) > 1)[rows.recordings] & (part > 0))
        if len(divided):
            same = divided[rows.recordings[divided] == rows.recordings[divided[0]]]
            yield (
                f"{len(divided)} rows have the same recording as a row in another part; "
                f"the first is {rows.first(same)}, the same as {rows.first(same[1:])}"
            )
    if promise.unit in APART_IN_DIALOGUE and (count := counted.context["test"]["train"]):
        links = (part[rows.takers] == TEST) & (part[rows.turns] == TRAIN)
        yield (
            f"{count} context turns of test utterances are training utterances; the first is "
            f"{rows.first(rows.turns[links])}, context of {rows.first(rows.takers[links])}. Use a "
            f"scheme that keeps dialogues whole (leave_one_session_out), or a model without context"
        )


def _count(name: str, part: Indices, rows: _Rows) -> FoldAudit:
    speaker, speakers = rows.units["speaker"]
    shape = (len(SOURCES), len(speakers), len(rows.classes))
    used = np.flatnonzero((part > 0) & (rows.labels >= 0))
    flat = np.ravel_multi_index((part[used], speaker[used], rows.labels[used]), shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)
    links = np.bincount(
        part[rows.takers] * len(SOURCES) + part[rows.turns], minlength=len(SOURCES) ** 2
    )
    context = links.reshape(len(SOURCES), len(SOURCES)).tolist()  # (part, source)
    shared = {}
    for unit, (group, names) in rows.units.items():
        trains = np.append(occurrences(part, group, len(names))[TRAIN], False)  # for group -1
        shared[unit] = int(trains[group[part == TEST]].sum())
    parts = {}
    for number, source in enumerate(PARTS, start=1):
        present = np.flatnonzero(counts[number].any(axis=1)).tolist()
        lacking = {
            speakers[code]: [c for c, count in zip(rows.classes, said, strict=True) if not count]
            for code, said in zip(present, counts[number][present].tolist(), strict=True)
        }
        parts[source] = PartCounts(
            utterances=int(counts[number].sum()),
            classes=dict(zip(rows.classes, counts[number].sum(axis=0).tolist(), strict=True)),
            speakers={speakers[code]: int(counts[number, code].sum()) for code in present},
            lacking={who: absent for who, absent in lacking.items() if absent},
        )
    return FoldAudit(
        name=name,
        parts=parts,
        shared=shared,
        context={p: dict(zip(SOURCES, context[n], strict=True)) for n, p in enumerate(PARTS, 1)},
    )


def _crossing(units: dict[str, tuple[Indices, list[str]]]) -> dict[str, list[str]]:
    """speaker -> sessions, for speakers who occur in several sessions."""
    if "session" not in units:
        return {}
    (speaker, speakers), (session, sessions) = units["speaker"], units["session"]
    visited = defaultdict(list)
    for who, place in sorted(set(zip(speaker.tolist(), session.tolist(), strict=True))):
        if place >= 0:
            visited[speakers[who]].append(sessions[place])
    return {name: places for name, places in visited.items() if len(places) > 1}


def _notes(audited: Audit, promise: Promise, normalize: Sequence[str]) -> Iterator[str]:
    """Sentences about anything in the counts that a reader of the scores should know."""
    tested, context = audited.tested, audited.context
    if ways := [value for value in normalize if by_speaker(value)]:
        some = f"With features.normalize: {' or '.join(ways)}, features"
        yield (
            f"{'Features' if len(ways) == len(normalize) else some} are normalised with each "
            f"speaker's mean and deviation over all utterances of the speaker, those of the test "
            f"part included (transductive, without labels)."
        )
        if audited.coverage is not None:
            yield from coverage_notes(audited.coverage)
    if audited.crossing and promise.unit == "session":
        yield (
            f"{len(audited.crossing)} speakers occur in several sessions "
            f"({shorten(list(audited.crossing), SHOWN)}): a division by session does not separate "
            f"speakers. If each session has speakers of its own, write the session into the "
            f"speakers' names."
        )
    tests = sum(fold.parts["test"].utterances for fold in audited.folds)
    known = sum(fold.shared["speaker"] for fold in audited.folds)
    if known:
        yield (
            f"{known} of {tests} tested utterances ({known / tests:.0%}), summed over folds, are "
            f"from a speaker who also trains: the scores are not for unknown speakers."
        )
    if promise.tests is None and "0" in tested:
        yield f"{tested['0']} labelled utterances are tested in no fold."
    if repeated := sum(count for times, count in tested.items() if int(times) > 1):
        yield f"{repeated} utterances are tested in several folds: pooled scores count each test."
    for part, source in (("test", "train"), ("test", "validation"), ("train", "test")):
        if count := context[part][source]:
            yield (
                f"{count} context turns of {WORDS[part]} utterances are {WORDS[source]} utterances "
                f"of the same fold: the model reads their features, but not their labels."
            )
    for part in ("validation", "test"):
        lacking = []
        for fold in audited.folds:
            missing = [name for name, count in fold.parts[part].classes.items() if not count]
            if missing and fold.parts[part].utterances:
                lacking.append(f"{fold.name} has no {', '.join(missing)}")
        if lacking:
            listed = shorten(lacking, SHOWN)
            yield f"A class is missing in the {part} part of {len(lacking)} folds: {listed}."
    baselines = baselines_over_folds(audited.folds)
    if leaks := [each for each in baselines if each.leaks]:
        given = ", ".join(f"{each.ua.value:.1%} given the {each.given}" for each in leaks)
        chance = next(each.ua.value for each in baselines if each.given == NOTHING)
        yield (
            f"The folds leak labels: guesses from the training labels alone, without any sound, "
            f"have a UA of {given}. Chance is {chance:.1%}."
        )
