"""The example of an own model, features and corpus, as a user runs it: on a real local Ray."""

import shutil
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import yaml

import orchestrator
from features.storage import Storage
from orchestrator.errors import ConfigError
from orchestrator.inference.export import export_model
from orchestrator.inference.model import load_model
from orchestrator.ledger.ledger import Ledger
from orchestrator.report import build
from orchestrator.sweep.check import check
from tests.support.processes import wait
from tests.support.sweeps import driver, outcome, ser

EXAMPLE = Path(__file__).parents[2] / "examples/own_model"
TRUST = ["gated_mean:GatedMean", "loudness:LoudnessConfig"]
OWN = [*TRUST, "speaker_folders:read_speaker_folders"]
MODULES = {name.partition(":")[0] for name in OWN}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example with a corpus of noises: loud ones are angry."""
    shutil.copytree(EXAMPLE, tmp_path / "own")
    generator = np.random.default_rng(0)
    for speaker in "abc":
        for emotion, level in (("ang", 0.3), ("sad", 0.03)):
            place = tmp_path / "own/corpus" / speaker / emotion
            place.mkdir(parents=True)
            for number in range(4):
                noise = level * generator.standard_normal(6400 + 800 * number)
                soundfile.write(place / f"{number}.wav", noise.clip(-1, 1), 16_000)
    raw = yaml.safe_load((EXAMPLE / "own_model.yaml").read_text())
    raw |= {
        "storage": "runs",
        "corpus": {"name": OWN[2], "root": "corpus", "classes": ["ang", "sad"]},
        "features": {"name": TRUST[1], "normalize": "train"},
        "folds": {"scheme": "leave_one_speaker_out"},
        "training": {"epochs": 4, "checkpoint_every": 0, "batch_size": 4},
        "search": {"space": "space.yaml", "trials": 2},
        "cluster": {"concurrent_trials": 1},
    }
    (tmp_path / "own/run.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path / "own"


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests do not find the example's modules, and this process has not imported them."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.timeout(900)
def test_the_example_is_swept_killed_resumed_reported_and_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(Storage.open(str(folder / "runs")).child("own-model"))

    def checkpoint() -> object:
        return list((folder / "runs/own-model").glob("trials/**/checkpoint-*"))

    with driver(folder / "run.yaml", folder / "log.txt") as process:
        assert isinstance(process, psutil.Popen)
        assert wait(checkpoint, process), (folder / "log.txt").read_text()
        process.kill()
        process.wait()
    resumed = ser("sweep", "run.yaml", cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    results = outcome(ledger)
    assert len(ledger.trials()) == 2
    assert all(trial.status == "complete" for trial in ledger.trials())

    # A storage alone runs no code: the report needs none, and networks need permission.
    monkeypatch.chdir(folder)
    sweep = orchestrator.open_sweep("runs/own-model")
    build(sweep.ledger, sweep.findings)
    assert "gated_mean:GatedMean" in (folder / "runs/own-model/report/index.html").read_text()
    with pytest.raises(ConfigError, match=r"you have not allowed it.*--trust gated_mean:GatedMean"):
        load_model(sweep)
    assert not MODULES & sys.modules.keys()
    model = orchestrator.load_model(sweep, trust=TRUST)
    loud = 0.3 * np.random.default_rng(1).standard_normal(8000)
    assert sum(model.predict(loud.clip(-1, 1), 16_000).values()) == pytest.approx(1)
    export_model(sweep, "exported", trust=TRUST)
    exported = orchestrator.load_model("exported", trust=TRUST)
    assert exported.predict(loud, 16_000) == model.predict(loud, 16_000)
    card = Path("exported/README.md").read_text()
    assert "needs code that is not part of it: gated\\_mean:GatedMean, loudness:Loud" in card
    assert f'load_model("THIS FOLDER", trust={TRUST})' in card
    assert "".join(f" --trust {name}" for name in TRUST) in card

    # Another code is not the same sweep, and the trials stay as they are.
    file = folder / "gated_mean.py"
    file.write_text(file.read_text().replace("min=1e-6", "min=1e-5"))
    with pytest.raises(ConfigError, match=r"holds another sweep: code\.own was"):
        orchestrator.run(orchestrator.load("run.yaml"))
    assert outcome(ledger) == results


def test_a_model_that_breaks_the_contract_is_refused_before_anything_is_computed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "gated_mean.py"
    file.write_text(file.read_text().replace(" * current.mask[:, :, None]", ""))
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as caught:
        check(orchestrator.load("run.yaml"))
    assert str(caught.value).startswith(
        "model: gated_mean:GatedMean breaks the contract of a model: the output depends on padding"
    )
    assert not (folder / "runs").exists()
