"""Scores, intervals and tests on numbers worked out by hand, and by three other libraries.

With three folds, Student's t has 2 degrees of freedom, and its distribution has a closed form:
the two-sided p-value of t is 1 - |t| / sqrt(t^2 + 2), and the quantile of p is
(2 p - 1) / sqrt(2 p (1 - p)). So every number here can be checked with a pocket calculator.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from orchestrator.metrics import (
    corrected_resampled_t,
    fold_interval,
    holm,
    mcnemar_exact,
    scores,
    speaker_bootstrap,
)

T_975 = 0.95 / math.sqrt(2 * 0.975 * 0.025)
"""The 97.5 % quantile of Student's t with 2 degrees of freedom: 4.3027 in every table."""


def test_scores() -> None:
    truth = ["ang"] * 4 + ["neu"] * 5 + ["sad"]
    prediction = ["ang", "ang", "ang", "sad", "neu", "neu", "ang", "ang", "sad", "sad"]
    found = scores(truth, prediction, ["ang", "neu", "sad", "hap"])
    # Right: 3 of 4, 2 of 5 and 1 of 1. No utterance is happy, so three recalls have a mean.
    assert [found.recalls[name] for name in ("ang", "neu", "sad")] == [3 / 4, 2 / 5, 1]
    assert math.isnan(found.recalls["hap"])
    assert found.ua == pytest.approx((0.75 + 0.4 + 1) / 3)
    assert found.ua == pytest.approx(43 / 60)
    assert found.wa == 6 / 10
    assert found.ua == balanced_accuracy_score(truth, prediction)
    assert found.wa == accuracy_score(truth, prediction)
    labels = ["ang", "neu", "sad"]
    theirs = recall_score(truth, prediction, labels=labels, average=None)
    assert [found.recalls[name] for name in labels] == theirs.tolist()


def test_the_interval_over_three_folds() -> None:
    values = [0.5, 0.6, 0.7]
    # The deviation is sqrt((0.01 + 0 + 0.01) / 2) = 0.1, and that of the mean 0.1 / sqrt(3).
    half = T_975 * 0.1 / math.sqrt(3)
    assert half == pytest.approx(0.24841, abs=5e-6)
    assert fold_interval(values) == pytest.approx((0.6, 0.6 - half, 0.6 + half))
    assert fold_interval(values)[1:] == pytest.approx(DescrStatsW(values).tconfint_mean())
    theirs = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert fold_interval(values)[1:] == pytest.approx(theirs)


def test_the_interval_over_two_speakers() -> None:
    # Speaker A is always right. Of speaker B, one of two `a` is right and the only `b` is wrong.
    speakers, truth, prediction = "AABBB", "abaab", "ababa"
    found = speaker_bootstrap(list(truth), list(prediction), speakers, ["a", "b"], seed=0)
    # Both speakers: recalls 2/3 and 1/2. A quarter of the samples has A twice, a quarter B twice.
    # Each quarter is more than the 2.5 % beyond a bound, so A alone and B alone are the bounds.
    assert found.ua == pytest.approx(((2 / 3 + 1 / 2) / 2, (1 / 2 + 0) / 2, 1))
    assert found.wa == pytest.approx((3 / 5, 1 / 3, 1))
    assert found.recalls["b"] == pytest.approx((1 / 2, 0, 1))


def test_the_corrected_resampled_t_test() -> None:
    differences = [0.02, 0.04, 0.06]
    found = corrected_resampled_t(differences, n_train=80, n_test=20)
    # The mean is 0.04 and the variance (0.02^2 + 0 + 0.02^2) / 2 = 0.0004. The correction makes
    # the squared error (1/3 + 20/80) 0.0004 = 7/12 * 0.0004. So t^2 = 0.0016 / that = 48/7.
    square = Fraction(16, 10_000) / (Fraction(7, 12) * Fraction(4, 10_000))
    assert square == Fraction(48, 7)
    assert found.t == pytest.approx(math.sqrt(48 / 7))
    assert found.p_value == pytest.approx(1 - math.sqrt(48 / 62))  # 48/7 + 2 = 62/7
    assert found.p_value == pytest.approx(0.12012, abs=5e-6)
    half = T_975 * math.sqrt(7 / 12 * 0.0004)
    assert found[:3] == pytest.approx((0.04, 0.04 - half, 0.04 + half))
    assert found.p_value == pytest.approx(2 * stats.t.sf(found.t, 2))
    # The usual t-test of the same differences: the correction divides t by sqrt(1 + 3 * 20/80).
    usual = DescrStatsW(differences)
    t, p_value, freedom = usual.ttest_mean(0)
    assert freedom == 2
    assert found.t == pytest.approx(t / math.sqrt(1.75))
    uncorrected = corrected_resampled_t(differences, n_train=math.inf, n_test=20)
    assert (uncorrected.t, uncorrected.p_value) == pytest.approx((t, p_value))
    assert uncorrected[1:3] == pytest.approx(usual.tconfint_mean())


@pytest.mark.parametrize(
    ("first_only", "second_only", "expected"),
    [
        pytest.param(1, 6, 16 / 128, id="2 (C(7,0) + C(7,1)) / 2^7"),
        pytest.param(9, 2, 134 / 2048, id="2 (C(11,0) + C(11,1) + C(11,2)) / 2^11"),
        pytest.param(0, 5, 2 / 32, id="2 C(5,0) / 2^5"),
        pytest.param(2, 2, 1, id="2 (1 + 4 + 6) / 2^4 is above 1"),
        pytest.param(0, 0, 1, id="no difference"),
    ],
)
def test_the_exact_mcnemar_test(first_only: int, second_only: int, expected: float) -> None:
    both, neither = 8, 3
    first = [True] * both + [True] * first_only + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    found = mcnemar_exact(first, second)
    assert found == pytest.approx((first_only, second_only, expected))
    table = [[both, first_only], [second_only, neither]]
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
    if first_only + second_only:
        binomial = stats.binomtest(first_only, first_only + second_only)
        assert found.p_value == pytest.approx(binomial.pvalue)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which is raised to 0.06.
        pytest.param([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02], id="four"),
        # 0.02 * 3, then 0.02 * 2, which is raised to 0.06, and 0.4 * 1.
        pytest.param([0.02, 0.4, 0.02], [0.06, 0.4, 0.06], id="a tie"),
        # 0.04 * 15 = 0.6 and 0.2 * 14 = 2.8: most of the 15 pairs of six models end at 1.
        pytest.param([0.04, *[0.2] * 14], [0.6, *[1.0] * 14], id="many pairs"),
        pytest.param([0.03], [0.03], id="one"),
    ],
)
def test_holms_correction(p_values: list[float], expected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(expected)
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
