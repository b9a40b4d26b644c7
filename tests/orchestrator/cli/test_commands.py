"""The command line on real processes: SIGKILL, resume, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from features.storage import Storage
from orchestrator.cli.commands import main
from orchestrator.ledger.ledger import Ledger

SER = [sys.executable, "-m", "orchestrator.cli"]


SMALL_CRNN = {"first_maps": 2, "maps": 2, "conv_layers": 1, "linear_size": 8}


def configure(folder: Path, manifest: Path, **sections: object) -> Path:
    raw = {
        "name": "toy",
        "storage": str(folder / "runs"),
        "corpus": {"root": str(manifest), "classes": ["ang", "hap", "neu", "sad"]},
        "model": {"name": "iaan", "hidden_size": 8, "attention_size": 8},
        "training": {"epochs": 5, "learning_rate": 0.003, "checkpoint_every": 0},
        "search": {"space": "iaan_small", "trials": 3, "grace_epochs": 2},
        "cluster": {"concurrent_trials": 2},
    }
    for section, values in sections.items():
        # Another model has keys of its own.
        if isinstance(values, dict) and not (section == "model" and "name" in values):
            values = {**raw.get(section, {}), **values}
        raw[section] = values
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def ser(*arguments: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SER, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )


def killed(arguments: list[str | Path], ready: Callable[[], bool]) -> bool:
    """Start `ser`, SIGKILL it once `ready`; False where it ended first."""
    process = subprocess.Popen(
        [*SER, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while process.poll() is None:
        assert time.monotonic() < deadline, "the moment to kill never came"
        if ready():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.02)
    return False


def outcome(runs: Path) -> dict[str, object]:
    """Everything of a sweep but its timings."""
    ledger = Ledger(Storage.open(str(runs / "toy")))
    found: dict[str, object] = {"proposals": ledger.suggestions()}
    for record in ledger.trials():
        folder = ledger.trial_storage(record.id)
        found[record.id] = (
            record.model_copy(update={"seconds": 0.0}),
            {name: folder.read(name) for name in record.files},
        )
    return found


@pytest.mark.timeout(900)
def test_a_sweep_that_is_killed_ends_as_one_that_was_not(tmp_path: Path, spoken: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir()
    broken.mkdir()
    done = ser("sweep", configure(straight, spoken))
    assert done.returncode == 0, done.stderr
    assert "best UA" in done.stdout
    assert str(straight / "runs/toy/report/index.html") in done.stdout

    config = configure(broken, spoken)
    sweep = broken / "runs/toy"
    moments: list[Callable[[], bool]] = [
        lambda: any(sweep.glob("trials/*/checkpoint-*/manifest.json")),  # between epochs
        lambda: any(sweep.glob("trials/*/trial.json")),  # the first trial is done
    ]
    assert all(killed(["sweep", config], moment) for moment in moments)
    seen = {path.parent.name for path in sweep.glob("trials/*/trial.json")}
    assert seen
    times = {name: (sweep / "trials" / name / "trial.json").stat().st_mtime_ns for name in seen}
    resumed = ser("sweep", config)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(broken / "runs") == outcome(straight / "runs")
    for name, written in times.items():  # what had ended was not done again
        assert (sweep / "trials" / name / "trial.json").stat().st_mtime_ns == written
    numbers = (sweep / "report/trials.csv").read_text().splitlines()
    assert len(numbers) == 1 + len(outcome(straight / "runs")) - 1

    again = ser("sweep", config)
    assert again.returncode == 0
    assert again.stdout == resumed.stdout
    assert "3 done before" in again.stderr

    status = json.loads(ser("status", sweep, "--json").stdout)
    assert (status["proposed"], status["unfinished"]) == (3, [])
    summary = ser("report", sweep, "--json")
    assert json.loads(summary.stdout)["best"]["score"] == status["best"]["score"]

    old = Ledger(Storage.open(str(sweep)))
    complete = [record for record in old.trials() if record.status == "complete"]
    other = configure(broken, spoken, search={"scheduler": "none", "trials": len(complete)})
    assert "search.scheduler was 'asha'" in ser("sweep", other).stderr
    forked = ser("sweep", other, "--fork", "other")
    assert forked.returncode == 0, forked.stderr
    assert f"{len(complete)} done before" in forked.stderr
    new = Ledger(Storage.open(str(broken / "runs/other")))
    for mine, its in zip(new.trials(), complete, strict=True):
        assert mine.files == its.files
    assert ser("sweep", other, "--fork", "toy").returncode == 2  # a sweep of its own


def test_every_kind_of_model_is_searched_scored_and_compared(tmp_path: Path, spoken: Path) -> None:
    crnn = configure(
        tmp_path,
        spoken,
        name="crnn",
        model={"name": "ssa_crnn_r", **SMALL_CRNN},
        training={"epochs": 2, "batch_size": 16},
        search={"space": "ssa_crnn_r", "trials": 2, "scheduler": "none"},
    )
    done = ser("sweep", crnn)
    assert done.returncode == 0, done.stderr
    raw = yaml.safe_load(crnn.read_text())
    raw |= {"name": "svm", "model": {"name": "linear_svm"}, "training": {"seed": 0}}
    raw["search"] |= {"space": "linear_svm"}
    svm = tmp_path / "svm.yaml"
    svm.write_text(yaml.safe_dump(raw))
    done = ser("sweep", svm)
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / "runs" / name for name in ("svm", "crnn")]
    for folder in folders:
        found = json.loads(ser("report", folder, "--json").stdout)
        assert found["trials"]["complete"] == 2
        assert 0 < found["nested"]["pooled"]["ua"] <= 1
        assert sum(case["share"] for case in found["best"]["context"]) == pytest.approx(1)
    compared = json.loads(ser("compare", *folders, "--json").stdout)
    assert [compared[side]["model"] for side in ("first", "second")] == ["linear_svm", "ssa_crnn_r"]
    assert compared["first"]["folds"].keys() == compared["second"]["folds"].keys()
    again = ser("sweep", svm)
    assert "2 done before" in again.stderr


def test_wrong_use_is_one_line_and_exit_code_2(
    tmp_path: Path,
    spoken: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unsearchable = tmp_path / "space.yaml"
    unsearchable.write_text("parameters: {corpus.note: {choices: [a, b]}}")
    odd = tmp_path / "odd.yaml"
    odd.write_text("parameters: {model.hidden_size: {low: 16, high: 64}}")
    cases: list[tuple[dict[str, object], str]] = [
        ({"model": {"droput": 0.1}}, "model.droput: unknown key; did you mean dropout?"),
        ({"training": {"epochs": "x"}}, "training.epochs: "),
        ({"corpus": {"classes": ["ang", "joy"]}}, "no utterance is labelled joy; labels that"),
        ({"corpus": {"root": "gone.csv"}}, "corpus.root: "),
        ({"corpus": {"name": "iemocapp"}}, "corpus.name: no corpus iemocapp; known: "),
        ({"folds": {"scheme": "kfold"}}, "folds.scheme: no scheme kfold; known: "),
        ({"model": {"hidden_size": 7}}, "hidden_size is 7: it must be even"),
        ({"search": {"space": "iaann"}}, "search.space: no space iaann; known: acrnn, "),
        ({"search": {"sampler": "grid"}}, "search.space: training.learning_rate: a grid needs"),
        ({"search": {"space": str(unsearchable)}}, "corpus.note cannot be searched"),
        ({"search": {"space": str(odd)}}, "hidden_size is 17: it must be even"),
        ({"search": {"space": "acrnn_r"}}, "acrnn_r: model.embedding_size: unknown key"),
        (
            {"model": {"name": "acrnn_r", "regularizer_weight": 0.1, **SMALL_CRNN}}
            | {"search": {"space": "acrnn_r"}},
            "space: acrnn_r: model: regularizer_weight is 0.1, but regularizer is none",
        ),
        ({"model": {"hidden_size": 10**12}}, "model: "),
        (
            {"model": {"name": "ssa_crnn_r", **SMALL_CRNN}, "search": {"space": "ssa_crnn_r"}}
            | {"corpus": {"only": {"gender": ["female"]}}},
            "speakers is 1: it must be at least 2 (in fold Ses01)",
        ),
        ({"corpus": {"only": {"style": ["scripted"]}}}, "corpus.only: no row has style scripted"),
        ({"corpus": {"only": {"turn": ["1"]}}}, "corpus.only: no column turn of names; there are"),
        ({"storage": "s4://bucket"}, "storage: s4://bucket: "),
        ({"cluster": {"workers_per_trial": 4}}, "cluster.workers_per_trial: 4 workers cannot"),
    ]
    for sections, message in cases:
        config = configure(tmp_path, spoken, **sections)
        monkeypatch.setattr(sys, "argv", ["ser", "sweep", str(config)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2, sections
        out, err = capsys.readouterr()
        assert len(err.strip().splitlines()) == 1, err
        assert message in err
        assert out == ""
    assert not (tmp_path / "runs").exists()


def test_a_speaker_in_no_session_is_named_by_row(tmp_path: Path, spoken: Path) -> None:
    lines = spoken.read_text().splitlines()
    column = lines[0].split(",").index("session")
    cells = lines[7].split(",")
    cells[column] = ""
    lines[7] = ",".join(cells)
    manifest = spoken.parent / "holed.csv"
    manifest.write_text("\n".join(lines) + "\n")
    done = ser("sweep", configure(tmp_path, manifest))
    assert done.returncode == 2
    assert "needs a session in every" in done.stderr
    assert "row 7" in done.stderr


def test_features_that_cannot_be_made_stop_training_and_are_listed(
    tmp_path: Path, spoken: Path
) -> None:
    lines = spoken.read_text().splitlines()
    first = lines[1].split(",")
    name = first[lines[0].split(",").index("file")]
    broken = [cell.replace(name, "gone.wav") for cell in first]
    manifest = spoken.parent / "broken.csv"
    manifest.write_text("\n".join([lines[0], ",".join(broken), *lines[2:]]) + "\n")
    config = configure(tmp_path, manifest)
    refused = ser("extract", config)
    assert refused.returncode == 1
    assert "gone.wav" in refused.stderr
    assert "missing" in refused.stderr
    assert "features.max_errors is 0" in refused.stderr
    accepted = ser("extract", config, "--set", "features.max_errors=1")
    assert accepted.returncode == 0, accepted.stderr
    assert accepted.stderr.count("gone.wav") == 1  # one list, at the end


def test_corpus_prints_json_and_nothing_else(tmp_path: Path, spoken: Path) -> None:
    assert ser("status", tmp_path).returncode == 2  # no sweep's folder
    done = ser("corpus", configure(tmp_path, spoken), "--json")
    found = json.loads(done.stdout)
    assert found["utterances"] == 3 * 3 * 12
    assert set(found["classes"]) == {"ang", "hap", "neu", "sad"}
    assert sum(found["classes"].values()) == found["labelled"]
    assert found["dialogues"] == 9
