"""Search spaces: the ones that the package has, their checks, and what Optuna gets from them."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from search_spaces import FOLDER, Space, SpaceError, load_space

SPACES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", SPACES)
def test_every_space_suggests_its_first_point(name: str) -> None:
    space = load_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(space.first)
    trial = study.ask()
    space.suggest(trial)
    assert trial.params == space.first
    assert space.has(trial.params)


@pytest.fixture
def conditional() -> Space:
    """A choice, and a range that is open for one of its values."""
    raw = {
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
    return Space.model_validate(raw)


def test_a_parameter_is_suggested_only_if_it_is_open(conditional: Space) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    kinds = set()
    for _ in range(20):
        trial = study.ask()
        conditional.suggest(trial)
        kinds.add(trial.params["model.regularizer"])
        assert ("model.strength" in trial.params) == (
            trial.params["model.regularizer"] == "penalty"
        )
    assert kinds == {"none", "penalty"}
    assert len(conditional.grid()) == 1 + 3


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        pytest.param({"model.regularizer": "none"}, True, id="closed"),
        pytest.param({"model.regularizer": "penalty", "model.strength": 0.2}, True, id="open"),
        pytest.param({"model.regularizer": "penalty"}, False, id="value is missing"),
        pytest.param(
            {"model.regularizer": "none", "model.strength": 0.2}, False, id="value is closed"
        ),
        pytest.param(
            {"model.regularizer": "penalty", "model.strength": 0.4}, False, id="out of range"
        ),
        pytest.param({"model.regularizer": "none", "model.depth": 1}, False, id="other key"),
    ],
)
def test_a_space_has_a_point(conditional: Space, point: dict[str, object], expected: bool) -> None:
    assert conditional.has(point) == expected


def test_a_range_of_integers_suggests_integers() -> None:
    space = Space.model_validate({"parameters": {"training.batch_size": {"low": 8, "high": 64}}})
    trial = optuna.create_study().ask()
    space.suggest(trial)
    assert isinstance(trial.params["training.batch_size"], int)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"parameters: {a: {low: 1}}", "both `low` and `high`", id="no high"),
        pytest.param(b"parameters: {a: {low: 2, high: 1}}", "`low` at most `high`", id="order"),
        pytest.param(b"parameters: {a: {choices: [1], low: 0}}", "either `choices`", id="both"),
        pytest.param(b"parameters: {a: {}}", "either `choices`", id="neither"),
        pytest.param(b"parameters: {a: {low: 0, high: 1, log: true}}", "`log` needs", id="log"),
        pytest.param(b"parameters: {a: {chioces: [1]}}", r"parameters\.a\.chioces: ", id="typo"),
        pytest.param(b"parameters: {}", "parameters: ", id="no parameters"),
        pytest.param(
            b"{first: {b: 1}, parameters: {a: {choices: [1]}}}", "`first` has b", id="first key"
        ),
        pytest.param(
            b"{first: {a: 2}, parameters: {a: {choices: [1]}}}", "`first` has a: 2", id="choice"
        ),
        pytest.param(
            b"{first: {a: 2.5}, parameters: {a: {low: 0.0, high: 1.0}}}",
            r"`first` has a: 2\.5, which `parameters` do not allow",
            id="range",
        ),
        pytest.param(
            b"{first: {b: 1}, parameters: {a: {choices: [x]}, b: {choices: [1], when: {a: [x]}}}}",
            "`first` has b, but its `when` does not hold",
            id="closed",
        ),
        pytest.param(b"- 1", "the file: .* dictionary", id="list"),
        pytest.param(b"", "the file: .* dictionary", id="empty"),
        pytest.param(b"a: [", "not readable as YAML", id="YAML"),
        pytest.param(b"a: 2001-99-99", "line 1: YAML reads 2001-99-99 as a date", id="date"),
        pytest.param(b"a: \xff", "not readable as YAML", id="UTF-8"),
        pytest.param(b"a: !!python/name:os.system", "not readable as YAML", id="code"),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    with pytest.raises(SpaceError, match=rf"space\.yaml: .*{message}"):
        load_space(str(path))


def test_corners_open_the_parameter() -> None:
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
    assert space.extremes() == [{"kind": "none"}, {"kind": "penalty", "weight": 0.5, "shape": 1}]
    raw["parameters"]["weight"]["when"] = {"kind": ["other"]}
    with pytest.raises(SpaceError, match=r"weight: `when` needs kind in \['other'\]"):
        Space.model_validate(raw).corners("weight")
    raw["parameters"]["weight"]["when"] = {"shape": [1]}
    with pytest.raises(SpaceError, match="weight: `when` names shape, which is not an earlier"):
        Space.model_validate(raw).corners("weight")


@pytest.mark.parametrize("name", ["iaann", ".", "/dev/null/x", "x" * 5000], ids=lambda n: n[:12])
def test_an_unknown_name_is_an_error_with_the_known_names(name: str) -> None:
    with pytest.raises(SpaceError, match=r"no space .*; known: .*iaan"):
        load_space(name)


def test_a_range_without_steps_has_no_grid() -> None:
    with pytest.raises(SpaceError, match=r"model\.dropout: a grid needs"):
        Space.model_validate({"parameters": {"model.dropout": {"low": 0.0, "high": 1.0}}}).grid()


def test_the_points_of_a_section_leave_the_other_sections_out() -> None:
    space = Space.model_validate(
        {
            "parameters": {
                "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
                "model.kind": {"choices": ["a", "b"]},
                "features.name": {"choices": ["x", "y"]},
                "features.layer": {"low": 1, "high": 2, "when": {"features.name": ["y"]}},
                "features.normalize": {"choices": ["train"], "when": {"model.kind": ["b"]}},
            }
        }
    )
    x, y1, y2 = {"name": "x"}, {"name": "y", "layer": 1}, {"name": "y", "layer": 2}
    expected = [each | more for more in ({}, {"normalize": "train"}) for each in (x, y1, y2)]
    points = space.points_of("features")
    assert points == [{f"features.{k}": v for k, v in point.items()} for point in expected]
    assert space.points_of("corpus") == [{}]
    with pytest.raises(SpaceError, match=r"learning_rate: a grid needs"):
        space.points_of("training")


def test_importing_search_spaces_does_not_import_torch() -> None:
    program = "import sys, search_spaces; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
