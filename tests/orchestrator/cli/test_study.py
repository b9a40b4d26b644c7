"""`ser study`: real small studies with kills, seeds, changes and a sweep that fails."""

import csv
import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import orchestrator
from orchestrator.report.study_files import ACROSS
from orchestrator.sweep import connection
from tests.orchestrator.cli.conftest import Command
from tests.support.processes import wait
from tests.support.studies import TABLES, TINY, study_outcome, study_sections, write_study
from tests.support.sweeps import driver, give_features

EPOCHS = {"svm": 1, "net": 8}
"""Epochs of a trial. `net` has two trials, and both are trained again with another seed."""


def no_ray() -> None:
    raise AssertionError("a finished study needs no Ray")


def sections(folder: Path, manifest: Path) -> dict[str, Any]:
    """A study in which `svm` has one trial, because each trial starts processes."""
    raw = study_sections(folder, manifest)
    trials = raw["base"]["search"].pop("trials")
    raw["sweeps"]["net"]["search"]["trials"] = trials
    raw["sweeps"]["svm"]["search"]["trials"] = 1
    return raw


def epochs_kept(folder: Path) -> int:
    """Epochs of a study that a kill cannot undo: those of finished trials and of checkpoints."""
    kept = {
        path.parent: EPOCHS[path.parts[-4].partition(".")[0]]
        for path in folder.glob("*/trials/*/trial.json")
    }
    for path in folder.glob("*/trials/*/checkpoint-*/manifest.json"):
        trial, epoch = path.parent.parent, int(path.parent.name.partition("-")[2])
        kept[trial] = max(kept.get(trial, 0), epoch)
    return sum(kept.values())


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_a_study_that_is_killed_ends_as_one_without_a_kill(
    tmp_path: Path,
    spoken: Path,
    spoken_features: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = tmp_path / "undisturbed"
    config, folder = write_study(whole, sections(whole, spoken)), whole / "runs/studies/toy"
    listed = json.loads(command("study", config, "--list", "--json").stdout)
    assert not (whole / "runs").exists()
    costs = [(run["sweep"], run["seed"], run["fold_epochs"]) for run in listed["runs"]]
    # Seed 0 is the seed of both sweeps.
    expected = [("svm", None, 3), ("net", None, 2 * 3 * 8), ("svm", 1, 3), ("net", 1, 3 * 8)]
    assert costs == expected
    assert listed["fold_epochs"] == listed["fold_epochs_left"] == 3 + 48 + 3 + 24

    give_features(spoken_features, whole / "runs")
    done = command("study", config)
    assert done.returncode == 0, done.stderr
    assert str(folder / "report") in done.stdout
    assert done.stderr.index("sweep 1 of 2: svm") < done.stderr.index("sweep 2 of 2: net")
    undisturbed = study_outcome(folder)
    best = {name: orchestrator.open_sweep(str(folder / name)).trial() for name in ("net", "svm")}
    seeds = [f"{name}.{record.id}.seed-1" for name, record in best.items()]
    assert undisturbed.keys() == {"net", "svm", *seeds, *TABLES}
    for name in seeds:
        _check_seed(folder, name)
    _check_scores(folder)

    killed = tmp_path / "killed"
    folder = killed / "runs/studies/toy"
    config = write_study(killed, sections(killed, spoken))
    give_features(spoken_features, killed / "runs")
    # Random moments of the 26 epochs, and a random time after each: at 5, 16 and 19 epochs.
    rng = np.random.default_rng(14)
    for number, moment in enumerate(sorted(rng.choice(np.arange(2, 24), 3, replace=False))):
        kept, log = epochs_kept(folder), killed / "driver.log"
        least = max(moment, kept + 1)
        with driver(config, log, command="study") as process:
            reached = wait(lambda least=least: epochs_kept(folder) >= least, process, load=0.5)
            assert reached, log.read_text()
            if number == 0:
                _check_one_ray(process, folder)
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert epochs_kept(folder) >= least
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/trials/*/trial.json")}
    assert len(written) >= 1 + 2
    listed = json.loads(command("study", config, "--list", "--json").stdout)
    assert [run["finished"] for run in listed["runs"]][:2] == [1, 2]
    assert listed["fold_epochs_left"] <= 24  # 0 if the last trial ended before the kill

    _check_refused(command, config)
    raw = sections(killed, spoken)  # a new sweep changes no other sweep
    raw["sweeps"]["more"] = {"model": {"name": "linear_svm", "c": 0.01}, "training": {"seed": 1}}
    raw["sweeps"]["more"]["search"] = raw["sweeps"]["svm"]["search"]
    config = write_study(killed, raw)
    resumed = command("study", config, "--set", "seeds=[1]")
    assert resumed.returncode == 0, resumed.stderr
    outcome = study_outcome(folder)
    runs = undisturbed.keys() - {*TABLES}
    assert outcome.keys() == {*runs, "more", *TABLES}
    assert all(outcome[name] == undisturbed[name] for name in runs)
    for path, moment in written.items():  # finished trials were not trained again
        assert path.stat().st_mtime_ns == moment

    config = write_study(killed, sections(killed, spoken))
    with monkeypatch.context() as patch:
        patch.setattr(connection, "cluster", no_ray)
        finished = command("study", config)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == [
        word.replace(str(whole), str(killed)) for word in done.stdout.split()
    ]
    assert study_outcome(folder) == {**undisturbed, "more": outcome["more"]}
    assert "78 fold-epochs, of which 0 are left" in command("study", config, "--list").stdout


def _check_seed(folder: Path, name: str) -> None:
    """A run with another seed has the best configuration of its sweep, and other weights."""
    sweep = orchestrator.open_sweep(str(folder / name.partition(".")[0])).trial()
    run = orchestrator.open_sweep(str(folder / name))
    (record,) = run.ledger.trials()
    assert (record.status, record.seed, record.hyperparameters) == ("complete", 1, {})
    for key, value in sweep.hyperparameters.items():
        section, _, leaf = key.partition(".")
        assert run.record.configuration[section][leaf] == value
    if name.startswith("net"):
        weights = [file for file in record.files if file.endswith(".safetensors")]
        assert len(weights) == 3
        assert all(record.files[file] != sweep.files[file] for file in weights)


def _check_scores(folder: Path) -> None:
    """The table of scores has the sweeps in the order of the study's file."""
    rows = list(csv.DictReader((folder / "report/scores.csv").open()))
    assert [row["sweep"] for row in rows] == ["net", "svm", ACROSS]
    for row in rows[:2]:
        nested = orchestrator.open_sweep(str(folder / row["sweep"])).scores()["nested"]
        assert float(row["ua_mean"]) == nested["mean_over_folds"]["ua"]["value"]


def _check_one_ray(process: psutil.Popen, folder: Path) -> None:
    """The Ray of a process started before the first sweep ended, and still serves the second."""
    (raylet,) = [child for child in process.children(recursive=True) if child.name() == "raylet"]
    first = min(path.stat().st_mtime for path in folder.glob("svm/trials/*/trial.json"))
    assert raylet.create_time() < first


def _check_refused(command: Command, config: Path) -> None:
    """Changed sweeps are refused before anything runs."""
    changes = ["sweeps.svm.search.sampler=random", "sweeps.net.model.hidden_size=8"]
    options = [option for change in changes for option in ("--set", change)]
    refused = command("study", config, *options)
    assert refused.returncode == 2
    for part in ("sweeps.svm: ", "search.sampler was 'tpe'", "sweeps.net: ", "model.hidden_size"):
        assert part in refused.stderr


@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep_that_fails_does_not_stop_the_others(
    tmp_path: Path, spoken: Path, spoken_features: Path, command: Command
) -> None:
    give_features(spoken_features, tmp_path / "runs")
    raw = study_sections(tmp_path, spoken)
    del raw["base"]["search"]
    raw["base"]["training"] = {"epochs": 2}
    raw["base"]["cluster"] = {"max_failures": 1}
    larger = {"name": "bigru_att", **TINY, "hidden_size": 8}
    raw["sweeps"] = {
        "works": {"model": larger},
        "breaks": {"model": {**larger, "hidden_size": 4}, "training": {"learning_rate": 1e30}},
    }
    config = write_study(tmp_path, raw)
    done = command("study", config)
    assert done.returncode == 1
    assert done.stderr.index("sweep 1 of 2: breaks") < done.stderr.index("sweep 2 of 2: works")
    assert "breaks: no training with other seeds" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ser: 1 runs failed. breaks: trials 0 to 0 failed in a row")
    assert "works" in done.stdout
    study = orchestrator.run_study(orchestrator.load_study(str(config)))
    assert [(sweep.name, sweep.best is None) for sweep in study.sweeps] == [
        ("works", False),
        ("breaks", True),
    ]
    assert study.failures.keys() == {"breaks"}
    assert [run.best is None for run in study.seeds["works"]] == [False]
    rows = list(csv.DictReader((tmp_path / "runs/studies/toy/report/scores.csv").open()))
    assert [bool(row["ua_mean"]) for row in rows] == [True, False, True]  # the last: across models


def test_json_needs_the_list(tmp_path: Path, spoken: Path, command: Command) -> None:
    done = command("study", write_study(tmp_path, study_sections(tmp_path, spoken)), "--json")
    assert done.returncode == 2
    assert "--json: works only with --list" in done.stderr
