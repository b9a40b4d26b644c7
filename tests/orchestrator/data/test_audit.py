"""The audit accepts the folds of every scheme, and finds every kind of broken fold."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from features.context import Turns, previous_turns, turns_before
from features.manifest import normalise
from orchestrator.config.sections import (
    CorpusFolds,
    FoldsConfig,
    LeaveOneSessionOut,
    LeaveOneSpeakerOut,
    PhraseGroups,
    RandomRepeated,
    StratifiedGroupKFold,
)
from orchestrator.data.audit import AuditError, audit
from orchestrator.data.folds import Fold, make_folds
from orchestrator.errors import ConfigError
from orchestrator.ledger.records import Audit

CLASSES = ("ang", "neu", "sad")
WHOLE: list[FoldsConfig] = [
    LeaveOneSessionOut(),
    StratifiedGroupKFold(folds=3, group="session"),
    StratifiedGroupKFold(folds=3, group="dialogue"),
]
"""Each dialogue is in one part, so no utterance has context in another part."""
RANDOM: list[FoldsConfig] = [RandomRepeated(folds=3), PhraseGroups(folds=3)]
ALL = [*WHOLE, *RANDOM, LeaveOneSpeakerOut(), StratifiedGroupKFold(folds=3), CorpusFolds()]
Contexts = tuple[Turns, Turns]


@dataclasses.dataclass(frozen=True)
class Corpus:
    table: pa.Table
    labels: np.ndarray
    context: Contexts

    def folds(self, config: FoldsConfig) -> list[Fold]:
        return make_folds(self.table, self.labels, CLASSES, config)

    def audit(self, folds: list[Fold], config: FoldsConfig, context: bool = True) -> Audit:
        own, other = self.context if context else (Turns.none(len(self.labels)),) * 2
        return audit(self.table, self.labels, CLASSES, folds, own, other, config)


def corpus(rows: list[dict[str, Any]]) -> Corpus:
    named = [{"file": f"u{i:03d}.wav", **row} for i, row in enumerate(rows)]
    table = normalise(pa.Table.from_pylist(named))
    labels = [CLASSES.index(e) if e in CLASSES else -1 for e in table["emotion"].to_pylist()]
    return Corpus(table, np.asarray(labels), previous_turns(*conversation(table)))


def conversation(table: pa.Table) -> list[list[Any]]:
    return [table[name].to_pylist() for name in ("speaker", "dialogue", "turn")]


def with_turn(turns: Turns, row: int, turn: int) -> Turns:
    """The context in which `row` has `turn` as its one turn."""
    newest = turns.newest
    newest[row] = turn
    takers = np.flatnonzero(newest >= 0)
    return Turns.of(takers, newest[takers], len(newest))


@pytest.fixture(scope="module")
def talk() -> Corpus:
    """Four sessions of two speakers and two dialogues of eight turns. Last turns have no label."""
    return corpus(
        [
            {
                "speaker": f"{session}{'ab'[turn % 2]}",
                "session": f"s{session}",
                "dialogue": f"s{session}d{dialogue}",
                "phrase": f"p{(turn + dialogue + 3 * session) % 8}",
                "fold": str(session),
                "turn": turn,
                "emotion": CLASSES[turn // 2 % 3] if turn < 7 else "xxx",
            }
            for session in range(4)
            for dialogue in range(2)
            for turn in range(8)
        ]
    )


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    """Four speakers with an utterance of every class each, and random utterances in addition."""
    drawn = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-1, 2)), max_size=40)
    )
    rows = [(speaker, c + speaker, c) for speaker in range(4) for c in range(3)] + drawn
    together = draw(st.booleans())  # the speakers of a session share a dialogue
    return corpus(
        [
            {
                "speaker": f"v{speaker}",
                "emotion": CLASSES[label] if label >= 0 else None,
                "session": f"s{i % 4}",
                "dialogue": f"s{i % 4}" + ("" if together else f"v{speaker}"),
                "phrase": f"p{phrase}",
                "fold": str(i % 3),
            }
            for i, (speaker, phrase, label) in enumerate(rows)
        ]
    )


configs = st.builds(
    lambda config, selection: config.model_copy(update={"selection": selection}),
    st.sampled_from(ALL),
    st.sampled_from(["validation", "held_out"]),
)


def folded(drawn: Corpus, config: FoldsConfig) -> list[Fold]:
    """The folds; hypothesis draws another corpus if the scheme refuses this one."""
    try:
        return drawn.folds(config)
    except ConfigError:
        reject()


@settings(deadline=None)  # the first import of scikit-learn takes long
@given(corpora(), configs)
def test_every_scheme_is_accepted_and_counted(drawn: Corpus, config: FoldsConfig) -> None:
    folds = folded(drawn, config)
    whole = any(config.model_copy(update={"selection": "validation"}) == other for other in WHOLE)
    counts = drawn.audit(folds, config, context=whole)
    assert Audit.model_validate_json(counts.model_dump_json()) == counts
    assert counts.labelled + counts.unlabelled == len(drawn.labels)
    assert sum(int(k) * n for k, n in counts.tested.items()) == sum(len(f.test) for f in folds)
    speakers = np.asarray(drawn.table["speaker"].to_pylist())
    for fold, counted in zip(folds, counts.folds, strict=True):
        for name, part in counted.parts.items():
            rows = getattr(fold, name)
            labels = drawn.labels[rows]
            assert part.utterances == len(rows)
            assert list(part.classes.values()) == np.bincount(labels, minlength=3).tolist()
            assert part.speakers == {
                who: int((speakers[rows] == who).sum()) for who in set(speakers[rows])
            }
            lacking = {
                who: [c for i, c in enumerate(CLASSES) if i not in labels[speakers[rows] == who]]
                for who in set(speakers[rows])
            }
            assert part.lacking == {who: absent for who, absent in lacking.items() if absent}
        known = set(speakers[fold.train])
        assert counted.shared["speaker"] == sum(who in known for who in speakers[fold.test])


@settings(deadline=None)
@given(corpora(), st.sampled_from([*RANDOM, *WHOLE]), st.booleans())
def test_context_is_counted_by_the_part_that_it_comes_from(
    drawn: Corpus, config: FoldsConfig, several: bool
) -> None:
    if several:
        turns_of_all = turns_before(*conversation(drawn.table), window=40)
        drawn = dataclasses.replace(drawn, context=turns_of_all)
    folds = folded(drawn, config)
    counts = drawn.audit(folds, config)
    for fold, counted in zip(folds, counts.folds, strict=True):
        place = {int(row): p for p in ("train", "validation", "test") for row in getattr(fold, p)}
        taken: dict[tuple[str, str], int] = {}
        for turns in drawn.context:
            for row, turn in zip(turns.takers.tolist(), turns.rows.tolist(), strict=True):
                if row in place:
                    link = (place[row], place.get(turn, "unlabelled"))
                    taken[link] = taken.get(link, 0) + 1
        assert {
            (part, source): count
            for part, sources in counted.context.items()
            for source, count in sources.items()
            if count
        } == taken
    if config in WHOLE:
        assert counts.context["test"]["validation"] == counts.context["train"]["validation"] == 0
        assert counts.context["test"]["train"] == counts.context["train"]["test"] == 0


def moved(fold: Fold, row: int, source: str, target: str) -> Fold:
    """The fold with one utterance in another part."""
    parts = {name: getattr(fold, name) for name in ("train", "validation", "test")}
    parts[source] = parts[source][parts[source] != row]
    parts[target] = np.append(parts[target], row)
    return Fold(fold.name, **parts)


@settings(deadline=None)
@given(corpora(), st.sampled_from(ALL), st.data())
def test_a_repeated_dropped_or_unlabelled_utterance_is_found(
    drawn: Corpus, config: FoldsConfig, data: st.DataObject
) -> None:
    folds = folded(drawn, config)
    number = data.draw(st.integers(0, len(folds) - 1))
    fold = folds[number]
    row = int(data.draw(st.sampled_from(fold.test.tolist())))
    match data.draw(st.sampled_from(["in two parts", "twice in a part", "dropped", "unlabelled"])):
        case "in two parts":
            folds[number] = dataclasses.replace(fold, train=np.append(fold.train, row))
            problem = f"fold {fold.name}: 1 utterances occur more than once; the first is row "
            problem += f"{row + 1}, u"
        case "twice in a part":
            folds[number] = dataclasses.replace(fold, test=np.append(fold.test, row))
            problem = f"fold {fold.name}: 1 utterances occur more than once; the first is row "
            problem += f"{row + 1}, u"
        case "dropped":
            folds[number] = dataclasses.replace(fold, test=fold.test[fold.test != row])
            problem = f"1 labelled utterances are in no part; the first is row {row + 1}, u"
        case _:
            drawn.labels[row] = -1
            problem = "1 utterances without a class are in a part; the first is row"
    with pytest.raises(AuditError, match=problem):
        drawn.audit(folds, config, context=False)


@pytest.mark.parametrize(
    ("config", "unit"),
    [
        pytest.param(LeaveOneSessionOut(), "session s0", id="session"),
        pytest.param(LeaveOneSpeakerOut(), "speaker 0a", id="speaker"),
        pytest.param(PhraseGroups(folds=4), "phrase p", id="phrase"),
        pytest.param(StratifiedGroupKFold(folds=4), "speaker ", id="group"),
    ],
)
def test_a_unit_in_two_parts_is_found(talk: Corpus, config: FoldsConfig, unit: str) -> None:
    first, *rest = talk.folds(config)
    broken = moved(first, int(first.test[0]), "test", "train")
    with pytest.raises(AuditError) as caught:
        talk.audit([broken, *rest], config, context=False)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"the folds of {config.scheme} break its rule:"
    assert lines[1].startswith(f"fold {first.name}: {unit}")
    assert lines[1].endswith(" is in train and test")
    assert "not tested 1 times; the first is row" in lines[2]
    assert lines[2].endswith("tested 0 times")


def test_random_folds_may_have_a_speaker_in_two_parts(talk: Corpus) -> None:
    config = RandomRepeated(folds=2)
    first, second = talk.folds(config)
    talk.audit([moved(first, int(first.test[0]), "test", "train"), second], config)


def test_training_utterances_as_context_of_test_utterances_are_found(talk: Corpus) -> None:
    """A speaker who is left out has context turns of the other speaker, who trains."""
    config: FoldsConfig = LeaveOneSpeakerOut(selection="held_out")
    folds = talk.folds(config)
    with pytest.raises(AuditError) as caught:
        talk.audit(folds, config)
    assert "fold 0a: 6 context turns of test utterances are training" in str(caught.value)
    assert "first is row 2, u001, context of row 3, u002" in str(caught.value)
    assert "whole (leave_one_session_out), or a model without context" in str(caught.value)
    assert talk.audit(folds, config, context=False).context["test"]["train"] == 0

    config = LeaveOneSessionOut()
    own, other = talk.context
    # a turn of another session, which trains
    reached = dataclasses.replace(talk, context=(with_turn(own, 2, 40), other))
    with pytest.raises(AuditError, match=r"fold s0: 1 context turns .* row 41, u040, context of"):
        reached.audit(talk.folds(config), config)


def test_unlabelled_context_is_allowed_and_counted(talk: Corpus) -> None:
    config = LeaveOneSessionOut()
    counts = talk.audit(talk.folds(config), config)
    assert counts.context["test"]["train"] == counts.context["test"]["validation"] == 0
    own, other = talk.context
    # the last turn, which has no label
    changed = dataclasses.replace(talk, context=(with_turn(own, 6, 7), other))
    counts = changed.audit(talk.folds(config), config)
    assert counts.folds[0].context["test"]["unlabelled"] == 1


def test_notes_count_the_overlap_of_random_parts(talk: Corpus) -> None:
    config = RandomRepeated(folds=3)
    counts = talk.audit(talk.folds(config), config)
    context = counts.context["test"]["train"]
    assert context > 0
    assert any(note.startswith(f"{context} context turns of test utt") for note in counts.notes)
    assert any("who also trains" in note for note in counts.notes)
    repeated = sum(count for times, count in counts.tested.items() if int(times) > 1)
    assert repeated > 0
    assert any(
        note.startswith(f"{repeated} utterances are tested in several") for note in counts.notes
    )


def test_other_broken_rules_are_found(talk: Corpus) -> None:
    config = LeaveOneSessionOut()
    folds = talk.folds(config)
    with pytest.raises(AuditError, match="two folds have the same name: s0, s0, s2"):
        talk.audit([folds[0], *folds[:1], *folds[2:]], config)
    with pytest.raises(AuditError, match=r"validation part has .* with selection held_out"):
        talk.audit(folds, LeaveOneSessionOut(selection="held_out"))
    empty = dataclasses.replace(folds[0], train=folds[0].train[:0])
    with pytest.raises(AuditError, match="train part has 0 utterances"):
        talk.audit([empty, *folds[1:]], config)


def test_a_long_list_of_problems_is_cut(talk: Corpus) -> None:
    config = LeaveOneSpeakerOut()
    swapped = [Fold(f.name, f.test, f.validation, f.train[:-1]) for f in talk.folds(config)]
    with pytest.raises(AuditError) as caught:
        talk.audit(swapped, config)
    lines = str(caught.value).split("\n")
    assert len(lines) == 12
    assert lines[-1].startswith("and ")


@pytest.mark.parametrize(
    "second", [{"file": "0.wav"}, {"file": "./0.wav"}, {"file": "0.wav", "start": 0.0}]
)
def test_a_recording_under_two_ids_is_found_in_two_parts(second: dict[str, Any]) -> None:
    """Two rows of one file are the same utterance, unless they are different segments of it."""
    rows = [
        {"id": str(i), "speaker": f"v{i % 4}", "emotion": CLASSES[i // 4 % 3], "file": f"{i}.wav"}
        for i in range(24)
    ]
    config = LeaveOneSpeakerOut()
    rows[1] |= second
    repeated = corpus(rows)
    with pytest.raises(AuditError, match=r"2 rows have .* row 1, 0, the same as row 2, 1"):
        repeated.audit(repeated.folds(config), config)
    rows[0] |= {"start": 0.0, "end": 1.0}
    rows[1] |= {"start": 1.0, "end": 2.0}
    segments = corpus(rows)
    segments.audit(segments.folds(config), config)


def test_speakers_in_several_sessions_are_named() -> None:
    config = LeaveOneSessionOut()
    crossed = corpus(
        [
            {"speaker": f"v{i % 3}", "session": str(i // 9), "emotion": CLASSES[i // 3 % 3]}
            for i in range(27)
        ]
    )
    counts = crossed.audit(crossed.folds(config), config)
    assert counts.crossing == {f"v{i}": ["0", "1", "2"] for i in range(3)}
    assert "3 speakers occur in several sessions (v0, v1, v2): a division" in counts.notes[1]
    assert counts.folds[0].shared == {"speaker": 9, "session": 0}


def test_normalisation_by_speaker_is_named_transductive(talk: Corpus) -> None:
    config = LeaveOneSessionOut()
    arguments = (talk.table, talk.labels, CLASSES, talk.folds(config), *talk.context, config)
    for normalize, expected in (
        (["speaker"], True),
        (["channel"], True),
        (["band", "train"], True),  # a search over both
        (["none", "train"], False),
        (["train"], False),
        (["none"], False),
    ):
        notes = audit(*arguments, normalize).notes
        assert any("transductive" in note for note in notes) == expected
        searched = [note for note in notes if note.startswith("With features.normalize: band")]
        assert len(searched) == ("band" in normalize)


def test_missing_classes_are_named(talk: Corpus) -> None:
    config = LeaveOneSessionOut()
    labels = talk.labels.copy()
    speakers = np.asarray(talk.table["speaker"].to_pylist())
    labels[np.isin(speakers, ["0a", "0b"]) & (labels == 2)] = -1
    rare = dataclasses.replace(talk, labels=labels)
    counts = rare.audit(rare.folds(config), config)
    assert counts.folds[0].parts["test"].lacking == {"0a": ["sad"], "0b": ["sad"]}
    assert "A class is missing in the test part of 1 folds: s0 has no sad." in counts.notes
