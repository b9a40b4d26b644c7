"""What a search looks over: one YAML file a model.

    first: {training.learning_rate: 1.0e-4, ...}      tried first: the published setting
    parameters:
      training.learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}
      model.hidden_size: {choices: [64, 128, 256, 512]}
      model.regularizer_weight: {low: 0.1, high: 1.0, when: {model.regularizer: [penalty]}}

Keys are dotted configuration keys. Two integers as bounds search integers, `step` makes a range
countable, `when` opens a parameter only where an earlier one has one of the values.
"""

import itertools
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FOLDER = Path(__file__).parent


class SpaceError(ValueError):
    """A search space that cannot be searched."""


class Parameter(BaseModel):
    """One dimension: `choices`, or a range from `low` to `high`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    choices: tuple[bool | int | float | str, ...] = ()
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = Field(None, gt=0)
    log: bool = False
    when: dict[str, list[Any]] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> "Parameter":
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError("give either `choices`, or `low` and `high`")
        if not self.choices:
            if self.low is None or self.high is None or self.low > self.high:
                raise ValueError("`low` and `high` must both be given, and in that order")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError("`log` needs a `low` above 0, and no `step`")
        return self

    def suggest(self, trial: Any, name: str) -> Any:
        """Ask an Optuna trial for a value."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(
                name, self.low, self.high, step=int(self.step or 1), log=self.log
            )
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether `value` is one that the parameter can take."""
        if self.choices:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        return isinstance(value, int | float) and self.low <= value <= self.high

    def bounds(self) -> list[Any]:
        """Values that show whether the parameter fits its key: every choice, or ends and between.

        The one between is what an integer or even-numbered key refuses of a range made for others.
        """
        if self.choices:
            return list(self.choices)
        assert self.low is not None
        assert self.high is not None
        step = self.step
        if step is None:
            whole = isinstance(self.low, int) and isinstance(self.high, int)
            step = 1 if whole else (self.high - self.low) * 0.371
        return [self.low, min(self.low + step, self.high), self.high]

    def values(self, name: str) -> list[Any]:
        """Every value, for a grid. Raises SpaceError for a range that cannot be counted."""
        if self.choices:
            return list(self.choices)
        assert self.low is not None
        assert self.high is not None
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        step = self.step or (1 if whole and not self.log else None)
        if step is None:
            raise SpaceError(f"{name}: a grid needs `choices` or a `step`")
        count = int((self.high - self.low) / step + 1e-9) + 1
        return [self.low + i * step for i in range(count)]


class Space(BaseModel):
    """A search space: the point to try first, and the parameters in the order they are asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: dict[str, Any] = {}
    parameters: dict[str, Parameter] = Field(min_length=1)

    @model_validator(mode="after")
    def _first_fits(self) -> "Space":
        for name, value in self.first.items():
            if name not in self.parameters or not self.parameters[name].holds(value):
                raise ValueError(f"`first` has {name}: {value!r}, which is not in the space")
            if not self._open(self.parameters[name], self.first):
                raise ValueError(f"`first` has {name}, which its `when` leaves closed")
        return self

    def _open(self, parameter: Parameter, chosen: dict[str, Any]) -> bool:
        return all(chosen.get(key) in values for key, values in parameter.when.items())

    def suggest(self, trial: Any) -> None:
        """Optuna's define-by-run form of the space."""
        chosen: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if self._open(parameter, chosen):
                chosen[name] = parameter.suggest(trial, name)

    def has(self, point: dict[str, Any]) -> bool:
        """Whether `point` is one: a value for each parameter that is open, and no other."""
        opened: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if self._open(parameter, opened):
                if name not in point or not parameter.holds(point[name]):
                    return False
                opened[name] = point[name]
        return opened == point

    def corners(self, name: str) -> list[dict[str, Any]]:
        """Points that show whether a parameter fits: its `bounds`, with what opens it.

        Raises SpaceError where it can never be open.
        """
        opening = self._opening(name)
        return [{**opening, name: value} for value in self.parameters[name].bounds()]

    def _opening(self, name: str) -> dict[str, Any]:
        point: dict[str, Any] = {}
        names = list(self.parameters)
        for key, values in self.parameters[name].when.items():
            if key not in names[: names.index(name)]:
                raise SpaceError(f"{name}: `when` names {key}, which is no earlier parameter")
            held = [value for value in values if self.parameters[key].holds(value)]
            if not held:
                raise SpaceError(f"{name}: {key} is never one of {values}")
            point |= {**self._opening(key), key: held[0]}
        return point

    def grid(self) -> list[dict[str, Any]]:
        """Every point, the one to try first leading."""
        points = [self.first] if self.first else []
        names = list(self.parameters)
        for values in itertools.product(*(p.values(n) for n, p in self.parameters.items())):
            point: dict[str, Any] = {}
            for name, value in zip(names, values, strict=True):
                if self._open(self.parameters[name], point):
                    point[name] = value
            if point not in points:
                points.append(point)
        return points


MOST_CHARACTERS = 50_000
"""Of a space's file. One of nesting without end would break the parser."""


def load_space(name: str) -> Space:
    """The space called `name` here, or in the YAML file at the path `name`.

    Raises SpaceError where there is none, or where it is not one.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    path = FOLDER / f"{name}.yaml" if name in known else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpaceError(f"{path}: not UTF-8 text: {error}") from None
    except (OSError, ValueError):  # the latter of a name with a NUL
        raise SpaceError(f"no space {name}; known: {', '.join(known)}, or a YAML file") from None
    if len(text) > MOST_CHARACTERS:
        raise SpaceError(f"{path}: a search space has at most {MOST_CHARACTERS} characters")
    try:
        # Aliases of aliases are a few lines that stand for any number of values.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise SpaceError(f"{path}: write values out: a space has no YAML aliases")
        raw = yaml.safe_load(text)
    # Dates and numbers that are none are ValueErrors, deep nesting is a RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, SpaceError):
            raise
        raise SpaceError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    try:
        return Space.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise SpaceError(f"{path}: {key}: {problem['msg'].removeprefix('Value error, ')}") from None
