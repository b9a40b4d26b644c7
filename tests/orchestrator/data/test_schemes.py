"""Every scheme keeps its promise, divides as its paper does, and refuses an unfit manifest."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from features.manifest import normalise
from orchestrator.config.sections import (
    FOLDS,
    CorpusFolds,
    FoldsConfig,
    LeaveOneSessionOut,
    LeaveOneSpeakerOut,
    PhraseGroups,
    RandomRepeated,
    StratifiedGroupKFold,
)
from orchestrator.data.folds import Fold, make_folds
from orchestrator.data.schemes import SCHEMES
from orchestrator.errors import ConfigError

CLASSES = ("ang", "hap", "neu", "sad")
BY_UNIT = [
    LeaveOneSessionOut(),
    LeaveOneSpeakerOut(),
    PhraseGroups(folds=4),
    CorpusFolds(),
]
RANDOM = [RandomRepeated(folds=4), RandomRepeated(folds=2, test_share=0.45)]
STRATIFIED = [
    StratifiedGroupKFold(folds=3, group=group)
    for group in ("speaker", "session", "phrase", "dialogue")
]
ALL = [*BY_UNIT, *RANDOM, *STRATIFIED]


def manifest(rows: list[dict[str, Any]]) -> tuple[pa.Table, np.ndarray]:
    """A manifest, and the class of each of its rows."""
    named = [{"file": f"{i:03d}.wav", **row} for i, row in enumerate(rows)]
    table = normalise(pa.Table.from_pylist(named))
    position = {name: index for index, name in enumerate(CLASSES)}
    return table, np.asarray([position.get(e, -1) for e in table["emotion"].to_pylist()])


@st.composite
def manifests(draw: st.DrawFn) -> tuple[pa.Table, np.ndarray]:
    """Five speakers with an utterance of every class each, and random utterances in addition.

    Speakers may be in several sessions. Unlabelled utterances may lack values of other columns.
    """
    drawn = draw(
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 9), st.integers(-1, 3)),
            min_size=20,
            max_size=60,
        )
    )
    rows = [(s, s % 4, (s + 3 * c) % 10, c) for s in range(5) for c in range(4)] + drawn
    holes = draw(st.booleans())
    return manifest(
        [
            {
                "speaker": f"v{speaker}",
                "emotion": CLASSES[label] if label >= 0 else None,
                "session": None if holes and label < 0 else f"s{session}",
                "dialogue": None if holes and label < 0 else f"d{session}.{i % 2}",
                "phrase": None if holes and label < 0 else f"p{phrase}",
                "fold": str((i + session) % 3),
            }
            for i, (speaker, session, phrase, label) in enumerate(rows)
        ]
    )


def folded(table: pa.Table, labels: np.ndarray, config: FoldsConfig) -> list[Fold]:
    """The folds; hypothesis draws another manifest if the scheme refuses this one."""
    try:
        return make_folds(table, labels, CLASSES, config)
    except ConfigError:
        reject()


def same(first: list[Fold], second: list[Fold]) -> bool:
    return [fold.name for fold in first] == [fold.name for fold in second] and all(
        np.array_equal(getattr(a, part), getattr(b, part))
        for a, b in zip(first, second, strict=True)
        for part in ("train", "validation", "test")
    )


configs = st.builds(
    lambda config, selection: config.model_copy(update={"selection": selection}),
    st.sampled_from(ALL),
    st.sampled_from(["validation", "held_out"]),
)


def test_each_scheme_has_one_entry_and_one_section() -> None:
    assert SCHEMES.keys() == FOLDS.keys()
    for name, options in FOLDS.items():
        assert options.model_validate({}).scheme == name


@settings(deadline=None)  # the first import of scikit-learn takes long
@given(manifests(), configs)
def test_every_scheme_keeps_its_promise(
    corpus: tuple[pa.Table, np.ndarray], config: FoldsConfig
) -> None:
    table, labels = corpus
    folds = folded(table, labels, config)
    labelled = np.flatnonzero(labels >= 0)
    promise = SCHEMES[config.scheme].promise(table, labels, config)
    tested = np.concatenate([fold.test for fold in folds])
    if promise.tests is not None:
        assert np.array_equal(np.sort(tested), np.repeat(labelled, promise.tests))
    for fold in folds:
        parts = [fold.train, fold.validation, fold.test]
        assert np.array_equal(np.sort(np.concatenate(parts)), labelled)
        assert (len(fold.validation) > 0) == (config.selection == "validation")
        assert len(fold.train)
        assert len(fold.test)
        if promise.unit is not None:
            unit = np.asarray([str(value) for value in table[promise.unit].to_pylist()])
            units = [set(unit[part]) for part in parts]
            assert not any(units[i] & units[j] for i, j in ((0, 1), (0, 2), (1, 2)))


@settings(deadline=None)
@given(manifests(), st.sampled_from(ALL))
def test_the_validation_part_of_a_fold_tests_in_the_next(
    corpus: tuple[pa.Table, np.ndarray], config: FoldsConfig
) -> None:
    folds = folded(*corpus, config)
    if config.scheme == "random_repeated":
        for fold in folds:
            assert len(fold.validation) == len(fold.test)
        return
    for fold, following in zip(folds, [*folds[1:], folds[0]], strict=True):
        assert np.array_equal(fold.validation, following.test)


@settings(deadline=None)
@given(manifests(), configs, st.integers(0, 3))
def test_the_same_seed_gives_the_same_folds(
    corpus: tuple[pa.Table, np.ndarray], config: FoldsConfig, seed: int
) -> None:
    if "seed" in type(config).model_fields:
        config = config.model_copy(update={"seed": seed})
    again = type(config).model_validate(config.model_dump())
    assert again == config
    folds = folded(*corpus, config)
    assert same(folds, folded(*corpus, again))


@settings(deadline=None)
@given(manifests(), st.sampled_from([*RANDOM, BY_UNIT[2]]))
def test_different_seeds_give_different_folds(
    corpus: tuple[pa.Table, np.ndarray], config: FoldsConfig
) -> None:
    drawn = [folded(*corpus, config.model_copy(update={"seed": seed})) for seed in range(8)]
    assert not all(same(drawn[0], other) for other in drawn[1:])


@settings(deadline=None)
@given(manifests(), st.sampled_from(BY_UNIT), st.randoms(use_true_random=False))
def test_labels_do_not_decide_the_part_of_a_unit(
    corpus: tuple[pa.Table, np.ndarray], config: FoldsConfig, random: Any
) -> None:
    """Only the random and the stratified schemes look at classes, and only at their shares."""
    table, labels = corpus
    folds = folded(table, labels, config)
    labelled = np.flatnonzero(labels >= 0)
    random.shuffle(order := labelled.tolist())
    permuted = labels.copy()
    permuted[labelled] = labels[order]
    assert same(folds, folded(table, permuted, config))


def test_every_session_tests_once_and_validates_once(
    table: pa.Table, dataset: Any, folds: list[Fold]
) -> None:
    sessions = np.asarray(table["session"].to_pylist())
    labelled = np.flatnonzero(dataset.labels >= 0)
    assert [fold.name for fold in folds] == ["s0", "s1", "s2"]
    for fold, validates in zip(folds, ["s1", "s2", "s0"], strict=True):
        assert set(sessions[fold.test]) == {fold.name}
        assert set(sessions[fold.validation]) == {validates}
        assert set(sessions[fold.train]) == {"s0", "s1", "s2"} - {fold.name, validates}
        parts = np.concatenate([fold.train, fold.validation, fold.test])
        assert np.array_equal(np.sort(parts), labelled)


def test_held_out_trains_on_all_other_sessions(table: pa.Table, dataset: Any) -> None:
    config = LeaveOneSessionOut(selection="held_out")
    for fold in make_folds(table, dataset.labels, CLASSES, config):
        assert len(fold.validation) == 0
        assert len(fold.train) + len(fold.test) == (dataset.labels >= 0).sum()


def test_leave_one_speaker_out_tests_each_speaker(table: pa.Table, dataset: Any) -> None:
    speakers = np.asarray(table["speaker"].to_pylist())
    folds = make_folds(table, dataset.labels, CLASSES, LeaveOneSpeakerOut())
    assert len(folds) == 6
    for fold in folds:
        assert set(speakers[fold.test]) == {fold.name}
        assert fold.name not in set(speakers[fold.train])


def phrase_corpus(phrases: int, **columns: Any) -> tuple[pa.Table, np.ndarray]:
    """Two speakers say every phrase once in every class."""
    return manifest(
        [
            {"speaker": speaker, "emotion": emotion, "phrase": f"s{phrase:03d}"}
            | {name: value(phrase) for name, value in columns.items()}
            for speaker in "ab"
            for phrase in range(phrases)
            for emotion in CLASSES
        ]
    )


def test_phrase_groups_have_the_sizes_of_the_paper() -> None:
    """Att-HACK: each of ten folds trains on 80 of 100 phrases and validates on the other 20."""
    table, labels = phrase_corpus(100)
    phrases = np.asarray(table["phrase"].to_pylist())

    def phrases_of(rows: np.ndarray) -> set[str]:
        return set(phrases[rows].tolist())

    held_out = make_folds(table, labels, CLASSES, PhraseGroups(selection="held_out"))
    assert [fold.name for fold in held_out] == [f"phrases {n:02d}" for n in range(1, 11)]
    sizes = [(len(phrases_of(fold.train)), len(phrases_of(fold.test))) for fold in held_out]
    assert sizes == [(80, 20)] * 10
    validated = make_folds(table, labels, CLASSES, PhraseGroups())
    for fold, paper in zip(validated, held_out, strict=True):
        parts = (fold.train, fold.validation, fold.test)
        assert [len(phrases_of(part)) for part in parts] == [80, 10, 10]
        assert np.array_equal(fold.train, paper.train)
        assert phrases_of(fold.test) | phrases_of(fold.validation) == phrases_of(paper.test)
    assert phrases_of(validated[0].test) != {f"s{n:03d}" for n in range(10)}  # drawn at random


def test_random_splits_have_the_sizes_of_the_paper() -> None:
    """SSA-CRNN on IEMOCAP: ten random 80/20 splits; each class has its share in every part."""
    table, labels = phrase_corpus(25)
    folds = make_folds(table, labels, CLASSES, RandomRepeated(selection="held_out"))
    assert len(folds) == 10
    for fold in folds:
        assert np.bincount(labels[fold.test]).tolist() == [10] * 4
        assert np.bincount(labels[fold.train]).tolist() == [40] * 4
    validated = make_folds(table, labels, CLASSES, RandomRepeated())
    assert [len(validated[0].train), len(validated[0].validation)] == [120, 40]
    assert np.array_equal(validated[0].test, folds[0].test)
    fewer = make_folds(table, labels, CLASSES, RandomRepeated(selection="held_out", folds=3))
    assert [f.test.tolist() for f in fewer] == [f.test.tolist() for f in folds[:3]]


def test_the_corpus_has_its_own_folds_or_splits() -> None:
    table, labels = phrase_corpus(12, fold=lambda phrase: str(phrase % 3 + 9))
    folds = make_folds(table, labels, CLASSES, CorpusFolds())
    assert [fold.name for fold in folds] == ["9", "10", "11"]
    own_folds = np.asarray(table["fold"].to_pylist())
    assert set(own_folds[folds[1].test]) == {"10"}
    assert set(own_folds[folds[1].validation]) == {"11"}

    names = ("Training", "train", "DEV", "test")
    table, labels = phrase_corpus(12, split=lambda phrase: names[phrase % 4])
    (fold,) = make_folds(table, labels, CLASSES, CorpusFolds())
    splits = np.asarray(table["split"].to_pylist())
    assert set(splits[fold.train]) == {"Training", "train"}
    assert (set(splits[fold.validation]), set(splits[fold.test])) == ({"DEV"}, {"test"})
    (held_out,) = make_folds(table, labels, CLASSES, CorpusFolds(selection="held_out"))
    assert set(splits[held_out.train]) == {"Training", "train", "DEV"}
    assert np.array_equal(held_out.test, fold.test)


def test_stratified_parts_have_similar_classes() -> None:
    """Each of 12 speakers has only one class, so a division by name would be unbalanced."""
    table, labels = manifest(
        [{"speaker": f"v{v}", "emotion": CLASSES[v // 3]} for v in range(12) for _ in range(5)]
    )
    config = StratifiedGroupKFold(folds=3)
    for fold in make_folds(table, labels, CLASSES, config):
        assert np.bincount(labels[fold.test]).tolist() == [5] * 4
    seeded = [
        make_folds(table, labels, CLASSES, config.model_copy(update={"seed": seed}))
        for seed in range(3)
    ]
    assert not same(seeded[0], seeded[1])
    assert not same(seeded[1], seeded[2])


def with_column(table: pa.Table, name: str, values: list[str | None]) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, name, pa.array(values, pa.string()))


def test_leave_one_out_needs_the_group_of_every_labelled_row(table: pa.Table, dataset: Any) -> None:
    empty = with_column(table, "session", [None] * len(table))
    with pytest.raises(ConfigError, match="column `session`, which is missing or empty"):
        make_folds(empty, dataset.labels, CLASSES, LeaveOneSessionOut())
    sessions = table["session"].to_pylist()
    sessions[4] = None
    incomplete = with_column(table, "session", sessions)
    with pytest.raises(ConfigError, match=r"1 rows have no session.* row 5, s0_004, speaker s0a"):
        make_folds(incomplete, dataset.labels, CLASSES, LeaveOneSessionOut())
    two = table.slice(0, 64)
    with pytest.raises(ConfigError, match=r"at least 3 sessions .* has 2: s0, s1\. Choose"):
        make_folds(two, dataset.labels[:64], CLASSES, LeaveOneSessionOut())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param(PhraseGroups(), "column `phrase`, which is missing or empty", id="no phrases"),
        pytest.param(
            StratifiedGroupKFold(),
            r"folds\.folds: .* at least 10 speakers .* has 6: s0a, .*\. Lower",
            id="too few speakers",
        ),
        pytest.param(
            StratifiedGroupKFold(folds=2),
            r"folds\.folds: .* at least 3, not 2",
            id="no part left to train",
        ),
        pytest.param(
            StratifiedGroupKFold(folds=90, group="dialogue"),
            r"folds\.folds: .* at least 90 dialogues",
            id="too few dialogues",
        ),
        pytest.param(
            CorpusFolds(),
            "column `fold` or `split`, but both are missing or empty",
            id="no folds or splits",
        ),
    ],
)
def test_a_scheme_refuses_an_unfit_manifest(
    table: pa.Table, dataset: Any, config: FoldsConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_folds(table, dataset.labels, CLASSES, config)


def test_phrase_groups_need_enough_phrases() -> None:
    table, labels = phrase_corpus(6)
    with pytest.raises(ConfigError, match=r"at least 10 phrases .* has 6"):
        make_folds(table, labels, CLASSES, PhraseGroups())


def test_own_splits_must_be_complete_and_known() -> None:
    table, labels = phrase_corpus(6, split=lambda phrase: "train" if phrase else "test")
    with pytest.raises(ConfigError, match=r"`split` is validation, but .* no such row\. Mark"):
        make_folds(table, labels, CLASSES, CorpusFolds())
    odd = with_column(table, "split", ["held back"] * len(table))
    with pytest.raises(ConfigError, match=r"row 1, 000, has held back\. Rename the split"):
        make_folds(odd, labels, CLASSES, CorpusFolds())


def test_random_splits_need_an_utterance_of_each_class_in_each_part() -> None:
    table, _ = phrase_corpus(6)
    rare = np.full(len(table), -1)
    rare[:6] = [0, 0, 0, 1, 1, 1]
    rare[10:12] = 2
    with pytest.raises(ConfigError, match=r"3 utterances of each class, .* row 11, 010, has 2"):
        make_folds(table, rare, CLASSES[:3], RandomRepeated())


def test_stratified_folds_need_a_class_of_as_many_utterances() -> None:
    table, labels = manifest([{"speaker": f"v{i}", "emotion": CLASSES[i % 4]} for i in range(8)])
    with pytest.raises(ConfigError, match=r"folds\.folds: 3 folds .* has more than 2\. Lower"):
        make_folds(table, labels, CLASSES, StratifiedGroupKFold(folds=3))
