"""The pictures of a search: places of values, lines and dots, time, and importances."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.search_figures import CLOSED, _dimension, search_figures
from orchestrator.results.searches import search_cost
from orchestrator.results.study import Study, study
from tests.support.made_study import STATUSES, made
from tests.support.made_sweep import SPACE

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("runs")
    statuses = (STATUSES * 7)[:35]  # 21 complete, 7 pruned and 7 failed trials
    extra = {"space": SPACE}
    long = made(folder, "iaan", statuses=statuses, extra=extra, folds=2, utterances=16)
    short = made(folder, "bigru_att", statuses=["complete"], folds=2, utterances=16)
    return study("made", [long, short])


@pytest.fixture(scope="module")
def drawn(found: Study) -> dict[str, Any]:
    costs = {entry.label: search_cost(entry.findings) for entry in found.entries}
    figures, importances = search_figures(found, costs)
    # The second sweep has a single trial, so there is nothing to draw of its search.
    names = {"time", "parallel-iaan", "slices-iaan", "importances-iaan"}
    assert figures.keys() == names
    assert importances.keys() == {"iaan"}
    assert importances["iaan"].trials == importances["iaan"].complete == 21
    return {name: ET.fromstring(text) for name, text in figures.items()}


def test_values_are_placed_on_linear_and_logarithmic_axes() -> None:
    rates = [1e-5, 1e-4, 1e-3, 1e-2, 3e-3]
    log = _dimension("training.learning_rate", rates, True)
    assert [log.places[repr(v)] for v in rates[:4]] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [text for text, _ in log.ticks] == ["1e-05", "0.00032", "0.01"]
    plain = _dimension("model.dropout", [0.0, 0.1, 0.2, 0.3, 0.5], False)
    assert plain.places["0.2"] == pytest.approx(0.4)
    few = _dimension("model.hidden_size", [512, 64, 128], False)
    assert few.ticks == [("64", 0.0), ("128", 0.5), ("512", 1.0)]
    names = _dimension("model.kind", ["b", "a", "b"], False)
    assert names.ticks == [("b", 0.0), ("a", 1.0)]


def test_each_trial_with_a_score_is_a_line_and_a_dot(found: Study, drawn: dict[str, Any]) -> None:
    entry = next(each for each in found.entries if each.label == "iaan")
    scored = [t.record for t in entry.findings.trials if t.record.score is not None]
    lines = drawn["parallel-iaan"].findall(f"{SVG}polyline")
    assert len(lines) == len(scored) == 28
    assert all(len((line.get("points") or "").split()) == 4 + 1 for line in lines)
    (best,) = [line for line in lines if line.get("stroke-width") == "3"]
    title = best.findtext(f"{SVG}title")
    top = entry.findings.best
    assert top is not None
    assert title is not None
    assert title.startswith(f"trial {top.trial.record.number}, {top.trial.record.score:.1%}")
    # On the axis of the score, a higher score is higher, which is a smaller y.
    ends = [float((line.get("points") or "").rsplit(",", 1)[1]) for line in lines]
    assert ends == sorted(ends, reverse=True)
    dots = [
        e for e in drawn["slices-iaan"].iter(f"{SVG}circle") if e.find(f"{SVG}title") is not None
    ]
    assert len(dots) == 4 * len(scored)


def test_a_hyperparameter_that_a_trial_lacks_is_below_its_axis(tmp_path: Path) -> None:
    sweep = made(tmp_path, "iaan", folds=2, utterances=16)
    record = sweep.ledger.trials()[0]
    point = {k: v for k, v in record.hyperparameters.items() if k != "model.dropout"}
    sweep.ledger.write_trial(record.model_copy(update={"hyperparameters": point}))
    found = study("made", [sweep])
    figures, _ = search_figures(found, {})
    heights = [
        float(line.get("points", "").split()[number].split(",")[1])
        for line in ET.fromstring(figures["parallel-iaan"]).findall(f"{SVG}polyline")
        for number in range(4)
    ]
    below = [y for y in heights if y > 300]
    assert below == [pytest.approx(300 - CLOSED * 248)]


def test_time_is_split_by_the_status_of_the_trials(drawn: dict[str, Any]) -> None:
    hints = [e.text or "" for e in drawn["time"].iter(f"{SVG}title")]
    # Trial n trained for 37.5 (n + 1) seconds; trials 1, 6, ... were pruned, 3, 8, ... failed.
    pruned = sum(37.5 * (n + 1) for n in range(1, 35, 5)) / 3600
    failed = sum(37.5 * (n + 1) for n in range(3, 35, 5)) / 3600
    assert f"iaan, pruned trials: {pruned:.1f} hours" in hints
    assert f"iaan, failed trials: {failed:.1f} hours" in hints
    assert len([hint for hint in hints if hint.startswith("bigru_att")]) == 1


def test_importances_have_bars_of_their_length(drawn: dict[str, Any]) -> None:
    bars = list(drawn["importances-iaan"].iter(f"{SVG}rect"))
    shares = [float(re.findall(r": (.*)%", b.findtext(f"{SVG}title") or "")[0]) for b in bars]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    lengths = [float(bar.get("width", "nan")) for bar in bars]
    assert [w / lengths[0] for w in lengths] == pytest.approx(
        [share / shares[0] for share in shares], abs=0.01
    )
