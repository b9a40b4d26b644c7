"""Look up models, feature sets and corpora by the name that a configuration gives.

A name is a built-in name, an entry point of an installed package, or `package.module:attribute`.
A name of the last form runs code, so a user must allow it: by a configuration of the user, or by
`allow`. A name that was only read from a storage is refused.
"""

import functools
import importlib
import importlib.machinery
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from features.manifest import Manifest
    from features.sets import FeatureConfig
    from ser_models import Model

GROUPS = {
    "model": "ser_orchestrator.models",
    "features": "ser_orchestrator.features",
    "corpus": "ser_orchestrator.corpora",
}
"""Section of a configuration -> the group of its entry points."""
PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)
"""The name of code: `package.module:attribute`."""
PACKAGES = ("features", "orchestrator", "search_spaces", "ser_models")
_KINDS = {"model": "model", "features": "feature set", "corpus": "corpus"}
_allowed: set[str] = set()


class NotAllowedError(ConfigError):
    """A storage names code that the user has not allowed."""


def allow(names: Iterable[str]) -> None:
    """Allow to import these names, of the form `package.module:attribute`, in this process."""
    _allowed.update(names)


def allow_named(raw: Any) -> None:
    """Allow the names in the plain values of a configuration that a user gave."""
    for section in GROUPS:
        values = raw.get(section) if isinstance(raw, dict) else None
        name = values.get("name") if isinstance(values, dict) else None
        if isinstance(name, str):
            allow([name])


def is_own(section: str, name: str) -> bool:
    """Whether `name` is not built in."""
    return name not in _built_in(section)


def exists(section: str, name: str) -> bool:
    """Whether a name can be used."""
    try:
        entry(section, name)
    except ConfigError:
        return False
    return True


def model(name: str) -> "Model":
    """The entry of a model. Raises ConfigError."""
    found: Model = entry("model", name)
    return found


def feature_set(name: str) -> "type[FeatureConfig]":
    """The class of a feature set's options. Raises ConfigError."""
    options: type[FeatureConfig] = entry("features", name)
    return options


def corpus(name: str) -> "Callable[[str], Manifest]":
    """The reader of a corpus. Raises ConfigError."""
    reader: Callable[[str], Manifest] = entry("corpus", name)
    return reader


def known(section: str) -> list[str]:
    """The names that need no import path: those that are built in, and entry points."""
    return [*_built_in(section), *_entry_points(section)]


def source_files(section: str, name: str) -> list[Path]:
    """The Python files of an own name: its module, and all other files of the module's package."""
    found = _found(section, name)
    module = sys.modules[found.__module__ if inspect.isclass(found) else _module(section, name)]
    file = Path(module.__file__ or "")
    if "." not in module.__name__ and not hasattr(module, "__path__"):
        return [file]
    top = sys.modules[module.__name__.partition(".")[0]]
    return sorted(path for folder in top.__path__ for path in Path(folder).rglob("*.py"))


def own_modules(names: Iterable[tuple[str, str]]) -> list[str]:
    """The modules of the (section, name) pairs that are not built in, sorted. Imports nothing."""
    return sorted({_module(section, name) for section, name in names if is_own(section, name)})


def _built_in(section: str) -> dict[str, Any]:
    registry: dict[str, Any]
    if section == "model":
        from ser_models import MODELS

        registry = MODELS
    elif section == "features":
        from features.sets import FEATURES

        registry = FEATURES
    else:
        from features.corpora import CORPORA

        registry = CORPORA
    return registry


@functools.cache
def _entry_points(section: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUPS[section])}


def entry(section: str, name: str) -> Any:
    """The entry of a registry: that of `section`. Raises ConfigError."""
    built_in, installed = _built_in(section), _entry_points(section)
    if name in built_in:
        if name in installed:
            raise ConfigError(
                f"{section}.name: {name} is built in, but the entry point "
                f"{installed[name].value} has the same name. Rename the entry point"
            )
        return built_in[name]
    return _checked(section, name, _found(section, name))


def _found(section: str, name: str) -> Any:
    """The object of a name that is not built in. Raises ConfigError."""
    key, point = f"{section}.name", _entry_points(section).get(name)
    if point is None and not PATH.fullmatch(name):
        raise ConfigError(f"{key}: no {_KINDS[section]} {name}; known: {', '.join(known(section))}")
    if point is None and name not in _allowed:
        raise NotAllowedError(
            f"{key}: {name!r} is code that the storage names, and you have not allowed it. If you "
            f"trust it, use --trust {name}, or trust=[{name!r}] in Python"
        )
    path, _, attribute = (point.value if point else name).partition(":")
    found: Any = _imported(key, path)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{key}: the module {path} has no attribute {attribute}")
        found = getattr(found, part)
    return found


def _module(section: str, name: str) -> str:
    point = _entry_points(section).get(name)
    return (point.value if point else name).partition(":")[0]


def _imported(key: str, path: str) -> ModuleType:
    """The module at a dotted path. The current directory is searched last. Raises ConfigError."""
    if path not in sys.modules:
        _search_here(key)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or path
        if path != missing and not path.startswith(f"{missing}."):
            raise ConfigError(f"{key}: the module {path} needs {missing}: {error}") from error
        raise ConfigError(
            f"{key}: no module {path}. Run the command in the folder of {missing}, or install its "
            f"package"
        ) from None
    except Exception as error:  # the module's own code may raise anything
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"{key}: the module {path} cannot be imported: {type(error).__name__}: {line}"
        ) from error


def _search_here(key: str) -> None:
    """Add the current directory to the end of `sys.path`. Ray gives it to local workers.

    Raises ConfigError if a file there has the name of one of our packages: workers search the
    directory first (ray-project/ray#2515).
    """
    here, root = os.getcwd(), Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        spec = importlib.machinery.PathFinder.find_spec(name, [here])
        if spec is None or not spec.origin:
            continue
        if Path(spec.origin).resolve() != root / name / "__init__.py":
            raise ConfigError(
                f"{key}: {spec.origin} has the name of the package {name} of this program. Rename "
                f"the file"
            )
    importlib.invalidate_caches()
    if here not in sys.path:
        sys.path.append(here)


def _checked(section: str, name: str, found: Any) -> Any:
    """`found` as an entry of its registry. Raises ConfigError if it is something else."""
    if section == "model":
        return _model_entry(name, found)
    if section == "features":
        return _feature_entry(name, found)
    if not callable(found) or inspect.isclass(found):
        raise ConfigError(
            f"corpus.name: {name} is a {type(found).__name__}, not a function from a root to a "
            f"Manifest"
        )
    return found


def _model_entry(name: str, found: Any) -> "Model":
    from ser_models import EmotionModel, Model

    if isinstance(found, type) and issubclass(found, EmotionModel):
        found = Model.of(found)
    if not isinstance(found, Model):
        kind = found.__name__ if isinstance(found, type) else type(found).__name__
        raise ConfigError(
            f"model.name: {name} is a {kind}, not a class that derives from EmotionModel, or a "
            f"Model"
        )
    try:
        found.check()
    except ValueError as error:
        raise ConfigError(f"model.name: {name}: {error}") from None
    return found


def _feature_entry(name: str, found: Any) -> "type[FeatureConfig]":
    from features.sets import FeatureConfig

    if not (isinstance(found, type) and issubclass(found, FeatureConfig)):
        kind = found.__name__ if isinstance(found, type) else type(found).__name__
        raise ConfigError(
            f"features.name: {name} is a {kind}, not a class that derives from FeatureConfig"
        )
    return found
