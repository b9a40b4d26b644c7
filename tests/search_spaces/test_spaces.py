from pathlib import Path

import optuna
import pytest

from search_spaces import FOLDER, Space, SpaceError, load_space

SPACES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", SPACES)
def test_every_space_here_can_be_asked_and_holds_its_first_point(name: str) -> None:
    space = load_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(space.first)
    trial = study.ask()
    space.suggest(trial)
    assert trial.params == space.first  # nothing was out of range, nothing was left out


def test_a_conditional_parameter_is_asked_only_where_it_is_open() -> None:
    space = Space.model_validate(
        {
            "parameters": {
                "model.regularizer": {"choices": ["none", "penalty"]},
                "model.strength": {
                    "low": 0.1,
                    "high": 0.3,
                    "step": 0.1,
                    "when": {"model.regularizer": ["penalty"]},
                },
            }
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    kinds = set()
    for _ in range(20):
        trial = study.ask()
        space.suggest(trial)
        kinds.add(trial.params["model.regularizer"])
        assert ("model.strength" in trial.params) == (
            trial.params["model.regularizer"] == "penalty"
        )
    assert kinds == {"none", "penalty"}
    assert len(space.grid()) == 1 + 3


def test_integers_stay_integers() -> None:
    space = Space.model_validate({"parameters": {"training.batch_size": {"low": 8, "high": 64}}})
    trial = optuna.create_study().ask()
    space.suggest(trial)
    assert isinstance(trial.params["training.batch_size"], int)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("parameters: {a: {low: 1}}", "`low` and `high`"),
        ("parameters: {a: {low: 2, high: 1}}", "in that order"),
        ("parameters: {a: {choices: [1], low: 0}}", "either `choices`"),
        ("parameters: {a: {}}", "either `choices`"),
        ("parameters: {a: {low: 0, high: 1, log: true}}", "`log` needs"),
        ("parameters: {a: {chioces: [1]}}", "parameters.a.chioces"),
        ("parameters: {}", "parameters"),
        ("{first: {b: 1}, parameters: {a: {choices: [1]}}}", "`first` has b"),
        ("{first: {a: 2}, parameters: {a: {choices: [1]}}}", "`first` has a: 2"),
        ("{first: {a: 2.5}, parameters: {a: {low: 0.0, high: 1.0}}}", r"`first` has a: 2\.5"),
        (
            "{first: {b: 1}, parameters: {a: {choices: [x, y]}, "
            "b: {choices: [1], when: {a: [x]}}}}",
            "`first` has b, which its `when` leaves closed",
        ),
        ("- 1", "mapping|dictionary"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(SpaceError, match=message):
        load_space(str(path))


def test_corners_open_what_a_parameter_depends_on() -> None:
    raw = {
        "parameters": {
            "kind": {"choices": ["none", "penalty"]},
            "weight": {"low": 0.5, "high": 0.5, "when": {"kind": ["penalty", "other"]}},
            "shape": {"choices": [1], "when": {"weight": [0.5]}},
        }
    }
    space = Space.model_validate(raw)
    assert space.corners("kind") == [{"kind": "none"}, {"kind": "penalty"}]
    assert {"kind": "penalty", "weight": 0.5} in space.corners("weight")
    assert space.corners("shape") == [{"kind": "penalty", "weight": 0.5, "shape": 1}]
    raw["parameters"]["weight"]["when"] = {"kind": ["other"]}
    with pytest.raises(SpaceError, match=r"weight: kind is never one of \['other'\]"):
        Space.model_validate(raw).corners("weight")
    raw["parameters"]["weight"]["when"] = {"shape": [1]}
    with pytest.raises(SpaceError, match="weight: `when` names shape, which is no earlier"):
        Space.model_validate(raw).corners("weight")


def test_an_unknown_name_and_an_uncountable_grid() -> None:
    with pytest.raises(SpaceError, match=r"no space iaann; known: .*iaan"):
        load_space("iaann")
    with pytest.raises(SpaceError, match=r"model\.dropout: a grid needs"):
        Space.model_validate({"parameters": {"model.dropout": {"low": 0.0, "high": 1.0}}}).grid()
