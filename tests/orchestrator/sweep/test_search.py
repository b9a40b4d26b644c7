"""Proposals and pruning depend on the seed and on results, and not on the order of events."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pytest
from ray.tune.search import Searcher

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.ledger.seals import canonical_json, parquet_bytes, sha256
from orchestrator.sweep.pruning import why_pruned
from orchestrator.sweep.search import Search, default_lag, failure_message
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


def configure(**search: Any) -> Configuration:
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
    def resolve(chosen: dict[str, Any]) -> tuple[Configuration, str]:
        return configuration.with_values(chosen), sha256(canonical_json(chosen))[:10]

    ledger = Ledger(Storage.open(str(folder)))
    return Search(space, configuration, ledger, lag, resolve)


def train(ledger: Ledger, task: dict[str, Any]) -> None:
    """Write the record of a trial whose curve depends only on its hyperparameters and cutoffs."""
    chosen = task["hyperparameters"]
    best = 0.9 - (chosen["model.dropout"] - 0.4) ** 2 - 3.0 / chosen["model.hidden_size"]
    curve: list[float] = []
    pruned = False
    while len(curve) < EPOCHS and not pruned:
        curve.append(best * (1 - 0.7 ** (len(curve) + 1)))
        pruned = len(curve) < EPOCHS and why_pruned(curve, task["cutoffs"]) is not None
    status = "pruned" if pruned else "complete"
    if task["configuration"]["search"]["scheduler"] == "paired":
        write_folds(ledger, task, curve)
    write(ledger, task, status=status, score=curve[-1], curve=curve)


def write_folds(ledger: Ledger, task: dict[str, Any], curve: list[float]) -> None:
    """Write the scores of three folds whose mean is the curve."""
    tilt = task["hyperparameters"]["model.dropout"] / 10
    rows = [
        {"fold": str(fold), "epoch": epoch, "split": split, "selected": epoch == len(curve)}
        | {"loss": 1.0, "ua": score + tilt * (fold - 1) - (split == "train"), "wa": 0.5}
        for fold in range(3)
        for epoch, score in enumerate(curve, start=1)
        for split in ("train", "validation")
    ]
    table = parquet_bytes(pa.Table.from_pylist(rows))
    ledger.trial_storage(task["trial"]).write("folds.parquet", table)


def fail(ledger: Ledger, task: dict[str, Any]) -> None:
    """Write the record of a failed trial."""
    write(ledger, task, status="failed", reason="the loss is not finite")


def write(ledger: Ledger, task: dict[str, Any], **fields: Any) -> None:
    ledger.write_trial(
        TrialRecord(
            id=task["trial"],
            number=task["number"],
            model="iaan",
            hyperparameters=task["hyperparameters"],
            seed=0,
            **fields,
        )
    )


def drive(search: Search, seed: int = 0, stop_after: int | None = None) -> list[dict[str, Any]]:
    """Do what Tune does; trials finish in random order. Return the trials that were started.

    stop_after : return after so many trials were started, as if the driver had been killed
    """
    generator = np.random.default_rng(seed)
    running: dict[str, dict[str, Any]] = {}
    started: list[dict[str, Any]] = []
    while True:
        name = f"tune-{len(started)}-{generator.integers(10**9)}"
        proposal = search.suggest(name)
        assert len(running) <= search.concurrent
        if proposal == Searcher.FINISHED and not running:
            return started
        if isinstance(proposal, dict):
            running[name] = proposal
            started.append(proposal)
        elif running:
            finished = sorted(running)[generator.integers(len(running))]
            train(search.ledger, running.pop(finished))
            search.on_trial_complete(finished, {"score": 0.0})  # Tune's result does not count
            if stop_after is not None and len(started) >= stop_after:
                return started


def state(folder: Path) -> dict[str, Any]:
    """Proposals and records of a search."""
    ledger = Ledger(Storage.open(str(folder)))
    return {
        "proposals": ledger.proposals(),
        "records": {r.id: (r.number, r.status, r.curve) for r in ledger.trials()},
    }


@pytest.mark.parametrize(
    ("sampler", "scheduler", "lag"),
    [
        ("tpe", "asha", 1),
        ("tpe", "asha", 4),
        ("random", "asha", 1),
        ("random", "asha", 4),
        ("tpe", "paired", 4),
    ],
)
def test_the_order_in_which_trials_finish_changes_nothing(
    tmp_path: Path, sampler: str, scheduler: str, lag: int
) -> None:
    configuration = configure(sampler=sampler, scheduler=scheduler)
    for seed in range(4):
        drive(make(tmp_path / str(seed), configuration, lag), seed)
    narrow = make(tmp_path / "narrow", configuration, lag)
    narrow.concurrent = 2  # a smaller cluster
    assert len(drive(narrow, 9)) == 14
    expected = state(tmp_path / "0")
    assert len(expected["proposals"]) == 14
    assert any(status == "pruned" for _, status, _ in expected["records"].values())
    for other in ("1", "2", "3", "narrow"):
        assert state(tmp_path / other) == expected


def test_the_order_changes_nothing_if_the_lag_is_larger_than_the_number_of_slots(
    tmp_path: Path,
) -> None:
    """Proposals depend on the lag, and not on the slots."""
    configuration = configure(trials=24)
    states = []
    for slots in (1, 3, 7):
        search = make(tmp_path / str(slots), configuration, 7)
        search.concurrent = slots
        assert len(drive(search, slots)) == 24
        states.append(state(tmp_path / str(slots)))
    assert states[0] == states[1] == states[2]
    drive(make(tmp_path / "other", configuration, 3))
    assert state(tmp_path / "other") != states[0]


def test_a_slow_trial_stops_only_its_own_slot_if_the_lag_is_larger_than_the_slots(
    tmp_path: Path,
) -> None:
    """With two slots and a lag of 5, four trials run beside the first; with a lag of 2, one."""
    for lag, beside in ((5, 4), (2, 1)):
        search = make(tmp_path / str(lag), configure(), lag)
        search.concurrent = 2
        assert search.suggest("slow")["number"] == 0
        for number in range(1, beside + 1):
            train(search.ledger, search.suggest(str(number)))
            search.on_trial_complete(str(number))
        assert search.suggest("next") is None
        assert list(search.running) == ["slow"]


@pytest.mark.parametrize(
    ("slots", "trials", "lag"),
    [
        pytest.param(1, 50, 1, id="one slot waits for every result"),
        pytest.param(2, 8, 2, id="the demo"),
        pytest.param(2, 40, 3, id="two slots"),
        pytest.param(8, 100, 16, id="eight slots"),
        pytest.param(256, 1000, 574, id="many slots"),
        pytest.param(256, 100, 57, id="more slots than the search can use"),
        pytest.param(8, 1, 2, id="a single trial"),
    ],
)
def test_the_default_lag(slots: int, trials: int, lag: int) -> None:
    assert default_lag(slots, trials) == lag


@pytest.mark.parametrize("scheduler", ["asha", "paired"])
def test_a_search_that_is_killed_again_and_again_ends_as_one_without_a_kill(
    tmp_path: Path, scheduler: str
) -> None:
    configuration = configure(scheduler=scheduler)
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
    assert seed > 3  # the search was killed several times
    assert state(tmp_path / "killed") == state(tmp_path / "straight")


def test_finished_trials_are_not_started_again(tmp_path: Path) -> None:
    configuration = configure()
    drive(make(tmp_path, configuration, 2), stop_after=5)
    finished = {record.id for record in Ledger(Storage.open(str(tmp_path))).trials()}
    again = drive(make(tmp_path, configuration, 2))
    assert finished
    assert not {task["trial"] for task in again} & finished
    assert drive(make(tmp_path, configuration, 2)) == []


def test_a_larger_number_of_trials_extends_a_finished_search(tmp_path: Path) -> None:
    drive(make(tmp_path / "a", configure(trials=6), 2))
    drive(make(tmp_path / "a", configure(trials=14), 2))
    drive(make(tmp_path / "b", configure(trials=14), 2))
    assert state(tmp_path / "a") == state(tmp_path / "b")


def test_the_first_point_comes_first_and_another_seed_makes_other_proposals(
    tmp_path: Path,
) -> None:
    configuration = configure(trials=4, sampler="random")
    drive(make(tmp_path / "a", configuration, 1))
    drive(make(tmp_path / "b", configuration.with_values({"training.seed": 1}), 1))
    first, second = (state(tmp_path / name)["proposals"] for name in "ab")
    assert first[0].hyperparameters == second[0].hyperparameters == SPACE.first
    assert first[1:] != second[1:]


def test_tpe_finds_better_than_random(tmp_path: Path) -> None:
    """Optuna receives the results: over seeds, TPE's later proposals beat random ones."""
    late: dict[str, list[float]] = {"tpe": [], "random": []}
    for sampler, means in late.items():
        for seed in range(6):
            folder = tmp_path / f"{sampler}{seed}"
            configuration = configure(trials=30, sampler=sampler, scheduler="none")
            search = make(folder, configuration.with_values({"training.seed": seed}), 1)
            drive(search)
            scores = [record.score for record in Ledger(Storage.open(str(folder))).trials()]
            means.append(float(np.mean(scores[20:])))
    assert np.mean(late["tpe"]) > np.mean(late["random"]) + 0.02


def test_a_grid_has_every_point_once_and_starts_with_the_first_point(tmp_path: Path) -> None:
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


def test_a_configuration_that_is_proposed_twice_is_trained_once(tmp_path: Path) -> None:
    space = Space.model_validate({"parameters": {"model.dropout": {"choices": [0.1, 0.2]}}})
    search = make(tmp_path, configure(trials=8, sampler="random", scheduler="none"), 4, space)
    names = {0.1: "1" * 10, 0.2: "2" * 10}

    def resolve(chosen: dict[str, Any]) -> tuple[Configuration, str]:
        return configure().with_values(chosen), names[chosen["model.dropout"]]

    search.resolve = resolve
    started = []
    running: list[tuple[str, dict[str, Any]]] = []
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
    assert len(search.ledger.proposals()) == 8


def test_an_interrupted_trial_changes_no_result(tmp_path: Path) -> None:
    """The trial left no record: the search makes no proposal that depends on its result."""
    configuration = configure(trials=6)
    drive(make(tmp_path / "straight", configuration, 2))
    search = make(tmp_path / "broken", configuration, 2)
    tasks = [search.suggest("a"), search.suggest("b")]
    train(search.ledger, tasks[1])
    search.on_trial_complete("b")
    search.on_trial_complete("a", error=True)
    assert search.finished[0] is None
    assert search.suggest("c") == Searcher.FINISHED
    assert not search.done
    again = make(tmp_path / "broken", configuration, 2)
    assert again.suggest("d") == tasks[0]
    drive(make(tmp_path / "broken", configuration, 2))
    assert state(tmp_path / "broken") == state(tmp_path / "straight")


def test_no_trial_is_started_after_the_storage_has_failed(tmp_path: Path) -> None:
    """Tune would take an error that is raised at a trial's end for a failure of that trial."""
    search = make(tmp_path, configure(), 2)
    trial = search.suggest("first")["trial"]
    (tmp_path / "trials" / trial / "trial.json").mkdir(parents=True)  # cannot be read
    search.on_trial_complete("first", {"interrupted": "OSError: disk"})
    assert isinstance(search.storage_error, OSError)
    assert search.suggest("second") is None
    assert not search.finished


def test_optuna_receives_a_failure_and_the_search_continues(tmp_path: Path) -> None:
    search = make(tmp_path, configure(trials=3), 1)
    fail(search.ledger, search.suggest("a"))
    search.on_trial_complete("a", error=True)
    assert search.suggest("b")["number"] == 1
    assert [t.state for t in search.optuna._ot_study.trials][:1] == [optuna.trial.TrialState.FAIL]


def test_a_search_whose_trials_fail_in_a_row_ends_with_what_they_have_in_common(
    tmp_path: Path,
) -> None:
    configuration = configure(trials=10).with_values({"cluster.max_failures": 3})
    search = make(tmp_path, configuration, lag=1)
    for number, end in enumerate([fail, fail, train, fail, fail, fail]):
        assert not search.hopeless
        end(search.ledger, search.suggest(str(number)))
        search.on_trial_complete(str(number), None, error=end is fail)
    assert search.hopeless
    assert search.suggest("7") == Searcher.FINISHED
    assert [record.number for record in search.failures] == [3, 4, 5]
    message = failure_message(search.failures)
    assert "trials 3 to 5 failed" in message
    assert message.endswith("Reasons: the loss is not finite")
    values = [record.hyperparameters["model.dropout"] for record in search.failures]
    assert f"model.dropout from {min(values):.3g} to {max(values):.3g}" in message
    # The same command trains nothing, and ends with the same message.
    again = make(tmp_path, configuration, lag=1)
    assert again.suggest("0") == Searcher.FINISHED
    assert failure_message(again.failures) == message


def test_an_unfinished_trial_between_failures_may_still_succeed(tmp_path: Path) -> None:
    configuration = configure(trials=10).with_values({"cluster.max_failures": 2})
    search = make(tmp_path, configuration, lag=4)
    tasks = [search.suggest(str(number)) for number in range(4)]
    for number in (0, 2, 3):
        fail(search.ledger, tasks[number])
        search.on_trial_complete(str(number), None, error=True)
    assert not search.hopeless  # trial 1 runs between them
    train(search.ledger, tasks[1])
    search.on_trial_complete("1", None)
    assert search.hopeless  # trials 2 and 3 failed in a row
