"""The roles of the keys, and their documentation in docs/configuration.md."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from features.sets import FEATURES
from orchestrator.config.parsing import parse
from orchestrator.config.sections import (
    FOLDS,
    ClusterConfig,
    Configuration,
    CorpusConfig,
    GradientTraining,
    SearchConfig,
    role,
)
from ser_models import MODELS

RAW: dict[str, Any] = {
    "name": "x",
    "corpus": {"root": "m.csv", "classes": ["a", "b"]},
    "model": {"name": "iaan"},
    "search": {"space": "iaan"},
}


def test_the_keys_that_decide_a_trial() -> None:
    decided = parse(RAW).decided("trial")
    assert decided["corpus"] == {"merge": {}, "classes": ["a", "b"]}
    assert decided["features"].keys() == {"name", "normalize", "pool", "max_frames"}
    assert decided["folds"] == {"scheme": "leave_one_session_out", "selection": "validation"}
    assert "seed" in decided["training"]
    assert "checkpoint_every" not in decided["training"]
    assert decided.keys() == {"corpus", "features", "model", "folds", "training"}


def test_the_keys_that_decide_a_sweep() -> None:
    decided = parse(RAW).decided("sweep")
    assert decided == {
        "corpus": {"name": "manifest", "only": {}},
        "search": {
            "sampler": "tpe",
            "scheduler": "asha",
            "grace_epochs": 5,
            "reduction_factor": 3,
            "lag": None,
        },
        "name": "x",
    }


def test_every_key_of_a_configuration_has_one_role() -> None:
    configuration = parse(RAW)
    parts = [configuration.decided(decides) for decides in ("trial", "sweep", "nothing")]
    keys = [
        (section, key)
        for part in parts
        for section, value in part.items()
        for key in (value if isinstance(value, dict) else [""])
    ]
    assert len(keys) == len(set(keys))
    resolved = configuration.resolved()
    assert {section for section, _ in keys} == resolved.keys()


@pytest.mark.parametrize("name", MODELS)
def test_hyperparameters_of_every_model_can_be_searched_and_its_name_cannot(name: str) -> None:
    section = type(parse(RAW | {"model": {"name": name}, "search": None}).model)
    searchable = {key for key in section.model_fields if role(section, key).searchable}
    assert searchable == MODELS[name].hyperparameters().keys()


PAGE = (Path(__file__).parents[3] / "docs/configuration.md").read_text(encoding="utf-8")


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    yield "corpus", CorpusConfig
    yield "training", GradientTraining
    yield "search", SearchConfig
    yield "cluster", ClusterConfig
    yield from FEATURES.items()
    yield from FOLDS.items()


KEYS = [
    pytest.param(section, key, id=f"{name}.{key}")
    for name, section in _sections()
    for key in section.model_fields
] + [pytest.param(Configuration, key, id=key) for key in ("storage", "trackers", "name")]


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_a_key_is_documented_with_its_role(section: type[BaseModel], key: str) -> None:
    """A row of the page: `key`, default, may be searched, may change, meaning."""
    rows = re.findall(rf"^\| `{key}` \| ([^|]+) \| (yes|no) \| (yes|no) \| (.+) \|$", PAGE, re.M)
    assert rows, f"docs/configuration.md has no row for {key}"
    decides, searchable = role(section, key)
    wanted = ("yes" if searchable else "no", "yes" if decides == "nothing" else "no")
    assert wanted in [row[1:3] for row in rows]
    default = section.model_fields[key].get_default()
    if isinstance(default, int | float | str) and key != "scheme":  # the scheme is the class
        texts = {str(default), json.dumps(default)}
        assert any(text in row[0] for row in rows for text in texts)
