"""The commands of `ser` about normalisation: counts of speakers, a search over it, an alarm."""

import json
from pathlib import Path

import pytest
import yaml

from features.storage import Storage
from orchestrator import load_model
from orchestrator.ledger.ledger import Ledger
from tests.orchestrator.cli.conftest import Command
from tests.support.made_sweep import all_wrong, make_sweep
from tests.support.sweeps import configure, sections
from tests.support.voices import CLASSES, make_voices

MOSTLY_ONE = [[name] for name in CLASSES for _ in range(2)] + [list(CLASSES)]
"""Eight speakers with one class each, and one with all."""


@pytest.mark.parametrize(
    ("speakers", "takes", "notes"),
    [
        (MOSTLY_ONE, 10, ["one class only: 8 of 9, with 67%", "less than 30 s: 9 of 9"]),
        ([["ang"], ["sad"]] * 3, 1, ["one class only: 6 of 6", "one utterance only: 6 of 6"]),
        ([list(CLASSES)] * 2, 2, ["fewer than 10 utterances or less than 30 s: 2 of 2"]),
        ([list(CLASSES)] * 2, 16, []),
    ],
)
def test_corpus_shows_speakers_whose_own_mean_can_mislead(
    speakers: list[list[str]], takes: int, notes: list[str], tmp_path: Path, command: Command
) -> None:
    manifest = make_voices(tmp_path, speakers, takes)
    shown = " ".join(command("corpus", "manifest", manifest).stdout.split())
    values = json.loads(command("corpus", "manifest", manifest, "--json").stdout)
    for note in notes:
        assert note in shown
    assert ("features.normalize: train" in shown) == bool(notes)
    assert [any(note in line for line in values["notes"]) for note in notes] == [True] * len(notes)
    assert values["coverage"]["speakers"] == len(speakers)


def test_report_says_that_a_score_below_chance_is_wrong(tmp_path: Path, command: Command) -> None:
    ledger = all_wrong(make_sweep(tmp_path, ["complete"]))
    done = command("report", ledger.storage.root)
    assert done.returncode == 0
    assert "Something is wrong: UA is 0.0%" in done.stderr
    assert all(Path(line).is_file() for line in done.stdout.splitlines())  # names of files only
    shown = json.loads(command("report", ledger.storage.root, "--json").stdout)
    assert "Something is wrong: UA is 0.0%" in shown["alarm"][0]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_a_search_over_sets_and_normalize_gives_the_trials_of_each_value(
    tmp_path: Path, command: Command
) -> None:
    """All values in one sweep: the same ids and bytes as a run with this value alone."""
    speakers = [[name] for name in CLASSES for _ in range(4)] + [list(CLASSES)]
    manifest = make_voices(tmp_path / "corpus", speakers, takes=4)
    values = ["speaker", "train", "none"]
    space = tmp_path / "space.yaml"
    emobase, compare = "emobase_functionals", "compare_functionals"
    parameters = {
        "features.name": {"choices": [emobase, compare]},
        "features.normalize": {"choices": values, "when": {"features.name": [emobase]}},
    }
    space.write_text(yaml.safe_dump({"parameters": parameters}, sort_keys=False))
    svm = {
        "model": {"name": "linear_svm"},
        "folds": {"scheme": "stratified_group_k_fold", "folds": 4},
    }
    svm["cluster"] = {"concurrent_trials": 1}
    raw = sections(tmp_path, manifest, **svm) | {"training": {"seed": 0}}
    raw["search"] = {"space": str(space), "sampler": "grid", "scheduler": "none", "trials": 4}
    config = tmp_path / "sweep.yaml"
    config.write_text(yaml.safe_dump(raw))
    done = command("extract", config)
    assert [line.partition(" have features in ")[0] for line in done.stdout.splitlines()] == [
        f"{(16 + 4) * 4} utterances"
    ] * 2
    done = command("sweep", config)
    assert done.returncode == 0, done.stderr
    said, _, _ = done.stderr.partition("trial 0")
    assert "Set features.normalize: train." in said  # before training
    ledger = Ledger(Storage.open(str(tmp_path / "runs/toy")))
    found = {r.hyperparameters.get("features.normalize", compare): r for r in ledger.trials()}
    assert found.keys() == {*values, compare}
    page = (tmp_path / "runs/toy/report/index.html").read_text()
    assert "searched, normalize: searched" in page
    assert load_model(ledger.storage.root, found[compare].id)

    raw |= {"search": None, "features": {"normalize": "train"}, "name": "alone"}
    config.write_text(yaml.safe_dump(raw))
    done = command("train", config)
    assert done.returncode == 0, done.stderr
    assert "one class only" not in done.stderr
    (alone,) = Ledger(Storage.open(str(tmp_path / "runs/alone"))).trials()
    assert (alone.id, alone.files) == (found["train"].id, found["train"].files)
    scores = {name: record.score for name, record in found.items()}
    assert scores["train"] > scores["speaker"] + 0.3, scores


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ("features.normalize: {choices: [speaker, band]}", "features.normalize"),
        ("features.pool: {low: 1, high: 5}", "features.pool cannot be searched"),
        ("features.max_errors: {choices: [0, 1]}", "features.max_errors cannot be searched"),
    ],
)
def test_other_values_and_keys_of_features_cannot_be_searched(
    parameters: str, part: str, tmp_path: Path, spoken: Path, command: Command
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(f"parameters: {{{parameters}}}")
    done = command("sweep", configure(tmp_path, spoken, search={"space": str(space)}))
    assert done.returncode == 2
    assert part in done.stderr
    assert not (tmp_path / "runs").exists()
