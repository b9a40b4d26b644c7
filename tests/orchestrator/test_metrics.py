"""Scores against scikit-learn, intervals and tests against scipy and the written formulas."""

import math
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from orchestrator.ledger.ledger import TrialRecord
from orchestrator.metrics import (
    Scores,
    confusion,
    corrected_resampled_t,
    fold_interval,
    mcnemar_exact,
    positions,
    scores,
    speaker_bootstrap,
    speaker_resamples,
)
from orchestrator.results.selection import (
    FoldScore,
    best_trial,
    fold_scores,
    nested_choices,
    nested_estimate,
)

# A time limit on one example measures how busy the machine is.
relaxed = settings(deadline=None)
CLASSES = ["ang", "hap", "neu", "sad"]
labelled = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=60
)


@given(labelled)
@relaxed
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, prediction = (list(side) for side in zip(*pairs, strict=True))
    found = scores(truth, prediction, CLASSES)
    # scikit-learn's function warns of classes that are predicted and never true; it skips them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found.ua == pytest.approx(balanced_accuracy_score(truth, prediction))
    assert found.wa == pytest.approx(accuracy_score(truth, prediction))
    for name in CLASSES:
        if name in truth:
            expected = recall_score(truth, prediction, labels=[name], average=None)[0]
            assert found.recalls[name] == pytest.approx(expected)
        else:
            assert math.isnan(found.recalls[name])


@given(labelled)
@relaxed
def test_positions_and_names_score_alike(pairs: list[tuple[str, str]]) -> None:
    truth, prediction = (list(side) for side in zip(*pairs, strict=True))
    as_numbers = [np.array([CLASSES.index(name) for name in side]) for side in (truth, prediction)]
    named, numbered = scores(truth, prediction, CLASSES), scores(*as_numbers, CLASSES)
    assert (named.ua, named.wa) == (numbered.ua, numbered.wa)
    np.testing.assert_array_equal(
        confusion(truth, prediction, CLASSES), confusion(*as_numbers, range(len(CLASSES)))
    )


def test_confusion_has_truth_in_rows() -> None:
    matrix = confusion(["a", "a", "b"], ["b", "a", "b"], ["a", "b", "c"])
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_arrow_columns_are_labels_too() -> None:
    column = pa.chunked_array([["a", "b"], ["b"]])
    assert scores(column, ["a", "b", "a"], ["a", "b"]).ua == 0.75


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([], [], "no utterances"),
        (["ang"], ["ang", "hap"], "1 true labels but 2"),
        (["ang"], ["exc"], "'exc' is none of the classes"),
        ([0], [4], "label 4 is no position"),
        ([0], [-1], "label -1 is no position"),
        ([[0]], [[0]], "one-dimensional"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth: list, prediction: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores(truth, prediction, CLASSES)


def test_integer_classes_are_values_and_not_positions() -> None:
    assert positions([7, 3, 7], [3, 7]).tolist() == [1, 0, 1]


@given(
    st.lists(st.floats(0, 1, width=16), min_size=2, max_size=12),
    st.sampled_from([0.8, 0.95, 0.99]),
)
@relaxed
def test_fold_interval_is_scipys_t_interval(values: list[float], confidence: float) -> None:
    assume(np.ptp(values) > 1e-3)
    mean, low, high = fold_interval(values, confidence)
    expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_one_fold_has_no_interval_and_none_is_an_error() -> None:
    mean, low, high = fold_interval([0.6])
    assert mean == 0.6
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(math.isnan(value) for value in fold_interval([0.5, math.nan]))
    with pytest.raises(ValueError, match="at least one fold"):
        fold_interval([])


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_bootstrap_is_a_naive_loop_over_the_same_resamples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, samples = int(rng.integers(5, 60)), 25
    speakers = rng.choice(["F01", "F02", "M01", "M02", "M03"], count)
    truth, prediction = rng.choice(CLASSES, count), rng.choice(CLASSES, count)
    found = speaker_bootstrap(truth, prediction, speakers, CLASSES, seed, samples)
    names = sorted(set(speakers))
    assume(len(names) > 1)
    naive = []
    for drawn in speaker_resamples(len(names), samples, seed):
        rows = np.concatenate([np.flatnonzero(speakers == names[index]) for index in drawn])
        naive.append(scores(truth[rows], prediction[rows], CLASSES))
    for interval, values in (
        (found.ua, [sample.ua for sample in naive]),
        (found.wa, [sample.wa for sample in naive]),
        (found.recalls["sad"], [sample.recalls["sad"] for sample in naive]),
    ):
        kept = [value for value in values if not math.isnan(value)]
        if kept:
            expected = np.quantile(kept, [0.025, 0.975])
            assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    point = scores(truth, prediction, CLASSES)
    assert (found.ua.value, found.wa.value) == pytest.approx((point.ua, point.wa))
    assert found.speakers == len(names)


def test_bootstrap_of_one_speaker_has_no_interval() -> None:
    found = speaker_bootstrap(["a", "b"], ["a", "a"], ["F01", "F01"], ["a", "b"], seed=0)
    assert found.ua.value == 0.5
    assert math.isnan(found.ua.low)
    with pytest.raises(ValueError, match="2 utterances but 1 speakers"):
        speaker_bootstrap(["a", "b"], ["a", "a"], ["F01"], ["a", "b"], seed=0)


def test_bootstrap_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Speakers whose own accuracy varies: an interval over utterances would be far too narrow."""
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(150):
        level = rng.beta(6, 4, 30)  # mean 0.6 over speakers
        hits = rng.random((30, 40)) < level[:, None]
        truth = rng.integers(0, 2, hits.shape)
        guess = np.where(hits, truth, 1 - truth)
        speakers = np.repeat(np.arange(30), 40)
        wa = speaker_bootstrap(truth.ravel(), guess.ravel(), speakers, [0, 1], trial, 400).wa
        held += wa.low <= 0.6 <= wa.high
    assert 0.88 <= held / 150 <= 0.99


@given(
    st.lists(st.floats(-0.25, 0.25, width=16), min_size=2, max_size=10),
    st.integers(10, 1000),
    st.integers(1, 500),
)
@relaxed
def test_corrected_t_is_nadeau_and_bengios_formula(
    differences: list[float], n_train: int, n_test: int
) -> None:
    assume(np.ptp(differences) > 1e-3)
    found = corrected_resampled_t(differences, n_train, n_test)
    folds = len(differences)
    mean = sum(differences) / folds
    variance = sum((value - mean) ** 2 for value in differences) / (folds - 1)
    t = mean / math.sqrt((1 / folds + n_test / n_train) * variance)
    assert found.t == pytest.approx(t, abs=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.cdf(-abs(t), folds - 1))
    assert (found.low <= 0 <= found.high) == (found.p_value >= 0.05)
    # It is never surer than the uncorrected test.
    assert found.p_value >= stats.ttest_1samp(differences, 0).pvalue - 1e-12


def test_corrected_t_at_its_edges() -> None:
    assert corrected_resampled_t([0.0, 0.0], 8, 2).p_value == 1
    sure = corrected_resampled_t([-0.25, -0.25], 8, 2)
    assert (sure.t, sure.p_value) == (-math.inf, 0)
    with pytest.raises(ValueError, match="two folds or more"):
        corrected_resampled_t([0.1], 8, 2)
    with pytest.raises(ValueError, match="cannot be empty"):
        corrected_resampled_t([0.1, 0.2], 0, 2)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80))
@relaxed
def test_mcnemar_is_the_binomial_test_of_the_utterances_that_differ(
    pairs: list[tuple[bool, bool]],
) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found = mcnemar_exact(first, second)
    first_only = sum(a and not b for a, b in pairs)
    second_only = sum(b and not a for a, b in pairs)
    assert (found.first_only, found.second_only) == (first_only, second_only)
    count, fewer = first_only + second_only, min(first_only, second_only)
    tail = sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    if count:
        assert found.p_value == pytest.approx(stats.binomtest(first_only, count).pvalue)


def test_mcnemar_refuses_unequal_lists() -> None:
    with pytest.raises(ValueError, match="equal lists"):
        mcnemar_exact([True], [True, False])


def score(fold: str, validation: float, test: float) -> FoldScore:
    return FoldScore(fold, 3, 5, validation, Scores(test, test, dict.fromkeys(CLASSES, test)))


def predicted(folds: dict[str, tuple[str, str]]) -> pa.Table:
    """One letter an utterance: truth and prediction of each fold."""
    rows = [
        {"fold": fold, "truth": t, "prediction": p}
        for fold, (truth, prediction) in folds.items()
        for t, p in zip(truth, prediction, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def test_nested_estimate_by_hand() -> None:
    """Trial 1 has the best mean validation score (0.70), yet no fold would choose it."""
    trials = {
        0: [score("A", 0.80, 0.75), score("B", 0.50, 0.40)],
        1: [score("A", 0.70, 1.00), score("B", 0.70, 0.75)],
        2: [score("A", 0.40, 0.30), score("B", 0.80, 0.25)],
    }
    tables = {
        0: predicted({"A": ("aabb", "abbb"), "B": ("aabb", "bbba")}),
        1: predicted({"A": ("aabb", "aabb"), "B": ("aabb", "abbb")}),
        2: predicted({"A": ("aabb", "bbab"), "B": ("aabb", "bbba")}),
    }
    records = [
        TrialRecord(
            id=f"{number:010x}",
            number=number,
            model="iaan",
            status="complete",
            hyperparameters={},
            seed=0,
            score=float(np.mean([fold.selection_score for fold in folds])),
        )
        for number, folds in trials.items()
    ]
    best = best_trial(records)
    assert best is not None
    assert best.number == 1
    nested = nested_estimate(trials, tables.__getitem__, ["a", "b"])
    assert nested.choices == {"A": 0, "B": 2}
    assert nested.ua.value == pytest.approx((0.75 + 0.25) / 2)
    # Pooled: fold A as trial 0 has it (abbb), fold B as trial 2 has it (bbba); a 1/4, b 3/4.
    assert nested.pooled.recalls == {"a": 0.25, "b": 0.75}
    assert nested.pooled.wa == 0.5


def test_ties_go_to_the_lower_number_and_missing_scores_to_nobody() -> None:
    trials = {
        4: [score("A", 0.5, 0.1), score("B", math.nan, 0.1)],
        2: [score("A", 0.5, 0.2)],
        7: [score("A", 0.4, 0.3), score("B", 0.0, 0.3)],
    }
    assert nested_choices(trials) == {"A": 2, "B": 7}
    with pytest.raises(ValueError, match="no trial has a validation score"):
        nested_estimate({}, lambda number: pa.table({}), CLASSES)


def test_best_trial_ignores_those_without_a_score() -> None:
    def record(number: int, value: float | None) -> TrialRecord:
        return TrialRecord(
            id=f"{number:010x}",
            number=number,
            model="iaan",
            status="failed" if value is None else "pruned",
            hyperparameters={},
            seed=0,
            score=value,
        )

    found = best_trial([record(3, 0.5), record(1, 0.5), record(0, None), record(2, 0.4)])
    assert found is not None
    assert found.number == 1
    assert best_trial([record(0, None)]) is None


@pytest.mark.parametrize("metric", ["ua", "wa"])
@pytest.mark.parametrize("seed", range(5))
def test_nested_estimate_is_a_brute_force_loop(seed: int, metric: str) -> None:
    """From tables of every epoch, as on disk, to the estimate, beside plain loops."""
    rng = np.random.default_rng(seed)
    folds, numbers = ["A", "B", "C"], [0, 1, 2, 3]
    tables, predictions = {}, {}
    for number in numbers:
        rows = []
        for fold in folds:
            epochs = int(rng.integers(2, 6))
            # Coarse steps, so that ties happen.
            validation = rng.integers(0, 6, (epochs, 2)) / 5
            best = int(np.argmax(validation[:, int(metric == "wa")]))
            for epoch, (ua, wa) in enumerate(validation):
                row = {"fold": fold, "epoch": epoch + 1, "selected": epoch == best, "loss": 1.0}
                row |= {"ua": ua, "wa": wa} | {f"recall_{name}": ua for name in CLASSES}
                rows += [row | {"split": "train"}, row | {"split": "validation"}]
            test = {f"recall_{name}": 0.5 for name in CLASSES}
            test |= {"ua": rng.random(), "wa": rng.random(), "loss": 1.0}
            where = {"fold": fold, "epoch": best + 1, "selected": True, "split": "test"}
            rows.append(where | test)
        tables[number] = pa.Table.from_pylist(rows)
        predictions[number] = pa.table(
            {
                "fold": np.repeat(folds, 20),
                "truth": np.tile(rng.choice(CLASSES, 20), 3),
                "prediction": rng.choice(CLASSES, 60),
            }
        )
    trials = {n: fold_scores(tables[n], CLASSES, "validation", metric) for n in numbers}
    nested = nested_estimate(trials, predictions.__getitem__, CLASSES)

    test_ua, truth, guess = [], [], []
    for fold in folds:
        winner, highest = None, -1.0
        for number in numbers:
            for row in tables[number].to_pylist():
                candidate = row["fold"] == fold and row["split"] == "validation"
                if candidate and row[metric] > highest:
                    winner, highest = number, row[metric]
        assert nested.choices[fold] == winner
        for row in tables[winner].to_pylist():
            if row["fold"] == fold and row["split"] == "test":
                test_ua.append(row["ua"])
        for row in predictions[winner].to_pylist():
            if row["fold"] == fold:
                truth.append(row["truth"])
                guess.append(row["prediction"])
    assert nested.ua == pytest.approx(fold_interval(test_ua))
    assert nested.pooled == scores(truth, guess, CLASSES)


def test_a_fold_without_its_selected_rows_is_refused() -> None:
    row = {"fold": "A", "epoch": 1, "split": "train", "selected": True, "ua": 0.5, "wa": 0.5}
    with pytest.raises(ValueError, match="fold A: no selected row of part validation"):
        fold_scores(pa.Table.from_pylist([row]), CLASSES, "validation")
