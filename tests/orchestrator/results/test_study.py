"""A study of made sweeps, computed again from their files."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, recall_score

from orchestrator.errors import ComparisonError
from orchestrator.ledger.ledger import Ledger
from orchestrator.results.comparison import compare
from orchestrator.results.opened import OpenedSweep
from orchestrator.results.study import Study, study
from orchestrator.results.verdict import study_values, verdict
from tests.support.made_study import SKILLS, made, make_study, with_configuration
from tests.support.made_sweep import CLASSES, make_sweep


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> list[OpenedSweep]:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def found(sweeps: list[OpenedSweep]) -> Study:
    return study("made", sweeps)


def validation_scores(sweep: OpenedSweep, fold: str) -> dict[int, float]:
    """The best validation UA of each trial on a fold."""
    return {
        record.number: max(
            row["ua"]
            for row in sweep.ledger.folds(record.id).to_pylist()
            if (row["fold"], row["split"]) == (fold, "validation")
        )
        for record in sweep.ledger.trials()
        if record.score is not None
    }


def answers(sweep: OpenedSweep, number: int, fold: str) -> list[dict[str, str]]:
    record = next(r for r in sweep.ledger.trials() if r.number == number)
    return [r for r in sweep.ledger.predictions(record.id).to_pylist() if r["fold"] == fold]


def ua(rows: list[dict[str, str]]) -> float:
    return float(
        balanced_accuracy_score([r["truth"] for r in rows], [r["prediction"] for r in rows])
    )


FOLDS = [f"Ses{number:02d}" for number in range(1, 6)]


def test_models_are_ranked_by_nested_ua(sweeps: list[OpenedSweep], found: Study) -> None:
    expected = {}
    for sweep in sweeps:
        by_fold, pooled = [], []
        for fold in FOLDS:
            highest = validation_scores(sweep, fold)
            rows = answers(sweep, max(highest, key=lambda n: (highest[n], -n)), fold)
            by_fold.append(ua(rows))
            pooled += rows
        expected[sweep.name] = (np.mean(by_fold), pooled)
        entry = next(e for e in found.entries if e.label == sweep.name)
        assert entry.score.ua.value == pytest.approx(np.mean(by_fold))
        interval = stats.t.interval(0.95, 4, np.mean(by_fold), stats.sem(by_fold))
        assert entry.score.ua[1:] == pytest.approx(interval)
        assert entry.score.pooled.ua.value == pytest.approx(ua(pooled))
        recalls = recall_score(
            [r["truth"] for r in pooled],
            [r["prediction"] for r in pooled],
            labels=CLASSES,
            average=None,
        )
        assert [r.value for r in entry.score.pooled.recalls.values()] == pytest.approx(recalls)
        assert int(entry.score.confusion.sum()) == len(pooled)
    ranking = sorted(expected, key=lambda name: -expected[name][0])
    assert [entry.label for entry in found.ranking] == ranking
    assert ranking[-1] == "bigru_att"


def test_across_models_each_fold_selects_on_its_validation_part(
    sweeps: list[OpenedSweep], found: Study
) -> None:
    assert found.across is not None
    rows, by_fold = [], []
    for fold in FOLDS:
        candidates = {
            (sweep.name, number): score
            for sweep in sweeps
            for number, score in validation_scores(sweep, fold).items()
        }
        chosen = max(candidates, key=lambda c: candidates[c])
        assert found.across.choices[fold] == chosen
        sweep = next(s for s in sweeps if s.name == chosen[0])
        rows += (of_fold := answers(sweep, chosen[1], fold))
        by_fold.append(ua(of_fold))
    assert found.across.pooled.ua.value == pytest.approx(ua(rows))
    assert found.across.ua.value == pytest.approx(np.mean(by_fold))
    low, high = found.across.pooled.ua[1:]
    assert low < found.across.pooled.ua.value < high


def test_pairs_have_the_tests_of_the_comparison_and_holms_correction(
    sweeps: list[OpenedSweep], found: Study
) -> None:
    ledgers = {sweep.name: sweep.ledger for sweep in sweeps}
    labels = [entry.label for entry in found.ranking]
    assert [(p.first, p.second) for p in found.pairs] == list(itertools.combinations(labels, 2))
    for pair in found.pairs:
        compared = compare(ledgers[pair.second], ledgers[pair.first])
        assert pair.t_test == compared.t_test
        assert pair.t_test is not None
        assert pair.t_test.mean >= 0
        assert pair.mcnemar is not None
        assert compared.mcnemar is not None
        assert pair.mcnemar.first_only == compared.mcnemar.second_only
        assert pair.mcnemar.p_value == compared.mcnemar.p_value
    for raw, corrected in (
        ([p.t_test.p_value for p in found.pairs if p.t_test], [p.t_holm for p in found.pairs]),
        (
            [p.mcnemar.p_value for p in found.pairs if p.mcnemar],
            [p.mcnemar_holm for p in found.pairs],
        ),
    ):
        order = np.argsort(raw)
        running = 0.0
        for step, number in enumerate(order):
            running = max(running, min(1.0, (6 - step) * raw[number]))
            assert corrected[number] == pytest.approx(running)


@pytest.mark.parametrize(
    ("differ", "groups"),
    [
        pytest.param([], ["0123"], id="no difference"),
        pytest.param(["03"], ["012", "123"], id="only the ends differ"),
        pytest.param(["01", "02", "03"], ["123"], id="the best is ahead of all"),
        pytest.param(["02", "03", "13"], ["01", "12", "23"], id="a chain"),
        pytest.param(["01", "02", "03", "12", "13", "23"], [], id="all differ"),
        pytest.param(["02", "03", "12", "13"], ["01", "23"], id="two groups"),
    ],
)
def test_groups_join_neighbours_without_a_significant_difference(
    found: Study, differ: list[str], groups: list[str]
) -> None:
    labels = [entry.label for entry in found.ranking]
    significant = [tuple(labels[int(place)] for place in pair) for pair in differ]
    pairs = [
        replace(pair, t_holm=0.049 if (pair.first, pair.second) in significant else 0.05)
        for pair in found.pairs
    ]
    drawn = replace(found, pairs=pairs).groups
    assert drawn == [[labels[int(place)] for place in group] for group in groups]


def test_the_verdict_names_the_best_and_the_next(found: Study) -> None:
    first, second = found.ranking[:2]
    words = " ".join(verdict(found))
    assert words.startswith(f"{first.label} is ahead: its nested UA is")
    assert f"The next one is {second.label}, " in words
    pair = found.pair(first.label, second.label)
    assert ("is really ahead: the difference is significant" in words) == pair.differs
    assert ("do not show that" in words) == (not pair.differs)


def test_an_interval_is_not_corrected_but_its_p_value_is(found: Study) -> None:
    pair = found.pair(*(entry.label for entry in found.ranking[:2]))
    assert pair.t_test is not None
    numbers = {"mean": 0.02, "t": 3.2, "p_value": 0.033}
    for low, high, holm, words in (
        (0.0031, 0.0369, 0.198, "(95%: +0.3 to +3.7, corrected resampled t-test, p = 0.033, "),
        (-0.0131, 0.0531, 0.198, "(95%: \N{MINUS SIGN}1.3 to +5.3, corrected resampled"),
        (-0.0004, 0.0404, 0.198, "(95%: +0.0 to +4.0, corrected resampled"),
        (0.0031, 0.0369, 0.0002, "p = 0.033, after Holm p < 0.001; McNemar, exact, p"),
    ):
        t_test = pair.t_test._replace(low=low, high=high, **numbers)
        pairs = [replace(p, t_test=t_test, t_holm=holm) if p is pair else p for p in found.pairs]
        text = " ".join(verdict(replace(found, pairs=pairs)))
        assert words in text
        explained = "The interval excludes 0, but it is not corrected for the 6 pairs" in text
        assert explained == (low > 0 and holm > 0.05)


def test_a_clear_difference_is_called_real(tmp_path: Path) -> None:
    sweeps = [made(tmp_path, "iaan", skill=(0.9, 0.95)), made(tmp_path, "bigru_att")]
    found = study("clear", sweeps)
    assert found.pairs[0].differs
    assert found.groups == []
    assert "iaan is really ahead" in " ".join(verdict(found))


def test_one_sweep_needs_no_test(tmp_path: Path) -> None:
    found = study("one", [made(tmp_path, "iaan")])
    assert (found.pairs, found.groups) == ([], [])
    assert found.across is not None
    nested = found.entries[0].findings.nested
    assert nested is not None
    assert found.across.ua == nested.ua
    assert found.across.pooled.ua.value == nested.pooled.ua
    assert "There is no other model with a score" in " ".join(verdict(found))


def test_a_sweep_without_a_score_stays_in_the_study(tmp_path: Path) -> None:
    sweeps = [made(tmp_path, "iaan", statuses=["failed", "failed"]), made(tmp_path, "bigru_att")]
    found = study("failed", sweeps)
    assert [entry.label for entry in found.entries] == ["iaan", "bigru_att"]
    assert [entry.label for entry in found.ranking] == ["bigru_att"]
    only_failed = study("failed", sweeps[:1])
    assert only_failed.across is None
    assert list(verdict(only_failed)) == ["No sweep has a score, so no model is ahead."]


def test_one_fold_is_compared_with_mcnemar_alone(tmp_path: Path) -> None:
    sweeps = make_study(tmp_path, folds=1, utterances=200)
    found = study("one fold", sweeps)
    for pair in found.pairs:
        assert pair.t_test is None
        assert pair.p_value == pair.mcnemar_holm
    headline = found.ranking[0].score.headline
    assert headline == found.ranking[0].score.pooled.ua
    assert "McNemar, exact, p =" in " ".join(verdict(found))
    assert "corrected resampled" not in " ".join(verdict(found))


@pytest.mark.parametrize("lacking", [["Ses02"], FOLDS], ids=["in one fold", "in every fold"])
def test_a_class_that_a_test_part_lacks_does_not_count_there(
    tmp_path: Path, lacking: list[str]
) -> None:
    changes = {"lacking": dict.fromkeys(lacking, "hap")}
    sweeps = [made(tmp_path, name, **changes) for name in ("iaan", "bigru_att")]
    found = study("lacking", sweeps)
    everywhere = lacking == FOLDS
    present = [name for name in CLASSES if not everywhere or name != "hap"]
    for entry in found.ranking:
        rows = entry.score.side.predictions.to_pylist()
        truth, guess = ([row[name] for row in rows] for name in ("truth", "prediction"))
        by_fold = {fold: [row for row in rows if row["fold"] == fold] for fold in FOLDS}
        for fold, of_fold in by_fold.items():
            assert ("hap" in {row["truth"] for row in of_fold}) == (fold not in lacking)
            recalls = recall_score(
                [row["truth"] for row in of_fold],
                [row["prediction"] for row in of_fold],
                labels=CLASSES,
                average=None,
                zero_division=np.nan,
            )
            assert entry.score.side.folds[fold] == pytest.approx(np.nanmean(recalls))
        recalls = recall_score(truth, guess, labels=present, average=None)
        assert entry.score.pooled.ua.value == pytest.approx(recalls.mean())
        assert np.isnan(entry.score.pooled.recalls["hap"].value) == everywhere
        best = entry.findings.best
        assert best is not None
        assert best.chance_ua == 1 / len(present)
    assert found.pairs[0].t_test is not None
    assert np.isfinite(found.pairs[0].t_test).all()
    values = study_values(found)["models"][0]["pooled"]["recalls"]
    assert (values["hap"] == {"value": None, "low": None, "high": None}) == everywhere


def test_held_out_sweeps_are_optimistic_and_have_no_estimate_across(tmp_path: Path) -> None:
    found = study("held out", make_study(tmp_path, selection="held_out"))
    assert found.across is None
    assert "no validation part" in found.across_reason
    assert "(optimistic)" in " ".join(verdict(found))


def test_seeds_and_folds_have_a_spread_of_their_own(tmp_path: Path) -> None:
    first = made(tmp_path, "iaan")
    again = [
        made(
            tmp_path / str(seed), "iaan", statuses=["complete"], trial_seed=seed, training_seed=seed
        )
        for seed in (5, 6, 7)
    ]
    spread = study("seeds", [first], {"iaan": again}).seeds["iaan"]
    by_seed = {}
    by_fold = np.zeros(5)
    for seed, sweep in zip((0, 5, 6, 7), (first, *again), strict=True):
        rows = sweep.predictions().to_pylist()
        values = [ua([r for r in rows if r["fold"] == fold]) for fold in FOLDS]
        by_seed[seed] = np.mean(values)
        by_fold += np.asarray(values) / 4
    assert spread.ua == pytest.approx(by_seed)
    assert spread.own == 0
    assert spread.deviation_seeds == pytest.approx(np.std(list(by_seed.values()), ddof=1))
    assert spread.deviation_folds == pytest.approx(np.std(by_fold, ddof=1))
    with pytest.raises(ComparisonError, match=r"training seed 5.*Give each seed once"):
        study("twice", [first], {"iaan": [again[0], again[0]]})
    with pytest.raises(ComparisonError, match="rand_iaan is not a sweep of the study"):
        study("unknown", [first], {"rand_iaan": again})


def test_a_sweep_twice_is_refused(tmp_path: Path) -> None:
    sweep = made(tmp_path, "iaan")
    again = OpenedSweep(Ledger(sweep.ledger.storage))
    with pytest.raises(ComparisonError, match="iaan is given twice"):
        study("twice", [sweep, again])
    copied = OpenedSweep(make_sweep(tmp_path / "copy", ["complete"], name="iaan"))
    with pytest.raises(ComparisonError, match="iaan is given twice"):
        study("copied", [sweep, copied])


def test_sweeps_of_one_name_get_their_folder_as_label(tmp_path: Path) -> None:
    later = {"extra": {"created": "2026-01-02T03:04:05+00:00"}}
    sweeps = [made(tmp_path / "a", "iaan"), made(tmp_path / "b", "iaan", **later)]
    labels = [entry.label for entry in study("names", sweeps).entries]
    assert labels == [f"iaan ({tmp_path}/{folder}/iaan)" for folder in "ab"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(
            {"classes": ["ang", "neu"]}, "classes: ang, hap, neu, sad in iaan, but", id="classes"
        ),
        pytest.param({"folds": 4}, "number of folds: 5 in iaan, but 4 in rand_iaan", id="folds"),
        pytest.param({"utterances": 79}, "part of fold Ses01: 300, 60 and 80", id="sizes"),
        pytest.param({"seed": 1}, "fold Ses01: .* different labels", id="labels"),
        pytest.param(
            {"selection": "held_out"}, "folds.selection: validation in iaan", id="held out"
        ),
    ],
)
def test_sweeps_of_other_folds_are_refused(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    sweeps = [made(tmp_path, "iaan"), made(tmp_path, "rand_iaan", **changed)]
    with pytest.raises(ComparisonError, match=message):
        study("other", sweeps)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        pytest.param("corpus", {"merge": {"exc": "hap"}}, "corpus.merge: {} in iaan", id="merge"),
        pytest.param("folds", {"scheme": "corpus"}, "folds.scheme: leave_one", id="scheme"),
    ],
)
def test_another_corpus_or_scheme_is_refused_even_without_a_score(
    tmp_path: Path, section: str, values: dict[str, object], message: str
) -> None:
    failed = made(tmp_path, "rand_iaan", statuses=["failed"])
    other = with_configuration(failed, **{section: values})
    with pytest.raises(ComparisonError, match=f"{message}.*leave the others out"):
        study("other", [made(tmp_path, "iaan"), other])


def test_another_corpus_is_refused(tmp_path: Path) -> None:
    other = made(tmp_path, "rand_iaan")
    summary = other.record.corpus.model_copy(update={"corpus": "emodb"})
    other.ledger.write_sweep(other.record.model_copy(update={"corpus": summary}))
    with pytest.raises(ComparisonError, match="corpus: iemocap in iaan, but emodb in rand_iaan"):
        study("corpora", [made(tmp_path, "iaan"), OpenedSweep(other.ledger)])


def test_a_study_needs_a_sweep() -> None:
    with pytest.raises(ComparisonError, match="at least one"):
        study("none", [])


def test_plain_values_have_every_model_best_first(found: Study) -> None:
    values = study_values(found)
    assert [m["sweep"] for m in values["models"]] == [e.label for e in found.ranking]
    assert {m["model"] for m in values["models"]} == set(SKILLS)
    assert len(values["pairs"]) == 6
    assert values["across"]["pooled"]["ua"]["value"] == found.across.pooled.ua.value  # type: ignore[union-attr]
