"""From a YAML file to a checked configuration."""

import copy
import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, create_model

from orchestrator.config import registry
from orchestrator.config.sections import (
    FOLDS,
    Configuration,
    CorpusConfig,
    Extraction,
    FoldsConfig,
    GradientTraining,
    ModelConfig,
    TrainingConfig,
)
from orchestrator.errors import ConfigError
from search_spaces.plain_yaml import UNREADABLE, SurpriseError, load_yaml

TEXTS = (
    ("corpus",),
    ("name",),
    ("storage",),
    ("search", "space"),
    ("features", "encoder"),
)
"""Keys whose values are text: labels, speakers and paths, which may look like a number."""
SHAPES = {
    "frames": "a sequence of frames",
    "vector": "one vector an utterance",
    "maps": "log-mel maps in segments",
}
"""What each shape of a feature set is, for messages."""
_LISTS = ("corpus.classes", "corpus.only.", "trackers")
"""Keys, and the start of keys, that take a list of names."""


def load(source: str | dict[str, Any], overrides: list[str] | None = None) -> Configuration:
    """Read a YAML file, or take a dictionary, apply `key=value` overrides, and check the result.

    `name` is by default the file's name without its suffix. Raises ConfigError.
    """
    if isinstance(source, dict):
        return parse(_overridden(copy.deepcopy(source), overrides or []))
    raw = with_name(_read(source, overrides or []), source)
    return in_file(source, parse, raw)


def with_name(raw: Any, path: str) -> Any:
    """The plain values of the file at `path`. If they have no `name`, it is the file's stem."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).lstrip("-._")
    if isinstance(raw, dict) and stem:
        raw.setdefault("name", stem)
    return raw


def load_corpus(path: str, overrides: list[str] | None = None) -> CorpusConfig:
    """The corpus section of a YAML file; the other sections are not looked at."""
    raw = _read(path, overrides or [])
    if not isinstance(raw, dict) or "corpus" not in raw:
        raise ConfigError(f"{path}: corpus: this section is required")
    return in_file(path, corpus_section, raw["corpus"])


def load_folds(path: str, overrides: list[str] | None = None) -> FoldsConfig | None:
    """The folds of a YAML file; None if it has no section `folds`, and no model that trains."""
    raw = _read(path, overrides or [])
    if not isinstance(raw, dict) or not raw.keys() & {"folds", "model"}:
        return None
    return in_file(path, _folds_section, raw)


def load_normalize(path: str, overrides: list[str] | None = None) -> str | None:
    """The value of `features.normalize` in a YAML file; None if the file does not set it."""
    raw = _read(path, overrides or [])
    features = raw.get("features") if isinstance(raw, dict) else None
    value = features.get("normalize") if isinstance(features, dict) else None
    return value if isinstance(value, str) else None


def load_extraction(path: str, overrides: list[str] | None = None) -> Extraction:
    """The sections of a YAML file that the extraction reads. Raises ConfigError."""
    return in_file(path, _extraction, _read(path, overrides or []))


def _extraction(raw: Any) -> Extraction:
    if not isinstance(raw, dict):
        raise ConfigError(f"a configuration is a mapping of sections, not {type(raw).__name__}")
    registry.allow_named(raw)
    features = feature_set_of(raw, _choice(raw, "model", "name", None))
    options = registry.feature_set(features)
    unread = Configuration.model_fields.keys() - Extraction.model_fields.keys()
    fields: dict[str, Any] = {"features": (options, ...), **dict.fromkeys(unread, (Any, None))}
    kind = create_model(f"extraction of {features}", __base__=Extraction, **fields)
    return validate(kind, {"features": {}, **raw})


def _folds_section(raw: dict[str, Any]) -> FoldsConfig:
    scheme = _choice(raw, "folds", "scheme", "leave_one_session_out")
    folds: FoldsConfig = validate(FOLDS[scheme], raw.get("folds") or {}, "folds")
    return folds


def corpus_section(raw: Any) -> CorpusConfig:
    """Check plain values of the corpus section. Raises ConfigError."""
    registry.allow_named({"corpus": raw})
    return validate(CorpusConfig, raw, "corpus")


def parse(raw: Any) -> Configuration:
    """Check plain values. Raises ConfigError with a line for each key that is wrong.

    The values are a user's own: the code that they name is imported.
    """
    registry.allow_named(raw)
    return parse_stored(raw)


def parse_stored(raw: Any) -> Configuration:
    """As `parse`, for values of a storage: imports only names that `registry.allow` has allowed."""
    if not isinstance(raw, dict):
        raise ConfigError(f"a configuration is a mapping of sections, not {type(raw).__name__}")
    model = _choice(raw, "model", "name", None)
    scheme = _choice(raw, "folds", "scheme", "leave_one_session_out")
    features = feature_set_of(raw, model)
    return validate(configuration_class(model, features, scheme), {"features": {}, **raw})


def feature_set_of(raw: dict[str, Any], model: str) -> str:
    """The feature set of a configuration: by default the model's. Raises ConfigError.

    A set that never has the shape that the model reads is an error.
    """
    entry = registry.model(model)
    name = _choice(raw, "features", "name", entry.features)
    shapes = registry.feature_set(name).shapes
    if entry.reads not in shapes:
        raise ConfigError(wrong_shape(model, name, shapes))
    return name


def wrong_shape(model: str, features: str, shapes: Iterable[str]) -> str:
    """The message for a feature set whose `shapes` do not include the shape that a model reads."""
    from features.sets import FEATURES

    reads = registry.model(model).reads
    fitting = [
        f"{name} (with other options)" if name == features else name
        for name, options in FEATURES.items()
        if reads in options.shapes
    ]
    return (
        f"features.name: {model} reads {SHAPES[reads]}, but {features} has "
        f"{' or '.join(SHAPES[shape] for shape in shapes)}. Sets that fit: {', '.join(fitting)}"
    )


def _choice(raw: dict[str, Any], section: str, key: str, default: str | None) -> str:
    """The value of a key that decides which other keys there are. Raises ConfigError."""
    known = sorted(FOLDS) if section == "folds" else registry.known(section)
    values = raw.get(section)
    if values is None and default is not None:
        return default
    if not isinstance(values, dict) or (default is None and key not in values):
        raise ConfigError(f"{section}.{key}: this key is required; known: {', '.join(known)}")
    value = values.get(key, default)
    if isinstance(value, str) and section in ("model", "features"):
        registry.entry(section, value)
    elif not isinstance(value, str) or value not in known:
        kind = {"model": "model", "features": "feature set"}.get(section, key)
        raise ConfigError(f"{section}.{key}: no {kind} {value}; known: {', '.join(known)}")
    return value


@functools.cache
def configuration_class(name: str, features: str, scheme: str) -> type[Configuration]:
    """The class of configurations with one model, one feature set and one scheme of folds."""
    model = registry.model(name)
    keys: dict[str, Any] = {
        key: (parameter.annotation, parameter.default)
        for key, parameter in model.hyperparameters().items()
    }
    keys["name"] = (Literal[name], _with_default(ModelConfig, "name", name))
    changed: dict[str, Any] = {}
    for key, value in model.training.items():
        annotation = GradientTraining.model_fields[key].annotation
        changed[key] = (annotation, _with_default(GradientTraining, key, value))
    training = (
        TrainingConfig
        if model.fitted
        else create_model(f"training of {name}", __base__=GradientTraining, **changed)
    )
    return create_model(
        f"configuration of {name}",
        __base__=Configuration,
        model=(create_model(f"{name} model", __base__=ModelConfig, **keys), ...),
        features=(registry.feature_set(features), ...),
        training=(training, training()),
        folds=(FOLDS[scheme], FOLDS[scheme].model_validate({})),
    )


def _with_default(section: type[BaseModel], key: str, default: Any) -> Any:
    """A section's field, with its bounds and its role, and another default."""
    field = copy.copy(section.model_fields[key])
    field.default = default
    return field


def set_values(raw: dict[str, Any], values: dict[str, Any]) -> None:
    """Set dotted keys in the plain values of sections.

    Another `features.name` selects a set with other options: they have the set's defaults, except
    for `max_errors`, which is a limit of the run.
    """
    features = raw["features"]
    name = values.get("features.name", features["name"])
    if name != features["name"]:
        raw["features"] = {"name": name, "max_errors": features["max_errors"]}
    for key, value in values.items():
        set_key(raw, key, value)


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.c` in nested dicts; missing dicts are made."""
    *path, last = key.split(".")
    for part in path:
        inner = raw.get(part)
        if inner is None:
            inner = raw[part] = {}
        elif not isinstance(inner, dict):
            raise ConfigError(f"{key}: {part} is a value, not a section")
        raw = inner
    raw[last] = value


def _read(path: str, overrides: list[str]) -> Any:
    """The plain values of a YAML file, with overrides. Raises ConfigError."""
    return _overridden(read_yaml(path, TEXTS), overrides)


def read_yaml(path: str, as_written: Iterable[tuple[str, ...]]) -> Any:
    """The plain values of a YAML file, as `load_yaml` reads them. Raises ConfigError."""
    try:
        return load_yaml(Path(path).read_text(encoding="utf-8"), as_written)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except SurpriseError as error:
        raise ConfigError(f"{path}: {error}") from None
    except UNREADABLE as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML: {problem}") from None


def _overridden(raw: Any, overrides: list[str]) -> Any:
    """`raw` with `key=value` overrides. Raises ConfigError."""
    for override in overrides:
        key, text = split_override(override)
        if not isinstance(raw, dict):
            raise ConfigError("a configuration is a mapping of sections")
        set_key(raw, key, override_value(override, key, text))
    return raw


def split_override(override: str) -> tuple[str, str]:
    """The key and the text of `key=text`. Raises ConfigError."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write key=value, for instance --set a.b=1")
    return key, text


def override_value(override: str, key: str, text: str) -> Any:
    """The plain value of a configuration's key in an override. Raises ConfigError."""
    try:
        return _value(key, text)
    except SurpriseError as error:
        raise ConfigError(f"--set {override}: {error.problem}") from None
    except UNREADABLE:
        raise ConfigError(f"--set {override}: {text!r} is not a YAML value") from None


def _value(key: str, text: str) -> Any:
    """The value of an override. A list of names needs no brackets: `anger,sadness`."""
    path = tuple(key.split("."))
    below = [each[len(path) :] for each in TEXTS if each[: len(path)] == path[: len(each)]]
    value = load_yaml(text, below)
    if isinstance(value, str) and key.startswith(_LISTS) and not text.startswith(('"', "'")):
        return [name for part in value.split(",") if (name := part.strip())]
    return value


def in_file(path: str, check: Any, raw: Any) -> Any:
    """`check(raw)`; each line of its ConfigError names the file."""
    try:
        return check(raw)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).split("\n"))) from None


def validate(kind: type[Any], raw: Any, section: str = "") -> Any:
    """An object of `kind`, which is the class of `section`. Raises ConfigError."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(kind, error, section)) from None


def _explain(kind: type[BaseModel], error: ValidationError, section: str) -> str:
    """One line for each key that is wrong."""
    lines = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key = ".".join([section, *location] if section else location)
        message = problem["msg"].removeprefix("Value error, ")
        match problem["type"]:
            case "extra_forbidden":
                allowed = _keys(kind, location[:-1])
                close = difflib.get_close_matches(location[-1], allowed, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(allowed)}"
                lines.append(f"{key}: unknown key; {hint}")
            case "missing":
                lines.append(f"{key}: this key is required")
            case "tuple_type":
                lines.append(f"{key}: must be a list, as in [a, b], not {problem['input']!r}")
            case _ if not location:  # about several keys, which the message names, or all of them
                lines.append(f"{section}: {message}".removeprefix(": "))
            case _:
                value = repr(problem["input"])
                hint = ""
                if problem["type"] in ("string_type", "literal_error"):
                    hint = _READ_BY_YAML.get(value, "")
                lines.append(f"{key}: {message[0].lower()}{message[1:]}, not {value}{hint}")
    return "\n".join(lines)


_READ_BY_YAML = {
    "True": " (YAML reads yes, on and true as True; quote a text, as in 'yes')",
    "False": " (YAML reads no, off and false as False; quote a text, as in 'no')",
    "None": " (YAML reads null, ~ and an empty value as None; quote a text, as in 'null')",
}
"""Values that stand for several texts of a file."""


def _keys(kind: type[BaseModel], location: list[str]) -> list[str]:
    """The keys of the section at `location`."""
    section: Any = kind
    for part in location:
        annotation = section.model_fields[part].annotation
        arguments = [annotation, *getattr(annotation, "__args__", ())]
        section = next(
            (a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)), section
        )
    return list(section.model_fields)
