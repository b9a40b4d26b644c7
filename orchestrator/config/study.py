"""From a YAML file to a checked study: several sweeps on the same corpus and folds.

name: mine
base: {corpus: ..., folds: ..., storage: ...}      sections that all sweeps share
sweeps:
  svm: {model: {name: linear_svm}}                 a sweep's own sections, and keys of sections
  iaan: {model: {name: iaan}, search: {space: iaan, trials: 30}}
seeds: [1, 2]                                      optional
audio: false                                       optional: the page plays no utterances
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from orchestrator.config import parsing, registry
from orchestrator.config.sections import Configuration, Section
from orchestrator.errors import ConfigError

_TEXTS = (
    ("name",),
    *(("base", *path) for path in parsing.TEXTS),
    *(("sweeps", "*", *path) for path in parsing.TEXTS),
)
"""Keys whose values are text, as in the file of a single sweep."""
_OF_MODEL = ("features", "model", "training")
"""Sections whose keys depend on the model."""
_SWEEP_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
"""Without a dot: names with a dot are runs with other seeds."""
REPORT = "report"
"""The folder of the study's page, beside the folders of its sweeps."""

Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]


class _StudyFile(Section):
    """The file of a study: plain values of sections, which are not checked yet."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base: dict[str, Any] = Field({})
    sweeps: dict[str, dict[str, Any]] = Field(min_length=1)
    seeds: tuple[Seed, ...] = ()
    audio: bool = True

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed may be named once")
        return seeds


class Study(Section):
    """Several sweeps on the same corpus and folds, in the order of the file.

    sweeps : name -> the sweep's whole configuration, which has this name too
    seeds : the best configuration of each sweep is trained again with these
    audio : whether the page has recordings of a few utterances
    """

    name: str
    sweeps: dict[str, Configuration]
    seeds: tuple[int, ...] = ()
    audio: bool = True

    @property
    def storage(self) -> str:
        """The storage of all sweeps."""
        return next(iter(self.sweeps.values())).storage


def load_study(source: str | dict[str, Any], overrides: list[str] | None = None) -> Study:
    """Read a YAML file, or take a dictionary, apply `key=value` overrides, and check the result.

    The key of an override is a key of the study (`seeds`, `sweeps.iaan.search.trials`), or a key of
    a configuration (`training.epochs`), which it sets in `base` and in every sweep that has it.
    `name` is by default the file's name without its suffix. Raises ConfigError.
    """
    if isinstance(source, dict):
        return parse_study(_overridden(_unshared(source), overrides or []))
    raw = _overridden(_unshared(parsing.read_yaml(source, _TEXTS)), overrides or [])
    study: Study = parsing.in_file(source, parse_study, parsing.with_name(raw, source))
    return study


def _unshared(value: Any) -> Any:
    """A copy in which no two keys share a section, as they do if a YAML file has an alias.

    Raises ConfigError for an alias that contains itself.
    """
    try:
        if isinstance(value, dict):
            return {key: _unshared(item) for key, item in value.items()}
        return [_unshared(item) for item in value] if isinstance(value, list) else value
    except RecursionError:
        raise ConfigError("a study is a mapping of keys, and no value contains itself") from None


def parse_study(raw: Any) -> Study:
    """Check plain values. Raises ConfigError with a line for each key that is wrong."""
    if not isinstance(raw, dict):
        raise ConfigError(f"a study is a mapping of keys, not {type(raw).__name__}")
    file: _StudyFile = parsing.validate(_StudyFile, raw)
    if lines := list(_misplaced(file)) or list(_contradictions(file)):
        raise ConfigError("\n".join(lines))
    study = Study(name=file.name, sweeps=_configurations(file), seeds=file.seeds, audio=file.audio)
    if lines := list(_other_folds(study)):
        raise ConfigError("\n".join(lines))
    return study


def _misplaced(file: _StudyFile) -> Iterator[str]:
    """Names that no sweep may have, and keys that are in the wrong place."""
    for name in file.sweeps:
        if not re.fullmatch(_SWEEP_NAME, name) or name == REPORT:
            yield (
                f"sweeps: {name!r} cannot be the name of a sweep. Use letters, digits, _ and -, "
                f"and not the name {REPORT}"
            )
    for place, sections in _places(file):
        if "name" in sections:
            yield f"{place}.name: the key of a sweep in `sweeps` is its name. Remove this key"
        if "storage" in sections and place != "base":
            yield f"{place}.storage: all sweeps have one storage. Move the key to base"


def _places(file: _StudyFile) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "base", file.base
    for name, sections in file.sweeps.items():
        yield f"sweeps.{name}", sections


def _contradictions(file: _StudyFile) -> Iterator[str]:
    """A line for each key of a sweep that has another value in `base`."""
    for name, sections in file.sweeps.items():
        for key, own, shared in _differing(sections, file.base):
            yield (
                f"sweeps.{name}: {key} is {own!r}, but base has {shared!r}. Remove the key from "
                f"the sweep or from base"
            )


def _differing(own: Any, shared: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted keys that both nested dicts have with different values, and the two values.

    A section without a value (None) in `shared` counts as absent.
    """
    if isinstance(own, dict) and isinstance(shared, dict):
        for name in own:
            if shared.get(name) is not None:
                yield from _differing(own[name], shared[name], f"{key}.{name}".lstrip("."))
    elif own != shared:
        yield key, own, shared


def _configurations(file: _StudyFile) -> dict[str, Configuration]:
    """The configuration of each sweep. Raises ConfigError with the lines of all sweeps."""
    known = {name: _keys_of_model(file, name) for name in file.sweeps}
    configurations: dict[str, Configuration] = {}
    errors: dict[str, ConfigError] = {}
    # Without a known model, it is not known which keys of base a sweep has: such sweeps come first.
    for name in [name for name in known if not known[name]] or known:
        base = copy.deepcopy(file.base)
        for section in _OF_MODEL:
            values = base.get(section)
            if not isinstance(values, dict):
                continue
            # A key that no model has stays, so that the sweeps refuse it.
            others = {key for keys in known.values() for key in keys.get(section, ())}
            for key in (others - known[name].get(section, others)) & values.keys():
                del values[key]
        try:
            configurations[name] = parsing.parse(_merged(base, file.sweeps[name]) | {"name": name})
        except ConfigError as error:
            errors[name] = error
    raise_all(errors, len(file.sweeps))
    return configurations


def raise_all(errors: Mapping[str, ConfigError], sweeps: int) -> None:
    """Raise one ConfigError with the lines of the `errors` of sweeps, if there are any.

    A line that all `sweeps` have is about a section that they share.
    """
    names: dict[str, list[str]] = {}
    for name, error in errors.items():
        for line in str(error).split("\n"):
            names.setdefault(line, []).append(name)
    lines = [
        f"{place}: {line}"
        for line, having in names.items()
        for place in (
            ["all sweeps"] if len(having) == sweeps > 1 else [f"sweeps.{n}" for n in having]
        )
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def _keys_of_model(file: _StudyFile, sweep: str) -> dict[str, set[str]]:
    """Section -> the keys that it has for the sweep's model; empty without a known model."""
    merged = _merged(copy.deepcopy(file.base), file.sweeps[sweep])
    model = merged.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    registry.allow_named(merged)
    if not isinstance(name, str) or not registry.exists("model", name):
        return {}
    features = merged.get("features")
    chosen = features.get("name") if isinstance(features, dict) else None
    if not isinstance(chosen, str) or not registry.exists("features", chosen):
        chosen = registry.model(name).features
    if not registry.exists("features", chosen):
        return {}
    fields = parsing.configuration_class(name, chosen, "leave_one_session_out").model_fields
    sections: dict[str, Any] = {section: fields[section].annotation for section in _OF_MODEL}
    return {section: set(kind.model_fields) for section, kind in sections.items()}


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `own`, at any depth."""
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merged(base[key], value)
        else:
            base[key] = copy.deepcopy(value)
    return base


def _other_folds(study: Study) -> Iterator[str]:
    """A line for each key that gives a sweep other folds than the first sweep."""
    first, *others = study.sweeps
    expected = _folds_of(study.sweeps[first])
    for name in others:
        keys = _folds_of(study.sweeps[name])
        for key in sorted(keys.keys() | expected.keys()):
            if keys.get(key) != expected.get(key):
                yield (
                    f"sweeps.{name}: {key} is {keys.get(key)!r}, but {expected.get(key)!r} in "
                    f"sweeps.{first}. The sweeps of a study have the same folds: move {key} to base"
                )


def _folds_of(configuration: Configuration) -> dict[str, Any]:
    """Every key that decides the folds, and its value."""
    resolved = configuration.resolved()
    return {
        f"{section}.{key}": value
        for section in ("corpus", "folds")
        for key, value in resolved[section].items()
        if key != "note"
    }


def _overridden(raw: Any, overrides: list[str]) -> Any:
    """The plain values of a study with `key=value` overrides. Raises ConfigError."""
    for override in overrides:
        key, text = parsing.split_override(override)
        if not isinstance(raw, dict):
            raise ConfigError("a study is a mapping of keys")
        first, _, rest = key.partition(".")
        if first in ("name", "seeds", "audio"):
            parsing.set_key(raw, key, parsing.override_value(override, key, text))
        elif first == "base":
            parsing.set_key(raw, key, parsing.override_value(override, rest, text))
        elif first == "sweeps":
            name, _, inside = rest.partition(".")
            if name not in (sweeps := _mapping(raw, "sweeps")):
                raise ConfigError(
                    f"--set {override}: the study has no sweep {name!r}; its sweeps: "
                    f"{', '.join(map(str, sweeps))}"
                )
            parsing.set_key(raw, key, parsing.override_value(override, inside, text))
        else:
            value = parsing.override_value(override, key, text)
            parsing.set_key(raw, f"base.{key}", value)
            for sweep in _mapping(raw, "sweeps").values():
                if _has_key(sweep, key):
                    parsing.set_key(sweep, key, copy.deepcopy(value))
    return raw


def _mapping(raw: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping at `key`; empty if the file has something else there."""
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _has_key(sections: Any, key: str) -> bool:
    """Whether nested dicts have the dotted key."""
    for part in key.split("."):
        if not isinstance(sections, dict) or part not in sections:
            return False
        sections = sections[part]
    return True
