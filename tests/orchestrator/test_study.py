"""The checks of a study before it runs, the order of its sweeps, and a study with one sweep."""

from pathlib import Path

import pytest

import orchestrator
from orchestrator.errors import ConfigError
from orchestrator.study import check_study, rows_read
from tests.support.studies import TINY, study_sections
from tests.support.sweeps import give_features


@pytest.mark.usefixtures("ray_cluster")
def test_a_study_may_have_one_sweep(tmp_path: Path, spoken: Path, spoken_features: Path) -> None:
    give_features(spoken_features, tmp_path / "runs")
    raw = study_sections(tmp_path, spoken)
    raw["sweeps"] = {"svm": {"model": {"name": "linear_svm"}}}
    del raw["base"]["search"], raw["base"]["training"], raw["seeds"]
    study = orchestrator.run_study(orchestrator.load_study(raw))
    assert [sweep.name for sweep in study.sweeps] == ["svm"]
    assert (study.seeds, study.failures) == ({}, {})
    assert study.sweeps[0].trials().num_rows == 1
    assert all(study.storage.exists(name) for name in study.files)


def test_every_sweep_is_checked_before_the_first_one_runs(tmp_path: Path, spoken: Path) -> None:
    raw = study_sections(tmp_path, spoken)
    raw["sweeps"]["net"]["model"]["hidden_size"] = 7
    raw["sweeps"]["svm"]["search"]["space"] = "linear_svmm"
    with pytest.raises(ConfigError) as caught:
        orchestrator.run_study(orchestrator.load_study(raw))
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["sweeps.net", "sweeps.svm"]
    assert "hidden_size is 7" in lines[0]
    assert "no space linear_svmm" in lines[1]
    assert not (tmp_path / "runs").exists()


def test_a_problem_of_the_corpus_is_named_once(tmp_path: Path) -> None:
    raw = study_sections(tmp_path, tmp_path / "gone.csv")
    with pytest.raises(ConfigError, match=r"^all sweeps: .*gone\.csv") as caught:
        orchestrator.run_study(orchestrator.load_study(raw))
    assert "\n" not in str(caught.value)


def test_cheap_sweeps_run_first(tmp_path: Path, spoken: Path) -> None:
    raw = study_sections(tmp_path, spoken)
    small = {"first_maps": 2, "maps": 2, "conv_layers": 1, "linear_size": 8}
    networks = {
        "crnn": ({"name": "acrnn", **small}, 3),
        "long": ({"name": "bigru_att", **TINY}, 6),
        "short": ({"name": "bigru_att", **TINY}, 3),
    }
    del raw["base"]["training"]["epochs"]
    raw["sweeps"] = {
        name: {"model": model, "training": {"epochs": epochs}, "search": {"space": "rates"}}
        for name, (model, epochs) in networks.items()
    }
    raw["sweeps"]["svm"] = {"model": {"name": "linear_svm"}, "search": {"space": "linear_svm"}}
    planned = {each.name: each for each in check_study(orchestrator.load_study(raw))}
    assert list(planned) == ["svm", "short", "long", "crnn"]
    assert planned["long"].cost == 2 * planned["short"].cost
    # 988 functionals and a bias for each of 4 classes; 2 trials, 3 folds, one epoch, one row.
    assert planned["svm"].cost == 989 * 4 * 2 * 3
    # 3 s of 100 frames a second, of which IAAN's features average 5.
    rows = {name: rows_read(each.configuration.features) for name, each in planned.items()}
    assert rows == {"svm": 1, "short": 60, "long": 60, "crnn": 300}


def test_a_grid_has_no_more_trials_than_points(tmp_path: Path, spoken: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("parameters: {model.c: {choices: [0.1, 0.01, 0.001]}}")
    raw = study_sections(tmp_path, spoken)
    search = {"space": str(space), "trials": 9, "sampler": "grid"}
    raw["sweeps"] = {"svm": {"model": {"name": "linear_svm"}, "search": search}}
    del raw["base"]["search"], raw["base"]["training"]
    (planned,) = check_study(orchestrator.load_study(raw))
    assert planned.trials == 3
