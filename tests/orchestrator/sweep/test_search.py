"""Proposals and pruning are functions of the seed and of results, whatever finishes first."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher

from features.storage import Storage
from orchestrator.config.sections import Configuration, parse
from orchestrator.ledger.ledger import Ledger, TrialRecord, canonical_json, sha256
from orchestrator.sweep.search import Search, cutoffs, in_common, rungs
from search_spaces import Space

EPOCHS = 18
SPACE = Space.model_validate(
    {
        "first": {"model.dropout": 0.25, "model.hidden_size": 32},
        "parameters": {
            "model.dropout": {"low": 0.0, "high": 0.9},
            "model.hidden_size": {"choices": [16, 32, 64]},
        },
    }
)


def configure(**search: object) -> Configuration:
    settings = {"space": "x", "trials": 14, "grace_epochs": 2} | search
    return parse(
        {
            "name": "toy",
            "corpus": {"root": "x", "classes": ["a", "b"]},
            "model": {"name": "iaan"},
            "training": {"epochs": EPOCHS},
            "search": settings,
        }
    )


def make(folder: Path, configuration: Configuration, lag: int, space: Space = SPACE) -> Search:
    def resolve(chosen: dict[str, object]) -> tuple[Configuration, str]:
        return configuration.with_values(chosen), sha256(canonical_json(chosen))[:10]

    ledger = Ledger(Storage.open(str(folder)))
    return Search(space, configuration, ledger, lag, lag, resolve)


def train(ledger: Ledger, task: dict[str, object]) -> None:
    """A trial whose curve follows from its hyperparameters alone, with the trial's own pruning."""
    chosen = task["hyperparameters"]
    best = 0.9 - (chosen["model.dropout"] - 0.4) ** 2 - 3.0 / chosen["model.hidden_size"]
    curve: list[float] = []
    while len(curve) < EPOCHS:
        curve.append(best * (1 - 0.7 ** (len(curve) + 1)))
        if curve[-1] < task["cutoffs"].get(len(curve), -1):
            break
    pruned = len(curve) < EPOCHS
    ledger.write_trial(
        TrialRecord(
            id=task["trial"],
            number=task["number"],
            model="iaan",
            status="pruned" if pruned else "complete",
            hyperparameters=chosen,
            seed=0,
            score=curve[-1],
            curve=curve,
        )
    )


def drive(search: Search, seed: int = 0, stop_after: int | None = None) -> list[dict[str, object]]:
    """Do as Tune does, trials ending in random order; `stop_after` so many, as a kill would."""
    generator = np.random.default_rng(seed)
    running: dict[str, dict[str, object]] = {}
    started: list[dict[str, object]] = []
    while True:
        identity = f"tune-{len(started)}-{generator.integers(10**9)}"
        suggestion = search.suggest(identity)
        assert len(running) <= search.concurrent
        if suggestion == Searcher.FINISHED and not running:
            return started
        if isinstance(suggestion, dict):
            running[identity] = suggestion
            started.append(suggestion)
        elif running:
            ended = sorted(running)[generator.integers(len(running))]
            train(search.ledger, running.pop(ended))
            search.on_trial_complete(ended, {"score": 0.0})  # what Tune says does not count
            if stop_after is not None and len(started) >= stop_after:
                return started


def outcome(folder: Path) -> dict[str, object]:
    ledger = Ledger(Storage.open(str(folder)))
    return {
        "proposals": ledger.suggestions(),
        "records": {r.id: (r.number, r.status, r.curve) for r in ledger.trials()},
    }


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("lag", [1, 4])
def test_the_order_of_ends_changes_nothing(tmp_path: Path, sampler: str, lag: int) -> None:
    configuration = configure(sampler=sampler)
    for seed in range(4):
        drive(make(tmp_path / str(seed), configuration, lag), seed)
    narrow = make(tmp_path / "narrow", configuration, lag)
    narrow.concurrent = 2  # a smaller cluster
    assert len(drive(narrow, 9)) == 14
    expected = outcome(tmp_path / "0")
    assert len(expected["proposals"]) == 14
    assert any(status == "pruned" for _, status, _ in expected["records"].values())
    for other in ("1", "2", "3", "narrow"):
        assert outcome(tmp_path / other) == expected


def test_a_search_that_is_killed_again_and_again_is_the_one_that_was_not(tmp_path: Path) -> None:
    configuration = configure()
    drive(make(tmp_path / "straight", configuration, 4))
    finished = False
    for seed in range(50):
        drive(make(tmp_path / "killed", configuration, 4), seed, stop_after=1 + seed % 3)
        search = make(tmp_path / "killed", configuration, 4)
        search.advance()
        finished = search.done
        if finished:
            break
    assert finished
    assert seed > 3  # it was killed several times
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")


def test_ended_trials_are_not_started_again(tmp_path: Path) -> None:
    configuration = configure()
    drive(make(tmp_path, configuration, 2), stop_after=5)
    ended = {record.id for record in Ledger(Storage.open(str(tmp_path))).trials()}
    again = drive(make(tmp_path, configuration, 2))
    assert ended
    assert not {task["trial"] for task in again} & ended
    assert drive(make(tmp_path, configuration, 2)) == []


def test_more_trials_go_on_where_fewer_stopped(tmp_path: Path) -> None:
    drive(make(tmp_path / "a", configure(trials=6), 2))
    drive(make(tmp_path / "a", configure(trials=14), 2))
    drive(make(tmp_path / "b", configure(trials=14), 2))
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


def test_the_published_setting_comes_first_and_another_seed_proposes_otherwise(
    tmp_path: Path,
) -> None:
    configuration = configure(trials=4, sampler="random")
    drive(make(tmp_path / "a", configuration, 1))
    drive(make(tmp_path / "b", configuration.with_values({"training.seed": 1}), 1))
    first, second = (outcome(tmp_path / name)["proposals"] for name in "ab")
    assert first[0].hyperparameters == second[0].hyperparameters == SPACE.first
    assert first[1:] != second[1:]


def test_tpe_finds_better_than_random(tmp_path: Path) -> None:
    """The results reach Optuna: over seeds, TPE's later proposals beat random ones."""
    late = {"tpe": [], "random": []}
    for sampler, found in late.items():
        for seed in range(6):
            folder = tmp_path / f"{sampler}{seed}"
            configuration = configure(trials=30, sampler=sampler, scheduler="none")
            search = make(folder, configuration.with_values({"training.seed": seed}), 1)
            drive(search)
            scores = [record.score for record in Ledger(Storage.open(str(folder))).trials()]
            found.append(np.mean(scores[20:]))
    assert np.mean(late["tpe"]) > np.mean(late["random"]) + 0.02


def test_a_grid_is_every_point_once_with_the_first_leading(tmp_path: Path) -> None:
    space = Space.model_validate(
        {
            "first": {"model.hidden_size": 64, "model.dropout": 0.5},
            "parameters": {
                "model.hidden_size": {"choices": [16, 32, 64]},
                "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.25},
            },
        }
    )
    search = make(tmp_path, configure(sampler="grid", trials=50, scheduler="none"), 3, space)
    points = [task["hyperparameters"] for task in drive(search)]
    assert points[0] == space.first
    assert sorted((p["model.hidden_size"], p["model.dropout"]) for p in points) == [
        (size, dropout) for size in (16, 32, 64) for dropout in (0.0, 0.25, 0.5)
    ]


def test_one_configuration_proposed_twice_is_trained_once(tmp_path: Path) -> None:
    space = Space.model_validate({"parameters": {"model.dropout": {"choices": [0.1, 0.2]}}})
    search = make(tmp_path, configure(trials=8, sampler="random", scheduler="none"), 4, space)

    names = {0.1: "1" * 10, 0.2: "2" * 10}

    def resolve(chosen: dict[str, Any]) -> tuple[Configuration, str]:
        return configure().with_values(chosen), names[chosen["model.dropout"]]

    search.resolve = resolve
    started = []
    running: list[tuple[str, dict[str, object]]] = []
    for step in range(40):
        task = search.suggest(f"t{step}")
        if isinstance(task, dict):
            started.append(task["trial"])
            running.append((f"t{step}", task))
        elif running:
            identity, task = running.pop(0)
            task["hyperparameters"] = {**task["hyperparameters"], "model.hidden_size": 16}
            train(search.ledger, task)
            search.on_trial_complete(identity)
    assert search.done
    assert sorted(started) == list(names.values())
    assert len(search.ledger.suggestions()) == 8


def test_a_trial_that_breaks_off_bends_nothing(tmp_path: Path) -> None:
    """Its machine died and it left no record: nothing is proposed without its result."""
    configuration = configure(trials=6)
    drive(make(tmp_path / "straight", configuration, 2))
    search = make(tmp_path / "broken", configuration, 2)
    tasks = [search.suggest("a"), search.suggest("b")]
    train(search.ledger, tasks[1])
    search.on_trial_complete("b")
    search.on_trial_complete("a", error=True)
    assert search.ended[0] is None
    assert search.suggest("c") == Searcher.FINISHED
    assert not search.done
    again = make(tmp_path / "broken", configuration, 2)
    assert again.suggest("d") == tasks[0]
    drive(make(tmp_path / "broken", configuration, 2))
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "straight")


def test_a_storage_that_is_gone_is_noted_and_nothing_more_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune would take what is raised at a trial's end for a failure of that trial."""
    search, failure = make(tmp_path, configure(), 2), OSError("gone")

    def fail(storage: Storage, name: str) -> bool:
        raise failure

    search.suggest("first")
    monkeypatch.setattr(Storage, "exists", fail)
    search.on_trial_complete("first", {"broke_off": "OSError: gone"})
    assert search.gone is failure
    assert search.suggest("second") is None
    assert not search.ended


def test_a_trial_that_fails_is_told_as_a_failure_and_the_search_goes_on(tmp_path: Path) -> None:
    search = make(tmp_path, configure(trials=3), 1)
    task = search.suggest("a")
    search.ledger.write_trial(
        TrialRecord(
            id=task["trial"],
            number=0,
            model="iaan",
            status="failed",
            reason="the loss is not finite",
            hyperparameters=task["hyperparameters"],
            seed=0,
        )
    )
    search.on_trial_complete("a", error=True)
    assert search.suggest("b")["number"] == 1
    assert [t.state for t in search.optuna._ot_study.trials][:1] == [optuna.trial.TrialState.FAIL]


def test_rungs_and_cutoffs_are_ray_tunes_asha_when_trials_come_one_by_one() -> None:
    generator = np.random.default_rng(0)
    search = configure(grace_epochs=2, reduction_factor=3).search
    ray_asha = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=EPOCHS,
        grace_period=2,
        reduction_factor=3,
    )
    ended: list[tuple[list[float], bool]] = []
    stopped = 0
    for number in range(60):
        curve = np.maximum.accumulate(generator.random(EPOCHS) * generator.random()).tolist()
        trial = Trial("none", stub=True, trial_id=str(number))
        ray_asha.on_trial_add(None, trial)
        limits = cutoffs(ended, rungs(search, EPOCHS), search.reduction_factor)
        for epoch in range(1, EPOCHS + 1):
            score = curve[epoch - 1]
            decision = ray_asha.on_trial_result(None, trial, {"epoch": epoch, "score": score})
            ours = score < limits.get(epoch, -1)
            if epoch < EPOCHS:
                assert (decision == TrialScheduler.STOP) == ours
            if ours:
                stopped += 1
                break
        ended.append((curve[:epoch], ours))
    assert rungs(search, EPOCHS) == [2, 6]
    assert 20 < stopped < 60


def test_a_trial_that_ended_early_goes_on_with_its_last_score() -> None:
    assert cutoffs([([0.1, 0.8], False)], [2, 6], 3) == {2: 0.8, 6: 0.8}
    assert cutoffs([([0.1, 0.8], True)], [2, 6], 3) == {2: 0.8}
    assert cutoffs([], [2, 6], 3) == {}


def fail(search: Search, task: dict[str, object], reason: str = "the loss is not finite") -> None:
    search.ledger.write_trial(
        TrialRecord(
            id=task["trial"],
            number=task["number"],
            model="iaan",
            status="failed",
            reason=reason,
            hyperparameters=task["hyperparameters"],
            seed=0,
        )
    )


def test_a_sweep_whose_trials_keep_failing_is_ended_with_what_they_share(tmp_path: Path) -> None:
    configuration = configure(trials=10).with_values({"cluster.max_failures": 3})
    search = make(tmp_path, configuration, lag=1)
    fates = ["failed", "failed", "complete", "failed", "failed", "failed"]
    for number, fate in enumerate(fates):
        assert not search.hopeless
        task = search.suggest(str(number))
        fail(search, task) if fate == "failed" else train(search.ledger, task)
        search.on_trial_complete(str(number), None, error=fate == "failed")
    assert search.hopeless
    assert search.suggest("7") == Searcher.FINISHED
    assert [record.number for record in search.failures] == [3, 4, 5]
    told = in_common(search.failures)
    assert "trials 3 to 5 failed" in told
    assert told.endswith("Reasons: the loss is not finite")
    values = [record.hyperparameters["model.dropout"] for record in search.failures]
    assert f"model.dropout from {min(values):.3g} to {max(values):.3g}" in told
    # The same command again says the same, and trains nothing.
    again = make(tmp_path, configuration, lag=1)
    assert again.suggest("0") == Searcher.FINISHED
    assert in_common(again.failures) == told


def test_a_trial_that_still_runs_may_yet_succeed(tmp_path: Path) -> None:
    configuration = configure(trials=10).with_values({"cluster.max_failures": 2})
    search = make(tmp_path, configuration, lag=4)
    tasks = [search.suggest(str(number)) for number in range(4)]
    for number in (0, 2, 3):
        fail(search, tasks[number])
        search.on_trial_complete(str(number), None, error=True)
    assert not search.hopeless  # trial 1 lies between
    train(search.ledger, tasks[1])
    search.on_trial_complete("1", None)
    assert search.hopeless  # 2 and 3
