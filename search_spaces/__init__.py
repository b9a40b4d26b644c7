"""Search spaces: one YAML file for each model, or a YAML file of your own.

    first: {training.learning_rate: 1.0e-4, ...}      the first trial: the published setting
    parameters:
      training.learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}
      model.hidden_size: {choices: [64, 128, 256, 512]}
      model.regularizer_weight: {low: 0.1, high: 1.0, when: {model.regularizer: [penalty]}}

Keys are dotted configuration keys. If both ends of a range are integers, so are its values. `step`
makes a range countable. With `when`, a parameter is open only if an earlier parameter has one of
the listed values.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from search_spaces.plain_yaml import UNREADABLE, SurpriseError, load_yaml

FOLDER = Path(__file__).parent


class SpaceError(ValueError):
    """A search space that does not exist or is not valid."""


class Parameter(BaseModel):
    """One dimension of a space: `choices`, or a range from `low` to `high`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    choices: tuple[bool | int | float | str, ...] = ()
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = Field(None, gt=0)
    log: bool = False
    when: dict[str, list[Any]] = {}

    @model_validator(mode="after")
    def _check(self) -> "Parameter":
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError("give either `choices`, or `low` and `high`")
        if not self.choices:
            if self.low is None or self.high is None or self.low > self.high:
                raise ValueError("give both `low` and `high`, with `low` at most `high`")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError("`log` needs a `low` above 0, and no `step`")
        return self

    @property
    def _ends(self) -> tuple[int | float, int | float]:
        """The first and the last value of a range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    @property
    def _integer(self) -> bool:
        """Whether the values of a range are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def suggest(self, trial: Any, name: str) -> Any:
        """The value that an Optuna trial suggests."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if self._integer:
            return trial.suggest_int(name, *self._ends, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, *self._ends, step=self.step, log=self.log)

    def allows(self, value: Any) -> bool:
        """Whether the parameter can have this value."""
        if self.choices:
            return value in self.choices
        low, high = self._ends
        return isinstance(value, int | float) and low <= value <= high

    def samples(self) -> list[Any]:
        """Values that show whether a configuration key accepts the parameter.

        All choices; or both ends of a range and a value between them. The value between detects a
        key that accepts only integers or even numbers.
        """
        if self.choices:
            return list(self.choices)
        low, high = self._ends
        step = self.step or (1 if self._integer else (high - low) * 0.371)
        return [low, min(low + step, high), high]

    def values(self, name: str) -> list[Any]:
        """All values, for a grid. Raises SpaceError for a range that cannot be counted."""
        if self.choices:
            return list(self.choices)
        low, high = self._ends
        step = self.step or (1 if self._integer and not self.log else None)
        if step is None:
            raise SpaceError(f"{name}: a grid needs `choices` or a `step`")
        count = int((high - low) / step + 1e-9) + 1
        return [low + i * step for i in range(count)]


class Space(BaseModel):
    """A search space: its first point, and its parameters in the order of proposal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: dict[str, Any] = {}
    parameters: dict[str, Parameter] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_first(self) -> "Space":
        for name, value in self.first.items():
            if name not in self.parameters or not self.parameters[name].allows(value):
                raise ValueError(f"`first` has {name}: {value!r}, which `parameters` do not allow")
            if not self._open(self.parameters[name], self.first):
                raise ValueError(f"`first` has {name}, but its `when` does not hold")
        return self

    def _open(self, parameter: Parameter, point: dict[str, Any]) -> bool:
        return all(point.get(key) in values for key, values in parameter.when.items())

    def _point(self, value: Callable[[str], Any]) -> dict[str, Any]:
        """The point with the `value` of each open parameter, by name and in order."""
        point: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if self._open(parameter, point):
                point[name] = value(name)
        return point

    def suggest(self, trial: Any) -> None:
        """Define the space for an Optuna trial."""
        self._point(lambda name: self.parameters[name].suggest(trial, name))

    def has(self, point: dict[str, Any]) -> bool:
        """Whether `point` has an allowed value for each open parameter, and no other keys."""
        allowed = all(k in self.parameters and self.parameters[k].allows(point[k]) for k in point)
        return allowed and self._point(point.get) == point

    def corners(self, name: str) -> list[dict[str, Any]]:
        """Points with each of a parameter's `samples`, and values that open the parameter.

        Raises SpaceError if the parameter can never be open.
        """
        opening = self._opening(name)
        return [{**opening, name: value} for value in self.parameters[name].samples()]

    def extremes(self) -> list[dict[str, Any]]:
        """Two points: each open parameter has its first sample, and its last one.

        For ranges, these are the smallest values and the largest values.
        """

        def at(end: int) -> dict[str, Any]:
            return self._point(lambda name: self.parameters[name].samples()[end])

        return [at(0), at(-1)]

    def _opening(self, name: str) -> dict[str, Any]:
        point: dict[str, Any] = {}
        names = list(self.parameters)
        for key, values in self.parameters[name].when.items():
            if key not in names[: names.index(name)]:
                raise SpaceError(f"{name}: `when` names {key}, which is not an earlier parameter")
            allowed = [value for value in values if self.parameters[key].allows(value)]
            if not allowed:
                raise SpaceError(f"{name}: `when` needs {key} in {values}, which it never is")
            point |= {**self._opening(key), key: allowed[0]}
        return point

    def points_of(self, section: str) -> list[dict[str, Any]]:
        """All points of the parameters of one section of a configuration, without other keys.

        A section without parameters has one point, which is empty. Raises SpaceError for a range
        that cannot be counted.
        """
        needed: set[str] = set()
        for name in reversed(self.parameters):
            if name in needed or name.startswith(f"{section}."):
                needed |= {name, *self.parameters[name].when}
        kept = {name: each for name, each in self.parameters.items() if name in needed}
        points: list[dict[str, Any]] = []
        for point in Space.model_construct(first={}, parameters=kept).grid():
            own = {key: value for key, value in point.items() if key.startswith(f"{section}.")}
            if own not in points:
                points.append(own)
        return points

    def grid(self) -> list[dict[str, Any]]:
        """All points, with `first` at the front."""
        points = [self.first] if self.first else []
        for values in itertools.product(*(p.values(n) for n, p in self.parameters.items())):
            point = self._point(dict(zip(self.parameters, values, strict=True)).__getitem__)
            if point not in points:
                points.append(point)
        return points


def load_space(name: str) -> Space:
    """Load the space with this name, or the YAML file with this path. Raises SpaceError."""
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    path = FOLDER / f"{name}.yaml" if name in known else Path(name)
    try:
        return Space.model_validate(load_yaml(path.read_text(encoding="utf-8")))
    except OSError:
        raise SpaceError(f"no space {name}; known: {', '.join(known)}, or a YAML file") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise SpaceError(f"{path}: {key}: {problem['msg'].removeprefix('Value error, ')}") from None
    except SurpriseError as error:
        raise SpaceError(f"{path}: {error}") from None
    except UNREADABLE as error:
        raise SpaceError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
