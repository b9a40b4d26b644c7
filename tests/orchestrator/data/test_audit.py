"""The audit passes every scheme's folds, and finds every kind of broken one."""

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from features.context import previous_turns
from features.manifest import normalise
from orchestrator.data.audit import Audit, AuditError, audit, audit_rows
from orchestrator.config.sections import ConfigError, FoldsConfig
from orchestrator.data.folds import Fold, make_folds

CLASSES = ("ang", "neu", "sad")
PLANS: list[dict[str, Any]] = [
    {"scheme": "leave_one_session_out"},
    {"scheme": "leave_one_speaker_out"},
    {"scheme": "random_repeated", "folds": 3},
    {"scheme": "phrase_groups", "folds": 3},
    {"scheme": "stratified_group_k_fold", "folds": 3},
    {"scheme": "stratified_group_k_fold", "folds": 3, "group": "session"},
    {"scheme": "stratified_group_k_fold", "folds": 3, "group": "dialogue"},
    {"scheme": "corpus"},
]
WHOLE = [PLANS[0], PLANS[5], PLANS[6]]  # dialogues are on one side, so context cannot cross
Contexts = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Corpus:
    table: pa.Table
    labels: np.ndarray
    context: Contexts

    def folds(self, config: FoldsConfig) -> list[Fold]:
        return make_folds(self.table, self.labels, CLASSES, config)

    def audit(self, folds: list[Fold], config: FoldsConfig, context: bool = True) -> Audit:
        own, other = self.context if context else (np.full(len(self.labels), -1),) * 2
        return audit(self.table, self.labels, CLASSES, folds, own, other, config)


def corpus(rows: list[dict[str, Any]]) -> Corpus:
    named = [{"file": f"u{i:03d}.wav", **row} for i, row in enumerate(rows)]
    table = normalise(pa.Table.from_pylist(named))
    labels = [CLASSES.index(e) if e in CLASSES else -1 for e in table["emotion"].to_pylist()]
    said = (table[name].to_pylist() for name in ("speaker", "dialogue", "turn"))
    return Corpus(table, np.asarray(labels), previous_turns(*said))


@pytest.fixture(scope="module")
def talk() -> Corpus:
    """Four sessions of two speakers in two dialogues of eight turns; the last is unlabelled."""
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
    """Four speakers who each say something of every class in their session, and what comes."""
    drawn = draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(-1, 2)), max_size=40)
    )
    said = [(speaker, c + speaker, c) for speaker in range(4) for c in range(3)] + drawn
    together = draw(st.booleans())  # two speakers a dialogue, or monologues
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
            for i, (speaker, phrase, label) in enumerate(said)
        ]
    )


@settings(deadline=None)  # scikit-learn's first import takes long
@given(corpora(), st.sampled_from(PLANS), st.sampled_from(["validation", "held_out"]))
def test_every_scheme_passes_and_is_counted_right(
    said: Corpus, plan: dict[str, Any], selection: str
) -> None:
    config = FoldsConfig(**plan, selection=selection)
    try:
        folds = said.folds(config)
    except ConfigError:
        reject()
    found = said.audit(folds, config, context=plan in WHOLE)
    plain = found.as_dict()
    assert json.loads(json.dumps(plain)) == yaml.safe_load(yaml.safe_dump(plain)) == plain
    assert found.labelled + found.unlabelled == len(said.labels)
    assert sum(int(k) * n for k, n in found.tested.items()) == sum(len(f.test) for f in folds)
    speakers = np.asarray(said.table["speaker"].to_pylist())
    for fold, counted in zip(folds, found.folds, strict=True):
        for name, part in counted.parts.items():
            rows = getattr(fold, name)
            assert part.utterances == len(rows)
            assert (
                list(part.classes.values()) == np.bincount(said.labels[rows], minlength=3).tolist()
            )
            assert part.speakers == {
                who: int((speakers[rows] == who).sum()) for who in set(speakers[rows])
            }
            lacking = {
                who: [c for i, c in enumerate(CLASSES) if i not in said.labels[rows][mine]]
                for who in set(speakers[rows])
                for mine in [speakers[rows] == who]
            }
            assert part.lacking == {who: what for who, what in lacking.items() if what}
        known = set(speakers[fold.train])
        assert counted.shared["speaker"] == sum(who in known for who in speakers[fold.test])


@settings(deadline=None)
@given(corpora(), st.sampled_from(PLANS[2:4] + WHOLE))
def test_context_is_counted_by_where_it_comes_from(said: Corpus, plan: dict[str, Any]) -> None:
    config = FoldsConfig(**plan)
    try:
        folds = said.folds(config)
    except ConfigError:
        reject()
    found = said.audit(folds, config)
    for fold, counted in zip(folds, found.folds, strict=True):
        place = {int(row): p for p in ("train", "validation", "test") for row in getattr(fold, p)}
        taken: dict[tuple[str, str], int] = {}
        for turns in said.context:
            for row, turn in enumerate(turns.tolist()):
                if row in place and turn >= 0:
                    link = (place[row], place.get(turn, "unlabelled"))
                    taken[link] = taken.get(link, 0) + 1
        assert {
            (part, source): count
            for part, sources in counted.context.items()
            for source, count in sources.items()
            if count
        } == taken
    if plan in WHOLE:
        assert found.context["test"]["validation"] == found.context["train"]["validation"] == 0
        assert found.context["test"]["train"] == found.context["train"]["test"] == 0


def moved(fold: Fold, row: int, source: str, target: str) -> Fold:
    """The fold with one utterance in another part."""
    parts = {name: getattr(fold, name) for name in ("train", "validation", "test")}
    parts[source] = parts[source][parts[source] != row]
    parts[target] = np.append(parts[target], row)
    return Fold(fold.name, **parts)


@settings(deadline=None)
@given(corpora(), st.sampled_from(PLANS), st.data())
def test_a_moved_or_doubled_or_dropped_utterance_is_found(
    said: Corpus, plan: dict[str, Any], data: st.DataObject
) -> None:
    config = FoldsConfig(**plan)
    try:
        folds = said.folds(config)
    except ConfigError:
        reject()
    number = data.draw(st.integers(0, len(folds) - 1))
    fold = folds[number]
    row = int(data.draw(st.sampled_from(fold.test.tolist())))
    how = data.draw(st.sampled_from(["doubled", "twice", "dropped", "unlabelled"]))
    if how == "doubled":
        folds[number] = dataclasses.replace(fold, train=np.append(fold.train, row))
        message = f"fold {fold.name}: 1 utterances more than once; the first is row {row + 1}, u"
    elif how == "twice":
        folds[number] = dataclasses.replace(fold, test=np.append(fold.test, row))
        message = f"fold {fold.name}: 1 utterances more than once; the first is row {row + 1}, u"
    elif how == "dropped":
        folds[number] = dataclasses.replace(fold, test=fold.test[fold.test != row])
        message = f"1 utterances with a label in no part; the first is row {row + 1}, u"
    else:
        said.labels[row] = -1
        message = "1 utterances without a label; the first is row"
    with pytest.raises(AuditError, match=message):
        said.audit(folds, config, context=False)


@pytest.mark.parametrize(
    ("plan", "unit"),
    [
        ({"scheme": "leave_one_session_out"}, "session s0"),
        ({"scheme": "leave_one_speaker_out"}, "speaker 0a"),
        ({"scheme": "phrase_groups", "folds": 4}, "phrase p"),
        ({"scheme": "stratified_group_k_fold", "folds": 4}, "speaker "),
    ],
)
def test_a_unit_on_two_sides(talk: Corpus, plan: dict[str, Any], unit: str) -> None:
    config = FoldsConfig(**plan)
    first, *rest = talk.folds(config)
    broken = moved(first, int(first.test[0]), "test", "train")
    with pytest.raises(AuditError) as caught:
        talk.audit([broken, *rest], config, context=False)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"the folds of {plan['scheme']} break its rule:"
    assert lines[1].startswith(f"fold {first.name}: {unit}")
    assert lines[1].endswith(" is in train and test")
    assert "not tested 1 times; the first is row" in lines[2]
    assert lines[2].endswith("tested 0 times")


def test_the_random_and_the_corpus_s_own_schemes_may_move_an_utterance(talk: Corpus) -> None:
    config = FoldsConfig(scheme="random_repeated", folds=2)
    first, second = talk.folds(config)
    talk.audit([moved(first, int(first.test[0]), "test", "train"), second], config)


def test_training_neighbours_of_test_utterances(talk: Corpus) -> None:
    """A voice left out hears the one it talks with, which trains."""
    config = FoldsConfig(scheme="leave_one_speaker_out", selection="held_out")
    folds = talk.folds(config)
    with pytest.raises(AuditError) as caught:
        talk.audit(folds, config)
    assert "fold 0a: 6 context turns of test utterances are training" in str(caught.value)
    assert "first is row 2, u001, context of row 3, u002" in str(caught.value)
    assert "whole (leave_one_session_out), or train a model without context" in str(caught.value)
    assert talk.audit(folds, config, context=False).context["test"]["train"] == 0

    config = FoldsConfig()
    own, other = (turns.copy() for turns in talk.context)
    own[2] = 40  # of another session, which trains
    reached = dataclasses.replace(talk, context=(own, other))
    with pytest.raises(AuditError, match=r"fold s0: 1 context turns .* row 41, u040, context of"):
        reached.audit(talk.folds(config), config)


def test_unlabelled_neighbours_are_allowed_and_counted(talk: Corpus) -> None:
    found = talk.audit(talk.folds(FoldsConfig()), FoldsConfig())
    assert found.context["test"]["train"] == found.context["test"]["validation"] == 0
    own, other = (turns.copy() for turns in talk.context)
    own[6] = 7  # the unlabelled last turn
    taken = dataclasses.replace(talk, context=(own, other)).audit(
        talk.folds(FoldsConfig()), FoldsConfig()
    )
    assert taken.folds[0].context["test"]["unlabelled"] == 1


def test_context_across_random_parts_is_counted_and_said(talk: Corpus) -> None:
    config = FoldsConfig(scheme="random_repeated", folds=3)
    found = talk.audit(talk.folds(config), config)
    heard = found.context["test"]["train"]
    assert heard > 0
    assert any(note.startswith(f"{heard} context turns of test utt") for note in found.notes)
    assert any("who also trains: the scores are not of unknown voices" in n for n in found.notes)
    repeated = sum(count for times, count in found.tested.items() if int(times) > 1)
    assert repeated > 0
    assert any(
        note.startswith(f"{repeated} utterances are tested in several") for note in found.notes
    )


def test_other_broken_rules(talk: Corpus) -> None:
    config = FoldsConfig()
    folds = talk.folds(config)
    with pytest.raises(AuditError, match="two folds have one name"):
        talk.audit([folds[0], *folds[:1], *folds[2:]], config)
    with pytest.raises(AuditError, match="validation utterances with selection held_out"):
        talk.audit(folds, FoldsConfig(selection="held_out"))
    beyond = dataclasses.replace(folds[0], test=np.append(folds[0].test, 64))
    with pytest.raises(AuditError, match="test has row 65 of a manifest of 64"):
        talk.audit([beyond, *folds[1:]], config)
    empty = dataclasses.replace(folds[0], train=folds[0].train[:0])
    with pytest.raises(AuditError, match="nothing to train on"):
        talk.audit([empty, *folds[1:]], config)


def test_a_long_list_is_cut(talk: Corpus) -> None:
    config = FoldsConfig(scheme="leave_one_speaker_out")
    swapped = [Fold(f.name, f.test, f.validation, f.train[:-1]) for f in talk.folds(config)]
    with pytest.raises(AuditError) as caught:
        talk.audit(swapped, config)
    lines = str(caught.value).split("\n")
    assert len(lines) == 12
    assert lines[-1].startswith("and ")


def test_one_recording_under_two_ids() -> None:
    """Two rows of one file: an utterance twice, unless they are different parts of the file."""
    rows = [
        {"id": str(i), "speaker": f"v{i % 4}", "emotion": CLASSES[i // 4 % 3], "file": f"{i}.wav"}
        for i in range(24)
    ]
    config = FoldsConfig(scheme="leave_one_speaker_out")
    rows[1] |= {"file": "0.wav"}
    said = corpus(rows)
    with pytest.raises(AuditError, match=r"one recording .* row 1, 0, the same as row 2, 1"):
        said.audit(said.folds(config), config)
    rows[0] |= {"start": 0.0, "end": 1.0}
    rows[1] |= {"start": 1.0, "end": 2.0}
    said = corpus(rows)
    said.audit(said.folds(config), config)


def test_speakers_who_cross_sessions_are_named() -> None:
    said = corpus(
        [
            {"speaker": f"v{i % 3}", "session": str(i // 9), "emotion": CLASSES[i // 3 % 3]}
            for i in range(27)
        ]
    )
    found = said.audit(said.folds(FoldsConfig()), FoldsConfig())
    assert found.crossing == {f"v{i}": ["0", "1", "2"] for i in range(3)}
    assert (
        "3 speakers occur in several sessions (v0, v1, v2): sessions do not keep" in found.notes[1]
    )
    assert found.folds[0].shared == {"speaker": 9, "session": 0}


def test_normalisation_by_speaker_is_named_transductive(talk: Corpus) -> None:
    folds, config = talk.folds(FoldsConfig()), FoldsConfig()
    arguments = (talk.table, talk.labels, CLASSES, folds, *talk.context, config)
    assert any("transductive" in note for note in audit(*arguments).notes)
    assert not any("transductive" in note for note in audit(*arguments, normalize="none").notes)


def test_missing_classes_are_named(talk: Corpus) -> None:
    labels = talk.labels.copy()
    speakers = np.asarray(talk.table["speaker"].to_pylist())
    labels[(speakers == "0a") & (labels == 2)] = -1
    labels[(speakers == "0b") & (labels == 2)] = -1
    said = dataclasses.replace(talk, labels=labels)
    found = said.audit(said.folds(FoldsConfig()), FoldsConfig())
    assert found.folds[0].parts["test"].lacking == {"0a": ["sad"], "0b": ["sad"]}
    assert "A class is missing in the test part of 1 folds: s0 has no sad." in found.notes
    row = audit_rows(found.as_dict())[0]
    assert row["test_lacking"] == "0a: no sad, 0b: no sad"
    assert row["fold"] == "s0"
    assert (row["test_speakers"], row["train_speakers"]) == (2, 4)
    assert row["from_train"] == row["known_voices"] == 0
    assert audit_rows({}) == []
