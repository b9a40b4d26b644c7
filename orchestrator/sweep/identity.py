"""The identity of trials, sweeps and code: the values that decide results, and those that do not.

The configuration's fields declare what they decide (`orchestrator.config.sections`).
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.config import registry
from orchestrator.config.sections import Configuration, added_defaults
from orchestrator.data.folds import Fold
from orchestrator.ledger.records import FeatureFiles, SweepRecord
from orchestrator.ledger.seals import canonical_json
from search_spaces import Space

CODE = {
    "features": (
        "features/cache.py",
        "features/sets/*.py",
        "features/shards.py",
        "features/source.py",
        "features/statistics.py",
        "features/store.py",
    ),
    "models": ("ser_models/*.py",),
    "search": (
        "orchestrator/sweep/pruning.py",
        "orchestrator/sweep/sampler.py",
        "orchestrator/sweep/search.py",
        "search_spaces/*.py",
    ),
    "training": (
        "orchestrator/data/dataset.py",
        "orchestrator/metrics.py",
        "orchestrator/sweep/assignment.py",
        "orchestrator/training/*.py",
    ),
}
"""The code that decides the results of trials and the proposals of a search, by its role. Extracted
values, folds and context are not in this list: a trial's id contains their values."""

PACKAGES = ("features", "orchestrator", "search_spaces", "ser_models")


def trial_id(
    configuration: Configuration,
    folds: list[Fold],
    ids: list[str],
    fingerprint: str,
    replicas: int = 1,
) -> str:
    """First 10 hex digits of the SHA-1 of everything that decides a trial's results.

    ids : utterance ids, to which the rows of the folds refer
    fingerprint : of the data (`orchestrator.data.prepare`)
    replicas : workers that train one fold together
    """
    parts = [(fold.name, (fold.train, fold.validation, fold.test)) for fold in folds]
    decided = configuration.decided("trial")
    for name, values in decided.items():
        defaults = _added_defaults(configuration, name)
        decided[name] = {
            key: value
            for key, value in values.items()
            if key not in defaults or value != defaults[key]
        }
    content = {
        **decided,
        "parts": [[name, *([ids[row] for row in part] for part in of)] for name, of in parts],
        "data": fingerprint,
        "replicas": replicas,
    }
    return hashlib.sha1(canonical_json(content)).hexdigest()[:10]


def changes(record: SweepRecord, now: SweepRecord) -> list[str]:
    """Differences between a sweep's record and the record that the same command makes now.

    Only values that may not change under a sweep's name count. A line has a key and both values.
    """
    from orchestrator.config.parsing import parse

    configuration = parse(now.configuration)
    kept = configuration.decided("trial", "sweep")
    before: dict[str, Any] = {name: record.configuration.get(name) for name in kept}
    for name, value in kept.items():
        if isinstance(value, dict) and isinstance(before[name], dict):
            stored = _added_defaults(configuration, name) | before[name]
            before[name] = {key: stored.get(key) for key in value}
    return [
        *differences(before, kept),
        *differences({"data": record.fingerprint}, {"data": now.fingerprint}),
        *differences({"space": record.space}, {"space": now.space}),
        *differences({"replicas": record.replicas}, {"replicas": now.replicas}),
        *differences({"code": record.code}, {"code": now.code}),
        *changed_files(record.feature_files, now.feature_files),
    ]


def changed_files(before: list[FeatureFiles], now: list[FeatureFiles]) -> list[str]:
    """A line for each file or folder of the features whose contents have changed."""
    old, new = ({str(each.files): each for each in files} for files in (before, now))
    return [
        f"the contents of features.{key}={value} have changed"
        for name in old
        if name in new and old[name].contents != new[name].contents
        for key, value in old[name].files.items()
    ]


def _added_defaults(configuration: Configuration, name: str) -> dict[str, Any]:
    """The defaults of the keys of section `name` that are newer than stored trials."""
    section = getattr(configuration, name)
    return added_defaults(type(section)) if isinstance(section, BaseModel) else {}


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """A line for each value that differs between two nested dicts."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for name in sorted(before.keys() | now.keys())
            for line in differences(before.get(name), now.get(name), f"{key}.{name}".lstrip("."))
        ]
    return [] if before == now else [f"{key} was {before!r} and is now {now!r}"]


def code(configuration: Configuration | None = None, space: Space | None = None) -> dict[str, str]:
    """The first 10 hex digits of a digest of the code of each role.

    configuration, space : if they name a model or feature sets that are not built in, the role
        `own` has the digest of their files

    Comments, docstrings, formatting, the texts of error messages, and the file that holds a
    definition do not count. A changed constant or statement does.
    """
    root = Path(__file__).parents[2]
    digests = {
        role: code_digest(
            path.read_text(encoding="utf-8")
            for pattern in patterns
            for path in sorted(root.glob(pattern))
        )
        for role, patterns in CODE.items()
    }
    if configuration is not None and (own := own_code(configuration, space)) is not None:
        digests["own"] = own
    return digests


def own_code(configuration: Configuration, space: Space | None = None) -> str | None:
    """The digest of the files of the models and feature sets of all trials that are not built in.

    None: all are built in.
    """
    searched = space.parameters.get("features.name") if space is not None else None
    features = [configuration.features.name, *(searched.samples() if searched else ())]
    names = [("model", configuration.model.name), *(("features", name) for name in features)]
    own = [name for name in names if registry.is_own(*name)]
    if not own:
        return None
    files = sorted({file for name in own for file in registry.source_files(*name)})
    return code_digest(file.read_text(encoding="utf-8") for file in files)


def code_digest(sources: Iterable[str]) -> str:
    """One digest of the normalised syntax trees of several files, in any order."""
    return _digest(tuple(sources))


@lru_cache(maxsize=16)
def _digest(sources: tuple[str, ...]) -> str:
    """As `code_digest`. A study asks for the digests of the same files for each of its sweeps."""
    trees = (_Normalised().visit(ast.parse(source)) for source in sources)
    statements = sorted(canonical_json(form) for tree in trees for form in _form(tree.body))
    return hashlib.sha1(b"\n".join(statements)).hexdigest()[:10]


def combined(digests: dict[str, str]) -> str:
    """One digest for the digests of all roles: a trial's record names it."""
    return hashlib.sha1(canonical_json(digests)).hexdigest()[:10]


class _Normalised(ast.NodeTransformer):
    """Removes nodes that decide no value: docstrings, imports of our own files, messages."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if is_text else node

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        ours = all(alias.name.split(".")[0] in PACKAGES for alias in node.names)
        return ast.Pass() if ours else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        return ast.Pass() if (node.module or "").split(".")[0] in PACKAGES else node

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        for part in ast.walk(node):
            if isinstance(part, ast.JoinedStr):
                part.values = []
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                part.value = ""
        return node


def _form(node: Any) -> Any:
    """A syntax tree as nested lists, without positions and empty fields.

    `ast.dump` is not used because its text differs between versions of Python.
    """
    if isinstance(node, ast.AST):
        fields = [
            [name, _form(value)]
            for name, value in ast.iter_fields(node)
            if value not in (None, []) and name not in ("ctx", "kind", "type_comment")
        ]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [_form(item) for item in node if not isinstance(item, ast.Pass)]
    return repr(node)
