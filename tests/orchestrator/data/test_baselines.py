"""Label-only baselines, compared with plain Python and with corpora whose answer is known."""

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.label_baselines import EMOTIONS, rows
from features.context import Turns
from features.manifest import normalise
from orchestrator.config.sections import (
    CorpusFolds,
    FoldsConfig,
    LeaveOneSessionOut,
    LeaveOneSpeakerOut,
    RandomRepeated,
    StratifiedGroupKFold,
)
from orchestrator.data.audit import audit
from orchestrator.data.baselines import baselines_over_folds, label_baselines, label_ua
from orchestrator.data.folds import make_folds
from orchestrator.ledger.records import Audit, FoldAudit, PartCounts
from orchestrator.ledger.seals import canonical_json

UNITS = ["nothing", "speaker", "session", "dialogue", "dialogue and speaker", "phrase"]


def plain_ua(
    labels: Sequence[int],
    train: Sequence[int],
    test: Sequence[int],
    group: Sequence[int],
    classes: int,
) -> Fraction:
    """The expected UA of the best guess, with fractions and loops."""
    recalls = []
    for truth in sorted({labels[row] for row in test}):
        hits = []
        for row in test:
            if labels[row] != truth:
                continue
            mine = [r for r in train if group[r] == group[row] and group[row] >= 0]
            shares = [Fraction(0)] * classes
            for c in range(classes):
                of_class = sum(labels[r] == c for r in train)
                if of_class:
                    shares[c] = Fraction(sum(labels[r] == c for r in mine), of_class)
            best = [c for c in range(classes) if shares[c] == max(shares)]
            hits.append(Fraction(truth in best, len(best)))
        recalls.append(sum(hits, Fraction(0)) / len(hits))
    return sum(recalls, Fraction(0)) / len(recalls)


@given(
    st.integers(2, 4).flatmap(
        lambda classes: st.tuples(
            st.just(classes),
            st.lists(
                st.tuples(st.integers(0, classes - 1), st.integers(-1, 4), st.booleans()),
                min_size=2,
                max_size=40,
            ),
        )
    )
)
def test_the_best_guess_is_that_of_plain_python(
    drawn: tuple[int, list[tuple[int, int, bool]]],
) -> None:
    classes, utterances = drawn
    utterances = [(0, 0, True), *utterances, (1, 0, False)]  # both parts have an utterance
    labels, group, trains = (np.asarray(column) for column in zip(*utterances, strict=True))
    train, test = np.flatnonzero(trains), np.flatnonzero(~trains)
    ua = label_ua(labels, train, test, group, classes)
    expected = plain_ua(labels.tolist(), train.tolist(), test.tolist(), group.tolist(), classes)
    assert ua == pytest.approx(float(expected), abs=1e-12)


def test_rare_classes_count_as_much_as_frequent_ones() -> None:
    """A group of 30 frequent and 2 rare utterances is guessed as rare, if half of all rare are in
    it, and only a third of all frequent ones: the most frequent class would be right less often.
    """
    labels = np.asarray([0] * 30 + [1] * 2 + [0] * 60 + [1] * 2 + [0, 1, 0, 1])
    group = np.asarray([0] * 32 + [1] * 62 + [0, 0, 1, 1])
    train, test = np.arange(94), np.arange(94, 98)
    # Group 0: rare. Group 1: two thirds of the frequent, half of the rare ones: frequent.
    assert label_ua(labels, train, test, group, 2) == (1 / 2 + 1 / 2) / 2
    assert label_ua(labels, train, test[1:3], group, 2) == 1.0


def talk(emotion_of: Any, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Four sessions of two speakers and four dialogues of 12 turns, with phrases."""
    generator = np.random.default_rng(seed)
    utterances = [
        {
            "file": f"s{session}d{dialogue}_{turn:02d}.wav",
            "speaker": f"s{session}{'ab'[turn % 2]}",
            "session": f"s{session}",
            "dialogue": f"s{session}d{dialogue}",
            "phrase": f"p{turn % 6}",
            "turn": turn,
        }
        for session in range(4)
        for dialogue in range(4)
        for turn in range(12)
    ]
    for row in utterances:
        row["emotion"] = EMOTIONS[emotion_of(row, generator)]
    table = normalise(pa.Table.from_pylist(utterances))
    return table, np.asarray([EMOTIONS.index(e) for e in table["emotion"].to_pylist()])


def by_speaker(row: dict[str, Any], generator: np.random.Generator) -> int:
    return 0 if row["speaker"].endswith("a") else int(generator.integers(1, 4))


def by_dialogue(row: dict[str, Any], generator: np.random.Generator) -> int:
    return int(row["dialogue"][-1]) if generator.random() < 0.8 else int(generator.integers(4))


def by_phrase(row: dict[str, Any], generator: np.random.Generator) -> int:
    return int(row["phrase"][1]) % 4


def by_both(row: dict[str, Any], generator: np.random.Generator) -> int:
    return (int(row["dialogue"][-1]) + row["turn"] % 2) % 4


def by_chance(row: dict[str, Any], generator: np.random.Generator) -> int:
    return int(generator.integers(4))


@pytest.mark.parametrize(
    ("emotion_of", "scheme", "leaks"),
    [
        pytest.param(by_speaker, RandomRepeated(), {"speaker", "dialogue and speaker"}, id="who"),
        pytest.param(
            by_dialogue,
            LeaveOneSpeakerOut(selection="held_out"),
            {"dialogue"},
            id="in, speaker left out",
        ),
        pytest.param(by_dialogue, RandomRepeated(), {"dialogue", "dialogue and speaker"}, id="in"),
        pytest.param(by_dialogue, LeaveOneSessionOut(), set(), id="in, session left out"),
        pytest.param(
            by_dialogue,
            StratifiedGroupKFold(folds=4, group="dialogue"),
            set(),
            id="in, dialogue left out",
        ),
        pytest.param(by_phrase, LeaveOneSessionOut(), {"phrase"}, id="said"),
        pytest.param(by_chance, LeaveOneSessionOut(), set(), id="chance, session left out"),
        pytest.param(by_chance, RandomRepeated(), set(), id="chance"),
        pytest.param(by_chance, RandomRepeated(folds=2), set(), id="chance, two folds"),
    ],
)
def test_the_leaking_unit_is_found_and_no_other(
    emotion_of: Any, scheme: FoldsConfig, leaks: set[str]
) -> None:
    table, labels = talk(emotion_of)
    counted = audited(table, labels, scheme)
    baselines = baselines_over_folds(counted.folds)
    assert [each.given for each in baselines] == UNITS
    found = {each.given for each in baselines if each.leaks}
    assert leaks <= found
    if not leaks:
        assert not found
    note = [note for note in counted.notes if note.startswith("The folds leak labels")]
    assert len(note) == bool(leaks)
    assert all(f"% given the {unit}" in note[0] for unit in leaks)


def audited(table: pa.Table, labels: np.ndarray, scheme: FoldsConfig) -> Audit:
    folds = make_folds(table, labels, EMOTIONS, scheme)
    without = Turns.none(len(labels))
    return audit(table, labels, EMOTIONS, folds, without, without, scheme)


def test_dialogue_and_speaker_together_tell_more_than_each_alone() -> None:
    table, labels = talk(by_both)
    (first, *_) = audited(table, labels, RandomRepeated()).folds
    assert first.label_baselines["dialogue and speaker"] == 1.0
    assert first.label_baselines["dialogue"] < 0.8


def test_an_unknown_group_is_guessed_as_if_nothing_was_known() -> None:
    """Under leave-one-session-out, no session, dialogue or speaker of the test part trains."""
    table, labels = talk(by_dialogue)
    for fold in audited(table, labels, LeaveOneSessionOut(selection="held_out")).folds:
        known = {unit: ua for unit, ua in fold.label_baselines.items() if unit != "phrase"}
        assert set(known.values()) == {0.25}


def test_only_columns_with_values_and_only_the_training_part_count() -> None:
    table, labels = talk(by_dialogue)
    empty = pa.nulls(len(table), pa.string())
    for name in ("dialogue", "phrase"):
        table = table.set_column(table.schema.get_field_index(name), name, empty)
    # One fold: the first two dialogues' sessions train, the third validates, the fourth tests.
    splits = {"s0": "train", "s1": "train", "s2": "dev", "s3": "test"}
    split = pa.array([splits[session] for session in table["session"].to_pylist()])
    table = table.set_column(table.schema.get_field_index("split"), "split", split)
    (fold,) = make_folds(table, labels, EMOTIONS, CorpusFolds())
    (values,) = label_baselines(table, labels, 4, [fold])
    assert values == {"nothing": 0.25, "speaker": 0.25, "session": 0.25}
    # With the sessions of the validation part as those of the test part, nothing changes.
    same = pa.array(["s2" if s == "s3" else s for s in table["session"].to_pylist()])
    table = table.set_column(table.schema.get_field_index("session"), "session", same)
    assert label_baselines(table, labels, 4, [fold]) == [values]


def test_the_order_of_a_record_does_not_matter() -> None:
    """A sealed record has its keys in alphabetical order."""
    table, labels = talk(by_dialogue)
    counted = audited(table, labels, RandomRepeated())
    read = Audit.model_validate(json.loads(canonical_json(counted.model_dump())))
    assert list(read.folds[0].label_baselines) != UNITS
    assert baselines_over_folds(read.folds) == baselines_over_folds(counted.folds)


def fold_audit(name: str, values: dict[str, float], tested: int) -> FoldAudit:
    counts = PartCounts(
        utterances=4 * tested, classes=dict.fromkeys(EMOTIONS, tested), speakers={}, lacking={}
    )
    parts = dict.fromkeys(("train", "validation", "test"), counts)
    return FoldAudit(name=name, parts=parts, shared={}, context={}, label_baselines=values)


def test_the_interval_is_over_folds_or_over_the_utterances_of_one_fold() -> None:
    values = [0.3, 0.5, 0.4]
    folds = [fold_audit(str(i), {"nothing": 0.25, "speaker": v}, 10) for i, v in enumerate(values)]
    _, speaker = baselines_over_folds(folds)
    # Every part of these folds has 40 utterances, so n_test / n_train is 1.
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) * np.sqrt(1 / 3 + 1)
    assert speaker.ua == pytest.approx((0.4, 0.4 - half, 0.4 + half))
    assert not speaker.leaks  # -0.10 to 0.90

    for tested, leaks in ((3, False), (30, True), (300, True)):
        _, speaker = baselines_over_folds(
            [fold_audit("corpus", {"nothing": 0.25, "speaker": 0.4}, tested)]
        )
        half = 1.96 * np.sqrt(0.4 * 0.6 / (4 * tested))
        assert speaker.ua == pytest.approx((0.4, 0.4 - half, 0.4 + half))
        assert speaker.leaks == leaks


def test_a_record_of_an_older_version_has_no_baselines() -> None:
    old = fold_audit("1", {}, 10)
    plain = old.model_dump(exclude={"label_baselines"})
    assert FoldAudit.model_validate(plain) == old
    assert baselines_over_folds([old, old]) == []


def test_the_corpus_of_the_documentation_leaks_its_dialogues_only_at_random() -> None:
    table = normalise(pa.Table.from_pylist(rows()))
    labels = np.asarray([EMOTIONS.index(e) for e in table["emotion"].to_pylist()])
    of_dialogue = np.asarray([int(name[-1]) % 4 for name in table["dialogue"].to_pylist()])
    assert (labels == of_dialogue).mean() == 0.8
    random = baselines_over_folds(audited(table, labels, RandomRepeated()).folds)
    assert {each.given for each in random if each.leaks} == {"dialogue", "dialogue and speaker"}
    assert next(each.ua.low for each in random if each.given == "dialogue") > 0.7
    by_session = baselines_over_folds(audited(table, labels, LeaveOneSessionOut()).folds)
    assert {each.ua.value for each in by_session} == {0.25}


@pytest.mark.parametrize("scheme", [RandomRepeated(), LeaveOneSessionOut()])
def test_the_documentation_has_the_values_of_its_corpus(scheme: FoldsConfig) -> None:
    table = normalise(pa.Table.from_pylist(rows()))
    labels = np.asarray([EMOTIONS.index(e) for e in table["emotion"].to_pylist()])
    baselines = baselines_over_folds(audited(table, labels, scheme).folds)
    cells = " | ".join(f"{100 * each.ua.value:.1f}" for each in baselines)
    page = Path(__file__).parents[3] / "docs" / "label-baselines.md"
    assert f"| `{scheme.scheme}` | {cells} |" in page.read_text(encoding="utf-8")
