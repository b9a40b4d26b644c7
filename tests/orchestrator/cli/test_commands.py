"""The commands of `ser`: real sweeps with kills and forks, every kind of model, printed values."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger
from tests.orchestrator.cli.conftest import Command
from tests.support.processes import wait
from tests.support.sweeps import NAME, configure, driver, give_features, outcome, sections, ser


def ledger_at(folder: Path) -> Ledger:
    return Ledger(Storage.open(str(folder)))


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep_that_is_killed_ends_as_one_without_a_kill(
    tmp_path: Path, spoken: Path, spoken_features: Path, command: Command
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        give_features(spoken_features, folder / "runs")
    # One trial at a time gives the results of two, because the lag is the same.
    one = {"cluster": {"concurrent_trials": 1}, "search": {"lag": 2}}
    done = command("sweep", configure(undisturbed, spoken, **one))
    assert done.returncode == 0, done.stderr
    assert "best UA" in done.stdout
    assert str(undisturbed / "runs" / NAME / "report/index.html") in done.stdout
    expected = outcome(ledger_at(undisturbed / "runs" / NAME))

    config, sweep = configure(killed, spoken), killed / "runs" / NAME
    moments: list[Callable[[], bool]] = [
        lambda: any(sweep.glob("trials/*/checkpoint-*/manifest.json")),  # between two epochs
        lambda: any(sweep.glob("trials/*/trial.json")),  # the first trial is finished
    ]
    for moment in moments:
        with driver(config, killed / "driver.log") as process:
            assert wait(moment, process, load=0.5), (killed / "driver.log").read_text()
            process.kill()
            process.wait()
    written = {path: path.stat().st_mtime_ns for path in sweep.glob("trials/*/trial.json")}
    assert written
    resumed = command("sweep", config)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(ledger_at(sweep)) == expected
    for path, time in written.items():  # finished trials were not trained again
        assert path.stat().st_mtime_ns == time
    assert len((sweep / "report/trials.csv").read_text().splitlines()) == 1 + 3

    again = command("sweep", config, "--set", "cluster.concurrent_trials=7")
    assert again.returncode == 0
    assert again.stdout == resumed.stdout
    assert ledger_at(sweep).sweep().lag == 2  # of its start: a larger cluster does not change it
    assert "3 trials finished before" in again.stderr

    status = json.loads(command("status", sweep, "--json").stdout)
    assert (status["proposed"], status["unfinished"]) == (3, [])
    summary = json.loads(command("report", sweep, "--json").stdout)
    assert summary["best"]["score"] == status["best"]["score"]

    _fork(command, killed, spoken)


def _fork(command: Command, folder: Path, spoken: Path) -> None:
    """Another scheduler is refused under the same name; a fork copies the complete trials."""
    complete = [r for r in ledger_at(folder / "runs" / NAME).trials() if r.status == "complete"]
    other = configure(folder, spoken, search={"scheduler": "none", "trials": len(complete)})
    refused = command("sweep", other)
    assert refused.returncode == 2
    assert "search.scheduler was 'asha'" in refused.stderr
    forked = command("sweep", other, "--fork", "other")
    assert forked.returncode == 0, forked.stderr
    assert f"{len(complete)} trials finished before" in forked.stderr
    copied = ledger_at(folder / "runs/other").trials()
    assert [record.files for record in copied] == [record.files for record in complete]
    assert command("sweep", other, "--fork", NAME).returncode == 2  # another sweep has this name


@pytest.mark.usefixtures("ray_cluster")
def test_every_kind_of_model_is_searched_scored_and_compared(
    tmp_path: Path, spoken: Path, spoken_features: Path, command: Command
) -> None:
    give_features(spoken_features, tmp_path / "runs")
    small = {"first_maps": 2, "maps": 2, "conv_layers": 1, "linear_size": 8}
    search = {"space": "ssa_crnn_r", "trials": 2, "scheduler": "none"}
    crnn = sections(
        tmp_path,
        spoken,
        name="crnn",
        model={"name": "ssa_crnn_r", **small},
        training={"epochs": 2, "batch_size": 16},
        search=search,
        cluster={"concurrent_trials": 1},
    )
    svm = crnn | {"name": "svm", "model": {"name": "linear_svm"}, "training": {"seed": 0}}
    svm["search"] = search | {"space": "linear_svm"}
    folders = []
    for raw in (svm, crnn):
        path = tmp_path / f"{raw['name']}.yaml"
        path.write_text(yaml.safe_dump(raw))
        done = command("sweep", path)
        assert done.returncode == 0, done.stderr
        folders.append(tmp_path / "runs" / raw["name"])
        summary = json.loads(command("report", folders[-1], "--json").stdout)
        assert summary["trials"]["complete"] == 2
        assert 0 < summary["nested"]["pooled"]["ua"] <= 1
        assert sum(case["share"] for case in summary["best"]["context"]) == pytest.approx(1)
    compared = json.loads(command("compare", *folders, "--json").stdout)
    assert [compared[side]["model"] for side in ("first", "second")] == ["linear_svm", "ssa_crnn_r"]
    assert compared["first"]["folds"].keys() == compared["second"]["folds"].keys()
    assert "difference: " in command("compare", *folders).stdout


@pytest.mark.usefixtures("extracted_here")
def test_utterances_without_features_stop_the_extraction_unless_they_are_accepted(
    tmp_path: Path, spoken: Path, command: Command
) -> None:
    lines = spoken.read_text().splitlines()
    first = lines[1].split(",")
    name = first[lines[0].split(",").index("file")]
    missing = [cell.replace(name, "gone.wav") for cell in first]
    manifest = spoken.parent / "broken.csv"
    manifest.write_text("\n".join([lines[0], ",".join(missing), *lines[2:]]) + "\n")
    config = configure(tmp_path, manifest)
    refused = command("extract", config)
    assert refused.returncode == 1
    assert "gone.wav" in refused.stderr
    assert "missing" in refused.stderr
    assert "features.max_errors is 0" in refused.stderr
    accepted = command("extract", config, "--set", "features.max_errors=1")
    assert accepted.returncode == 0, accepted.stderr
    assert accepted.stderr.count("gone.wav") == 1  # in one list, at the end


@pytest.mark.parametrize("arguments", ["section", "name and root"])
def test_corpus_needs_no_model_and_prints_json_and_nothing_else(
    tmp_path: Path, spoken: Path, arguments: str
) -> None:
    config = tmp_path / "corpus.yaml"
    corpus = {"root": str(spoken), "classes": ["ang", "hap", "neu", "sad"]}
    config.write_text(yaml.safe_dump({"corpus": corpus}))
    given = [config] if arguments == "section" else ["manifest", spoken]
    done = ser("corpus", *given, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["utterances"] == 3 * 3 * 12
    others = set() if arguments == "section" else {"fru", "xxx"}  # without a choice, all labels
    assert set(summary["classes"]) == {"ang", "hap", "neu", "sad"} | others
    assert sum(summary["classes"].values()) == summary["labelled"]
    assert summary["dialogues"] == 9


def test_corpus_prints_a_table(spoken: Path, command: Command) -> None:
    done = command("corpus", "manifest", spoken)
    assert done.returncode == 0, done.stderr
    assert "no problems" in done.stdout
    assert "108" in done.stdout


def test_init_writes_a_configuration_that_fits_the_corpus(
    tmp_path: Path, spoken: Path, command: Command
) -> None:
    from orchestrator.config.parsing import load
    from orchestrator.sweep.check import check

    file = tmp_path / "mine.yaml"
    done = command("init", "manifest", spoken, "--model", "iaan", "--file", file)
    assert done.returncode == 0, done.stderr
    plan, _ = check(load(str(file)))
    assert plan.configuration.name == "mine"
    assert plan.configuration.model.name == "iaan"
    assert len(plan.folds) == 3  # one for each session
    again = command("init", "manifest", spoken, "--file", file)
    assert again.returncode == 2  # the file exists
    assert str(file) in again.stderr


def test_version_and_help(command: Command) -> None:
    assert command("--version").stdout == f"ser {version('ser-orchestrator')}\n"
    for name in (
        "init",
        "corpus",
        "extract",
        "train",
        "sweep",
        "study",
        "demo",
        "status",
        "report",
    ):
        assert name in command("--help").stdout
        assert "Usage" in command(name, "--help").stdout


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_without_a_score_ends_with_exit_code_1(
    tmp_path: Path, spoken: Path, spoken_features: Path, command: Command
) -> None:
    give_features(spoken_features, tmp_path / "runs")
    config = configure(tmp_path, spoken, training={"learning_rate": 1e30, "epochs": 2})
    done = command("train", config)
    assert done.returncode == 1
    assert "no trial has a score" in done.stdout
    assert "trial 0 failed: fold Ses01, epoch 1: " in done.stderr
