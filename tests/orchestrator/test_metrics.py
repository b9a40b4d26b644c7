"""Scores against scikit-learn; intervals and tests against scipy and the published formulas."""

import math
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from orchestrator.metrics import (
    confusion,
    corrected_resampled_t,
    fold_interval,
    holm,
    mcnemar_exact,
    positions,
    scores,
    speaker_bootstrap,
    speaker_resamples,
)

# A time limit for one example would only measure how busy the machine is.
relaxed = settings(deadline=None)
CLASSES = ["ang", "hap", "neu", "sad"]
labelled = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=60
)


@given(labelled)
@relaxed
def test_scores_equal_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, prediction = (list(side) for side in zip(*pairs, strict=True))
    ours = scores(truth, prediction, CLASSES)
    # scikit-learn warns about classes that are predicted but never true, and skips them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ours.ua == pytest.approx(balanced_accuracy_score(truth, prediction))
    recalls = recall_score(truth, prediction, labels=CLASSES, average=None, zero_division=np.nan)
    assert ours.ua == np.nanmean(recalls)
    assert ours.wa == accuracy_score(truth, prediction)
    for name in CLASSES:
        if name in truth:
            expected = recall_score(truth, prediction, labels=[name], average=None)[0]
            assert ours.recalls[name] == expected
        else:
            assert math.isnan(ours.recalls[name])


@given(labelled)
@relaxed
def test_positions_and_names_have_the_same_scores(pairs: list[tuple[str, str]]) -> None:
    truth, prediction = (list(side) for side in zip(*pairs, strict=True))
    as_numbers = [np.array([CLASSES.index(name) for name in side]) for side in (truth, prediction)]
    named, numbered = scores(truth, prediction, CLASSES), scores(*as_numbers, CLASSES)
    assert (named.ua, named.wa) == (numbered.ua, numbered.wa)
    np.testing.assert_array_equal(
        confusion(truth, prediction, CLASSES), confusion(*as_numbers, range(len(CLASSES)))
    )


def test_a_row_of_the_confusion_matrix_is_a_true_class() -> None:
    matrix = confusion(["a", "a", "b"], ["b", "a", "b"], ["a", "b", "c"])
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_labels_may_be_arrow_columns() -> None:
    column = pa.chunked_array([["a", "b"], ["b"]])
    assert scores(column, ["a", "b", "a"], ["a", "b"]).ua == 0.75


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        pytest.param([], [], "no utterances", id="no utterances"),
        pytest.param(["ang"], ["ang", "hap"], "1 true labels", id="unequal lengths"),
        pytest.param(["ang"], ["exc"], "'exc'", id="unknown class"),
        pytest.param([0], [4], "label 4", id="position too large"),
        pytest.param([0], [-1], "label -1", id="negative position"),
        pytest.param([[0]], [[0]], "one-dimensional", id="matrix"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused(
    truth: list, prediction: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scores(truth, prediction, CLASSES)


def test_integer_classes_are_values_instead_of_positions() -> None:
    assert positions([7, 3, 7], [3, 7]).tolist() == [1, 0, 1]


@given(
    st.lists(st.floats(0, 1, width=16), min_size=2, max_size=12),
    st.sampled_from([0.8, 0.95, 0.99]),
)
@relaxed
def test_the_interval_over_folds_is_scipys_t_interval(
    values: list[float], confidence: float
) -> None:
    assume(np.ptp(values) > 1e-3)
    mean, low, high = fold_interval(values, confidence)
    expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_one_fold_has_no_interval_and_zero_folds_are_refused() -> None:
    mean, low, high = fold_interval([0.6])
    assert mean == 0.6
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(math.isnan(value) for value in fold_interval([0.5, math.nan]))
    with pytest.raises(ValueError, match="at least one fold"):
        fold_interval([])


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_bootstrap_equals_a_loop_over_the_same_resamples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, samples = int(rng.integers(5, 60)), 25
    speakers = rng.choice(["F01", "F02", "M01", "M02", "M03"], count)
    truth, prediction = rng.choice(CLASSES, count), rng.choice(CLASSES, count)
    pooled = speaker_bootstrap(truth, prediction, speakers, CLASSES, seed, samples)
    names = sorted(set(speakers))
    assume(len(names) > 1)
    naive = []
    for drawn in speaker_resamples(len(names), samples, seed):
        rows = np.concatenate([np.flatnonzero(speakers == names[index]) for index in drawn])
        naive.append(scores(truth[rows], prediction[rows], CLASSES))
    for interval, values in (
        (pooled.ua, [sample.ua for sample in naive]),
        (pooled.wa, [sample.wa for sample in naive]),
        (pooled.recalls["sad"], [sample.recalls["sad"] for sample in naive]),
    ):
        kept = [value for value in values if not math.isnan(value)]
        if kept:
            expected = np.quantile(kept, [0.025, 0.975])
            assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    point = scores(truth, prediction, CLASSES)
    assert (pooled.ua.value, pooled.wa.value) == pytest.approx((point.ua, point.wa))
    assert pooled.speakers == len(names)


def test_the_bootstrap_of_one_speaker_has_no_interval() -> None:
    pooled = speaker_bootstrap(["a", "b"], ["a", "a"], ["F01", "F01"], ["a", "b"], seed=0)
    assert pooled.ua.value == 0.5
    assert math.isnan(pooled.ua.low)
    with pytest.raises(ValueError, match="2 utterances but 1 speakers"):
        speaker_bootstrap(["a", "b"], ["a", "a"], ["F01"], ["a", "b"], seed=0)


def test_the_bootstrap_interval_has_its_stated_coverage() -> None:
    """The accuracy varies between speakers: an interval over utterances would be too narrow."""
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(150):
        level = rng.beta(6, 4, 30)  # mean 0.6 over speakers
        hits = rng.random((30, 40)) < level[:, None]
        truth = rng.integers(0, 2, hits.shape)
        guess = np.where(hits, truth, 1 - truth)
        speakers = np.repeat(np.arange(30), 40)
        wa = speaker_bootstrap(truth.ravel(), guess.ravel(), speakers, [0, 1], trial, 400).wa
        covered += wa.low <= 0.6 <= wa.high
    assert 0.88 <= covered / 150 <= 0.99


@given(
    st.lists(st.floats(-0.25, 0.25, width=16), min_size=2, max_size=10),
    st.integers(10, 1000),
    st.integers(1, 500),
)
@relaxed
def test_the_corrected_t_test_is_nadeau_and_bengios_formula(
    differences: list[float], n_train: int, n_test: int
) -> None:
    assume(np.ptp(differences) > 1e-3)
    test = corrected_resampled_t(differences, n_train, n_test)
    folds = len(differences)
    mean = sum(differences) / folds
    variance = sum((value - mean) ** 2 for value in differences) / (folds - 1)
    t = mean / math.sqrt((1 / folds + n_test / n_train) * variance)
    assert test.t == pytest.approx(t, abs=1e-9)
    assert test.p_value == pytest.approx(2 * stats.t.cdf(-abs(t), folds - 1))
    assert (test.low <= 0 <= test.high) == (test.p_value >= 0.05)
    # The uncorrected test never has a larger p-value.
    assert test.p_value >= stats.ttest_1samp(differences, 0).pvalue - 1e-12


def test_the_corrected_t_test_with_equal_differences_and_wrong_input() -> None:
    assert corrected_resampled_t([0.0, 0.0], 8, 2).p_value == 1
    certain = corrected_resampled_t([-0.25, -0.25], 8, 2)
    assert (certain.t, certain.p_value) == (-math.inf, 0)
    with pytest.raises(ValueError, match="two folds"):
        corrected_resampled_t([0.1], 8, 2)
    with pytest.raises(ValueError, match="n_train = 0"):
        corrected_resampled_t([0.1, 0.2], 0, 2)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80))
@relaxed
def test_mcnemar_is_the_binomial_test_of_the_utterances_that_differ(
    pairs: list[tuple[bool, bool]],
) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    test = mcnemar_exact(first, second)
    first_only = sum(a and not b for a, b in pairs)
    second_only = sum(b and not a for a, b in pairs)
    assert (test.first_only, test.second_only) == (first_only, second_only)
    count, fewer = first_only + second_only, min(first_only, second_only)
    tail = sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    assert test.p_value == pytest.approx(min(1.0, 2 * tail))
    if count:
        assert test.p_value == pytest.approx(stats.binomtest(first_only, count).pvalue)


def test_mcnemar_refuses_unequal_lists() -> None:
    with pytest.raises(ValueError, match="equal"):
        mcnemar_exact([True], [True, False])


def test_holm_has_the_values_of_a_hand_worked_example() -> None:
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which is raised to the value before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_the_steps_of_the_procedure_reject(seed: int) -> None:
    p_values = np.random.default_rng(seed).uniform(0, 0.08, 7)
    adjusted = holm(p_values)
    for alpha in np.linspace(0.001, 0.3, 60):
        rejected = []  # Holm 1979: from the smallest on, until one test does not reject
        for step, number in enumerate(np.argsort(p_values)):
            if p_values[number] > alpha / (7 - step):
                break
            rejected.append(number)
        assert {n for n, value in enumerate(adjusted) if value <= alpha} == set(rejected)


@pytest.mark.parametrize("wrong", [[0.5, 1.1], [-0.1], [float("nan")]])
def test_holm_refuses_values_that_are_no_probabilities(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match=r"numbers in 0\.\.1"):
        holm(wrong)
