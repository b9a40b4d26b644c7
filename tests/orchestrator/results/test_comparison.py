"""The comparison of two made sweeps, computed again from their files."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from orchestrator.errors import ComparisonError
from orchestrator.ledger.ledger import Ledger
from orchestrator.results.comparison import compare
from tests.support.made_sweep import make_sweep
from tests.support.report_page import summary


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Ledger, Ledger]:
    """Two sweeps with the same test utterances and other trials."""
    first = make_sweep(tmp_path / "first", ["complete"] * 2, name="first")
    second = make_sweep(tmp_path / "second", ["pruned", "complete", "failed", "complete"], name="b")
    return first, second


def nested_folds(ledger: Ledger) -> tuple[dict[str, float], dict[str, bool]]:
    """UA of each fold and the hit of each utterance, by the trial that the fold selects."""
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
    comparison = compare(*pair)
    (first, first_hits), (second, second_hits) = map(nested_folds, pair)
    assert comparison.first.folds == pytest.approx(first)
    assert comparison.second.folds == pytest.approx(second)
    differences = np.asarray([second[fold] - first[fold] for fold in first])
    error = math.sqrt((1 / 5 + 80 / 300) * differences.var(ddof=1))
    t_test = comparison.t_test
    assert t_test.mean == pytest.approx(differences.mean())
    assert t_test.t == pytest.approx(differences.mean() / error)
    assert t_test.p_value == pytest.approx(2 * stats.t.sf(abs(t_test.t), 4))
    first_only = sum(first_hits[name] and not second_hits[name] for name in first_hits)
    second_only = sum(second_hits[name] and not first_hits[name] for name in first_hits)
    assert comparison.mcnemar is not None
    assert comparison.mcnemar[:2] == (first_only, second_only)
    assert {case.same for case in comparison.second.context} == {"both", "one", "none"}


def test_a_sweep_does_not_differ_from_itself(pair: tuple[Ledger, Ledger]) -> None:
    comparison = compare(pair[0], pair[0])
    assert (comparison.t_test.mean, comparison.t_test.p_value) == (0, 1)
    assert comparison.mcnemar is not None
    assert comparison.mcnemar[:] == (0, 0, 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(
            {"classes": ["ang", "neu"]},
            "different classes: first has ang, hap, neu, sad and b has ang, neu",
            id="classes",
        ),
        pytest.param({"folds": 4}, "different folds: only one has Ses05", id="folds"),
        pytest.param({"utterances": 79}, "fold Ses01: 1 utterances are in only one", id="tests"),
        pytest.param({"seed": 1}, "fold Ses01: .* different labels, in first and b", id="labels"),
        pytest.param({"selection": "held_out"}, "only b selected its epochs", id="selection"),
        pytest.param({"statuses": ["failed"]}, "b has no trial with a score", id="no score"),
    ],
)
def test_sweeps_that_differ_in_their_data_are_refused(
    pair: tuple[Ledger, Ledger], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    other = make_sweep(tmp_path / "other", **{"statuses": ["complete"], "name": "b", **changed})
    with pytest.raises(ComparisonError, match=message):
        compare(pair[0], other)


def test_training_parts_of_other_sizes_are_refused(pair: tuple[Ledger, Ledger]) -> None:
    record = pair[1].sweep()
    record.folds[2] = record.folds[2].model_copy(update={"train": 301})
    pair[1].write_sweep(record)
    with pytest.raises(ComparisonError, match=r"Ses03: .* first \(300 train, .* b \(301 train"):
        compare(*pair)


def test_a_single_fold_is_refused(tmp_path: Path) -> None:
    single = make_sweep(tmp_path, ["complete"], folds=1)
    with pytest.raises(ComparisonError, match="have a single fold"):
        compare(single, single)


def test_held_out_sweeps_are_labelled_optimistic(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"], selection="held_out")
    assert compare(ledger, ledger).as_dict()["first"]["optimistic"] is True


def test_the_command_prints_one_json_object_or_lines(pair: tuple[Ledger, Ledger]) -> None:
    folders = [ledger.storage.root for ledger in pair]

    def ser(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "orchestrator.cli", "compare", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    printed = json.loads(ser(*folders, "--json").stdout)
    assert printed["difference"]["mean"] == pytest.approx(compare(*pair).t_test.mean)
    lines = ser(*folders).stdout
    for name in (r"first \(iaan\)", r"b \(iaan\)", "difference", "McNemar"):
        assert re.search(f"^{name}", lines, re.MULTILINE)
    missing = ser(folders[0], "nowhere")
    assert missing.returncode == 2
    assert len(missing.stderr.splitlines()) == 1
