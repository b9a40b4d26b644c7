"""Two made sweeps, compared; the figures are worked out again from their files."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.support.made_sweep import make_sweep
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from orchestrator.results.comparison import ComparisonError, compare
from orchestrator.ledger.ledger import Ledger
from orchestrator.report import summary


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Ledger, Ledger]:
    """The same test utterances, and other trials."""
    first = make_sweep(tmp_path / "first", ["complete"] * 2, name="first")
    second = make_sweep(tmp_path / "second", ["pruned", "complete", "failed", "complete"], name="b")
    return first, second


def nested_folds(ledger: Ledger) -> tuple[dict[str, float], dict[str, bool]]:
    """UA of each fold and the hit of each utterance, by the fold's own choice."""
    ids = {record.number: record.id for record in ledger.trials()}
    folds, hits = {}, {}
    for fold, number in summary(ledger)["nested"]["choices"].items():
        rows = [r for r in ledger.predictions(ids[number]).to_pylist() if r["fold"] == fold]
        truth, guess = [r["truth"] for r in rows], [r["prediction"] for r in rows]
        folds[fold] = balanced_accuracy_score(truth, guess)
        hits |= {r["utterance"]: r["truth"] == r["prediction"] for r in rows}
    return folds, hits


def test_the_difference_is_of_nested_choices_on_the_same_folds(
    pair: tuple[Ledger, Ledger],
) -> None:
    found = compare(*pair)
    (one, hits_one), (two, hits_two) = map(nested_folds, pair)
    assert found.first.folds == pytest.approx(one)
    assert found.second.folds == pytest.approx(two)
    differences = np.asarray([two[fold] - one[fold] for fold in one])
    error = math.sqrt((1 / 5 + 80 / 300) * differences.var(ddof=1))
    assert found.t_test.mean == pytest.approx(differences.mean())
    assert found.t_test.t == pytest.approx(differences.mean() / error)
    assert found.t_test.p_value == pytest.approx(2 * stats.t.sf(abs(found.t_test.t), 4))
    first_only = sum(hits_one[name] and not hits_two[name] for name in hits_one)
    second_only = sum(hits_two[name] and not hits_one[name] for name in hits_one)
    assert found.mcnemar is not None
    assert found.mcnemar[:2] == (first_only, second_only)
    assert {case.same for case in found.second.context} == {"both", "one", "none"}


def test_a_sweep_does_not_differ_from_itself(pair: tuple[Ledger, Ledger]) -> None:
    found = compare(pair[0], pair[0])
    assert (found.t_test.mean, found.t_test.p_value) == (0, 1)
    assert found.mcnemar is not None
    assert found.mcnemar[:] == (0, 0, 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ["ang", "neu"]}, "has the classes ang, hap, neu, sad, and b ang, neu"),
        ({"folds": 4}, "have other folds: Ses05"),
        ({"utterances": 79}, "fold Ses01: .* not tested, or not labelled, alike"),
        ({"seed": 1}, "fold Ses01: .* not tested, or not labelled, alike"),
        ({"selection": "held_out"}, "only b chose its epochs on the part that is reported"),
        ({"statuses": ["failed"]}, "b has no trial with a score"),
    ],
)
def test_sweeps_that_do_not_fit_are_refused(
    pair: tuple[Ledger, Ledger], tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    settings: dict[str, object] = {"statuses": ["complete"], "name": "b", **changed}
    other = make_sweep(tmp_path / "other", **settings)  # type: ignore[arg-type]
    with pytest.raises(ComparisonError, match=message):
        compare(pair[0], other)


def test_other_training_parts_are_refused(pair: tuple[Ledger, Ledger]) -> None:
    content = pair[1].sweep()
    content["folds"][2]["train"] += 1
    pair[1].write_sweep(content)
    with pytest.raises(ComparisonError, match=r"Ses03: .* first \(300 train, .* b \(301 train"):
        compare(*pair)


def test_one_fold_is_refused_and_held_out_is_marked(tmp_path: Path) -> None:
    single = make_sweep(tmp_path / "single", ["complete"], folds=1)
    with pytest.raises(ComparisonError, match="have one fold"):
        compare(single, single)
    late = make_sweep(tmp_path / "late", ["complete"], selection="held_out")
    assert compare(late, late).as_dict()["first"]["optimistic"] is True


def test_the_command_prints_one_json_object_or_lines(pair: tuple[Ledger, Ledger]) -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "compare"]
    folders = [ledger.storage.root for ledger in pair]

    def ser(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    found = json.loads(ser(*folders, "--json").stdout)
    assert found["difference"]["mean"] == pytest.approx(compare(*pair).t_test.mean)
    lines = ser(*folders).stdout.splitlines()
    assert [line.split(":")[0].split(",")[0] for line in lines if line[0] != " "] == [
        "first (iaan)",
        "b (iaan)",
        "difference",
        "McNemar",
    ]
    assert sum(line.startswith("  same class as") for line in lines) == 6
    missing = ser(folders[0], "nowhere")
    assert missing.returncode == 2
    assert len(missing.stderr.splitlines()) == 1
