"""The session from Python runs unchanged."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.support.sweeps import give_features

NOTEBOOK = Path(__file__).parents[2] / "examples/notebook.py"


@pytest.mark.usefixtures("ray_cluster")
def test_the_session_runs_from_search_to_comparison(
    tmp_path: Path,
    spoken: Path,
    spoken_features: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give_features(spoken_features, tmp_path)
    monkeypatch.setattr(sys, "argv", [str(NOTEBOOK), str(spoken), str(tmp_path)])
    names = runpy.run_path(str(NOTEBOOK))
    output = capsys.readouterr().out
    assert f"nested UA of bigru: {names['nested']:.3f}" in output
    assert 0 < names["nested"] < 1
    assert names["bigru"].trials().num_rows == 2
    assert names["bigru"].best.score == max(names["bigru"].trials()["score"].to_pylist())
    assert names["predictions"].num_rows == sum(fold.test for fold in names["bigru"].record.folds)
    assert names["model"](names["frames"]).logits.shape == (1, 4)
    assert names["comparison"].second.name == "svm"
    assert (tmp_path / "bigru/report/index.html").is_file()
