from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from features.manifest import normalise
from orchestrator.config.sections import ConfigError, FoldsConfig, parse
from orchestrator.data.folds import SCHEMES, Fold, codes, make_folds, promise

CLASSES = ("ang", "hap", "neu", "sad")
PLAN: list[dict[str, Any]] = [
    {"scheme": "leave_one_session_out"},
    {"scheme": "leave_one_speaker_out"},
    {"scheme": "random_repeated", "folds": 4},
    {"scheme": "random_repeated", "folds": 2, "test_share": 0.45},
    {"scheme": "phrase_groups", "folds": 4},
    {"scheme": "stratified_group_k_fold", "folds": 3},
    {"scheme": "stratified_group_k_fold", "folds": 3, "group": "session"},
    {"scheme": "stratified_group_k_fold", "folds": 3, "group": "phrase"},
    {"scheme": "stratified_group_k_fold", "folds": 3, "group": "dialogue"},
    {"scheme": "corpus"},
]


def manifest(rows: list[dict[str, Any]]) -> tuple[pa.Table, np.ndarray]:
    """A manifest, and the class of each of its rows."""
    named = [{"file": f"{i:03d}.wav", **row} for i, row in enumerate(rows)]
    table = normalise(pa.Table.from_pylist(named))
    position = {name: index for index, name in enumerate(CLASSES)}
    return table, np.asarray([position.get(e, -1) for e in table["emotion"].to_pylist()])


@st.composite
def manifests(draw: st.DrawFn) -> tuple[pa.Table, np.ndarray]:
    """Five speakers who each say something of every class, and whatever comes besides.

    Speakers may cross sessions; unlabelled utterances may lack what labelled ones have.
    """
    drawn = draw(
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 9), st.integers(-1, 3)),
            min_size=20,
            max_size=60,
        )
    )
    said = [(s, s % 4, (s + 3 * c) % 10, c) for s in range(5) for c in range(4)] + drawn
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
            for i, (speaker, session, phrase, label) in enumerate(said)
        ]
    )


def folded(table: pa.Table, labels: np.ndarray, config: FoldsConfig) -> list[Fold]:
    """The folds; an example that the scheme refuses is no example."""
    try:
        return make_folds(table, labels, CLASSES, config)
    except ConfigError:
        reject()


def same(one: list[Fold], two: list[Fold]) -> bool:
    return [fold.name for fold in one] == [fold.name for fold in two] and all(
        np.array_equal(getattr(a, part), getattr(b, part))
        for a, b in zip(one, two, strict=True)
        for part in ("train", "validation", "test")
    )


plans = st.sampled_from(PLAN)
selections = st.sampled_from(["validation", "held_out"])


@settings(deadline=None)  # scikit-learn's first import takes long
@given(manifests(), plans, selections)
def test_every_scheme_keeps_its_promise(
    corpus: tuple[pa.Table, np.ndarray], plan: dict[str, Any], selection: str
) -> None:
    table, labels = corpus
    config = FoldsConfig(**plan, selection=selection)
    folds = folded(table, labels, config)
    labelled = np.flatnonzero(labels >= 0)
    kept = promise(table, labels, config)
    tested = np.concatenate([fold.test for fold in folds])
    if kept.tests is not None:
        assert np.array_equal(np.sort(tested), np.repeat(labelled, kept.tests))
    for fold in folds:
        parts = [fold.train, fold.validation, fold.test]
        assert np.array_equal(np.sort(np.concatenate(parts)), labelled)
        assert (len(fold.validation) > 0) == (selection == "validation")
        assert len(fold.train)
        assert len(fold.test)
        if kept.unit is not None:
            unit = np.asarray([str(value) for value in table[kept.unit].to_pylist()])
            sides = [set(unit[part]) for part in parts]
            assert not any(sides[i] & sides[j] for i, j in ((0, 1), (0, 2), (1, 2)))


@settings(deadline=None)
@given(manifests(), plans)
def test_the_validation_part_of_a_fold_tests_in_the_next(
    corpus: tuple[pa.Table, np.ndarray], plan: dict[str, Any]
) -> None:
    folds = folded(*corpus, FoldsConfig(**plan))
    if plan["scheme"] == "random_repeated":
        for fold in folds:
            assert len(fold.validation) == len(fold.test)
        return
    for fold, following in zip(folds, [*folds[1:], folds[0]], strict=True):
        assert np.array_equal(fold.validation, following.test)


@settings(deadline=None)
@given(manifests(), plans, selections, st.integers(0, 3))
def test_one_seed_gives_one_set_of_folds(
    corpus: tuple[pa.Table, np.ndarray], plan: dict[str, Any], selection: str, seed: int
) -> None:
    drawn = {"seed": seed} if "folds" in plan else {}
    config = FoldsConfig(**plan, **drawn, selection=selection)
    again = FoldsConfig.model_validate(config.model_dump())
    assert again == config
    folds = folded(*corpus, config)
    assert same(folds, folded(*corpus, again))


@settings(deadline=None)
@given(manifests(), st.sampled_from([PLAN[2], PLAN[3], PLAN[4]]), selections)
def test_seeds_draw_different_folds(
    corpus: tuple[pa.Table, np.ndarray], plan: dict[str, Any], selection: str
) -> None:
    table, labels = corpus
    drawn = []
    for seed in range(8):
        config = FoldsConfig(**plan, seed=seed, selection=selection)
        drawn.append(folded(table, labels, config))
    assert not all(same(drawn[0], other) for other in drawn[1:])


@settings(deadline=None)
@given(
    manifests(),
    st.sampled_from([PLAN[0], PLAN[1], PLAN[4], PLAN[-1]]),
    st.randoms(use_true_random=False),
)
def test_labels_do_not_decide_where_a_given_unit_goes(
    corpus: tuple[pa.Table, np.ndarray], plan: dict[str, Any], random: Any
) -> None:
    """Only the stratified schemes look at classes, for nothing but their shares."""
    table, labels = corpus
    folds = folded(table, labels, FoldsConfig(**plan))
    labelled = np.flatnonzero(labels >= 0)
    random.shuffle(order := labelled.tolist())
    permuted = labels.copy()
    permuted[labelled] = labels[order]
    assert same(folds, folded(table, permuted, FoldsConfig(**plan)))


def test_every_session_is_tested_once_and_selects_once(
    table: pa.Table, dataset: Any, folds: list[Fold]
) -> None:
    sessions = np.asarray(table["session"].to_pylist())
    labelled = np.flatnonzero(dataset.labels >= 0)
    assert [fold.name for fold in folds] == ["s0", "s1", "s2"]
    for fold, selects in zip(folds, ["s1", "s2", "s0"], strict=True):
        assert set(sessions[fold.test]) == {fold.name}
        assert set(sessions[fold.validation]) == {selects}
        assert set(sessions[fold.train]) == {"s0", "s1", "s2"} - {fold.name, selects}
        parts = np.concatenate([fold.train, fold.validation, fold.test])
        assert np.array_equal(np.sort(parts), labelled)
    tested = np.concatenate([fold.test for fold in folds])
    assert np.array_equal(np.sort(tested), labelled)


def test_held_out_trains_on_all_other_sessions(table: pa.Table, dataset: Any) -> None:
    config = FoldsConfig(selection="held_out")
    for fold in make_folds(table, dataset.labels, CLASSES, config):
        assert len(fold.validation) == 0
        assert np.array_equal(fold.selection, fold.test)
        assert len(fold.train) + len(fold.test) == (dataset.labels >= 0).sum()


def test_leave_one_speaker_out(table: pa.Table, dataset: Any) -> None:
    speakers = np.asarray(table["speaker"].to_pylist())
    found = make_folds(table, dataset.labels, CLASSES, FoldsConfig(scheme="leave_one_speaker_out"))
    assert len(found) == 6
    for fold in found:
        assert set(speakers[fold.test]) == {fold.name}
        assert fold.name not in set(speakers[fold.train])


def spoken(phrases: int, **columns: Any) -> tuple[pa.Table, np.ndarray]:
    """Two speakers say every phrase in every class."""
    return manifest(
        [
            {"speaker": speaker, "emotion": emotion, "phrase": f"s{phrase:03d}"}
            | {name: value(phrase) for name, value in columns.items()}
            for speaker in "ab"
            for phrase in range(phrases)
            for emotion in CLASSES
        ]
    )


def test_the_papers_phrase_groups() -> None:
    """Att-HACK: ten folds, each trains on 80 of 100 phrases and validates on the other 20."""
    table, labels = spoken(100)
    phrases = np.asarray(table["phrase"].to_pylist())

    def said(rows: np.ndarray) -> set[str]:
        return set(phrases[rows].tolist())

    papers = make_folds(
        table, labels, CLASSES, FoldsConfig(scheme="phrase_groups", selection="held_out")
    )
    assert [fold.name for fold in papers] == [f"phrases {n:02d}" for n in range(1, 11)]
    assert [(len(said(f.train)), len(said(f.test))) for f in papers] == [(80, 20)] * 10
    ours = make_folds(table, labels, CLASSES, FoldsConfig(scheme="phrase_groups"))
    for fold, paper in zip(ours, papers, strict=True):
        sizes = [len(said(part)) for part in (fold.train, fold.validation, fold.test)]
        assert sizes == [80, 10, 10]
        assert np.array_equal(fold.train, paper.train)
        assert said(fold.test) | said(fold.validation) == said(paper.test)
    assert said(ours[0].test) != {f"s{n:03d}" for n in range(10)}  # drawn, not in their order


def test_the_papers_random_splits() -> None:
    """SSA-CRNN on IEMOCAP: ten random 80/20 splits; each class has its share in every part."""
    table, labels = spoken(25)
    config = FoldsConfig(scheme="random_repeated", selection="held_out")
    folds = make_folds(table, labels, CLASSES, config)
    assert len(folds) == 10
    for fold in folds:
        assert np.bincount(labels[fold.test]).tolist() == [10] * 4
        assert np.bincount(labels[fold.train]).tolist() == [40] * 4
    honest = make_folds(table, labels, CLASSES, FoldsConfig(scheme="random_repeated"))
    assert [len(honest[0].train), len(honest[0].validation)] == [120, 40]
    assert np.array_equal(honest[0].test, folds[0].test)
    fewer = FoldsConfig(scheme="random_repeated", selection="held_out", folds=3)
    assert [f.test.tolist() for f in make_folds(table, labels, CLASSES, fewer)] == [
        f.test.tolist() for f in folds[:3]
    ]


def test_folds_and_splits_of_the_corpus() -> None:
    table, labels = spoken(12, fold=lambda phrase: str(phrase % 3 + 9))
    folds = make_folds(table, labels, CLASSES, FoldsConfig(scheme="corpus"))
    assert [fold.name for fold in folds] == ["9", "10", "11"]
    given_folds = np.asarray(table["fold"].to_pylist())
    assert set(given_folds[folds[1].test]) == {"10"}
    assert set(given_folds[folds[1].validation]) == {"11"}

    names = ("Training", "train", "DEV", "test")
    table, labels = spoken(12, split=lambda phrase: names[phrase % 4])
    (fold,) = make_folds(table, labels, CLASSES, FoldsConfig(scheme="corpus"))
    own = np.asarray(table["split"].to_pylist())
    assert set(own[fold.train]) == {"Training", "train"}
    assert (set(own[fold.validation]), set(own[fold.test])) == ({"DEV"}, {"test"})
    (held,) = make_folds(table, labels, CLASSES, FoldsConfig(scheme="corpus", selection="held_out"))
    assert set(own[held.train]) == {"Training", "train", "DEV"}
    assert np.array_equal(held.test, fold.test)


def test_the_stratified_parts_have_like_classes() -> None:
    """Each of 12 speakers has one class only: parts by their names alone would be lopsided."""
    table, labels = manifest(
        [{"speaker": f"v{v}", "emotion": CLASSES[v // 3]} for v in range(12) for _ in range(5)]
    )
    config = FoldsConfig(scheme="stratified_group_k_fold", folds=3)
    for fold in make_folds(table, labels, CLASSES, config):
        assert np.bincount(labels[fold.test]).tolist() == [5] * 4
    again = [
        make_folds(table, labels, CLASSES, config.model_copy(update={"seed": seed}))
        for seed in range(3)
    ]
    assert not same(again[0], again[1])
    assert not same(again[1], again[2])


def test_codes_are_in_natural_order() -> None:
    column = pa.chunked_array([pa.array(["s10", "s9", None]), pa.array(["a", "s9", "S2"])])
    numbers, names = codes(column)
    assert names == ["S2", "a", "s9", "s10"]
    assert numbers.tolist() == [3, 2, -1, 1, 2, 0]
    assert codes(pa.chunked_array([pa.nulls(2, pa.string())]))[0].tolist() == [-1, -1]


def without(table: pa.Table, name: str, values: list[str | None]) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, name, pa.array(values, pa.string()))


def test_a_scheme_that_the_manifest_cannot_serve(table: pa.Table, dataset: Any) -> None:
    empty = without(table, "session", [None] * len(table))
    with pytest.raises(ConfigError, match="column `session`, which is missing or empty"):
        make_folds(empty, dataset.labels, CLASSES, FoldsConfig())
    sessions = table["session"].to_pylist()
    sessions[4] = None
    holed = without(table, "session", sessions)
    with pytest.raises(ConfigError, match="row 5: s0_004, speaker s0a"):
        make_folds(holed, dataset.labels, CLASSES, FoldsConfig())
    two = table.slice(0, 64)
    with pytest.raises(ConfigError, match=r"at least 3 sessions .* has 2: s0, s1"):
        make_folds(two, dataset.labels[:64], CLASSES, FoldsConfig())
    with pytest.raises(ConfigError, match=r"no scheme kfold; known: .*leave_one_session_out"):
        make_folds(table, dataset.labels, CLASSES, FoldsConfig(scheme="kfold"))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"scheme": "phrase_groups"}, "column `phrase`, which is missing or empty"),
        ({"scheme": "stratified_group_k_fold"}, "10 folds need as many speakers .* has 6; lower"),
        ({"scheme": "stratified_group_k_fold", "folds": 2}, "folds.folds: .* at least 3, not 2"),
        ({"scheme": "corpus"}, "column `fold` or `split`, and both are missing or empty"),
    ],
)
def test_what_a_scheme_needs(
    table: pa.Table, dataset: Any, plan: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_folds(table, dataset.labels, CLASSES, FoldsConfig(**plan))


def test_what_the_other_schemes_refuse() -> None:
    table, labels = spoken(6, split=lambda phrase: "train" if phrase else "test")
    with pytest.raises(ConfigError, match=r"needs as many phrases|need as many phrases .* has 6"):
        make_folds(table, labels, CLASSES, FoldsConfig(scheme="phrase_groups"))
    with pytest.raises(ConfigError, match=r"`split` is validation, and there are none; mark some"):
        make_folds(table, labels, CLASSES, FoldsConfig(scheme="corpus"))
    odd = without(table, "split", ["held back"] * len(table))
    with pytest.raises(ConfigError, match="row 1, 000, has held back; rename it"):
        make_folds(odd, labels, CLASSES, FoldsConfig(scheme="corpus"))
    rare = np.full(len(table), -1)
    rare[:6] = [0, 0, 0, 1, 1, 1]
    rare[10:12] = 2
    with pytest.raises(ConfigError, match=r"3 utterances of each class; that of row 11, 010, has"):
        make_folds(table, rare, CLASSES[:3], FoldsConfig(scheme="random_repeated"))


def test_a_training_part_without_a_class(table: pa.Table, dataset: Any) -> None:
    labels = dataset.labels.copy()
    labels[(labels == 3) & (np.arange(len(labels)) < 64)] = -1  # `sad` is left in session 2 only
    with pytest.raises(ConfigError, match="fold s1 has no training utterance of class sad"):
        make_folds(table, labels, CLASSES, FoldsConfig())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"folds": 5}, "folds.folds: must be left out with leave_one_session_out"),
        ({"scheme": "corpus", "seed": 1}, "folds.seed: must be left out with corpus"),
        (
            {"scheme": "phrase_groups", "test_share": 0.1},
            "folds.test_share: must be left out with phrase_groups, which has folds, seed",
        ),
        ({"scheme": "random_repeated", "test_share": 0.5}, "folds.test_share: must be below 0.5"),
        ({"scheme": "random_repeated", "folds": 1}, "folds.folds: .*greater than or equal to 2"),
        ({"scheme": "stratified_group_k_fold", "group": "gender"}, "folds.group: "),
    ],
)
def test_an_option_that_does_not_fit_is_named(section: dict[str, Any], message: str) -> None:
    raw = {
        "name": "x",
        "corpus": {"root": "x.csv", "classes": ["ang", "sad"]},
        "model": {"name": "iaan"},
        "folds": section,
    }
    with pytest.raises(ConfigError, match=message):
        parse(raw)


def test_a_resolved_configuration_has_the_scheme_s_options_and_reads_back() -> None:
    for scheme in SCHEMES:
        config = FoldsConfig(scheme=scheme)
        plain = config.model_dump(mode="json")
        assert None not in plain.values()
        assert FoldsConfig.model_validate(plain) == config
    assert FoldsConfig(scheme="random_repeated").model_dump(exclude={"selection"}) == {
        "scheme": "random_repeated",
        "folds": 10,
        "test_share": 0.2,
        "seed": 0,
    }
