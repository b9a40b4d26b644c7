"""YAML that would run code, or is not YAML, in configurations and in search spaces."""

from pathlib import Path

import pytest

from orchestrator.config.parsing import load
from orchestrator.errors import ConfigError
from search_spaces import SpaceError, load_space

BAD = {
    "code": "name: !!python/object/apply:os.system ['touch {file}']",
    "object": "name: !!python/object/new:os.system ['touch {file}']",
    "module": "name: !!python/module:antigravity",
    "deep nesting": "[" * 100_000,
    "impossible date": "name: 2001-99-99",
    "not a number": "name: !!int x",
    "list as a key": "? [a]\n: b",
    "NUL": "name: \0",
    "two documents": "a: 1\n---\nb: 2",
    "not closed": "{a: b",
}


@pytest.mark.parametrize("name", BAD)
def test_other_yaml_is_refused_in_one_line_and_runs_nothing(tmp_path: Path, name: str) -> None:
    touched = tmp_path / "touched"
    text = BAD[name].replace("{file}", str(touched))
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml: ") as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
    if name in ("code", "object", "module"):
        with pytest.raises(SpaceError, match=r"bad\.yaml: "):
            load_space(str(path))
    assert not touched.exists()


def test_an_override_runs_nothing(tmp_path: Path) -> None:
    path, touched = tmp_path / "config.yaml", tmp_path / "touched"
    path.write_text("{}")
    value = BAD["code"].removeprefix("name: ").replace("{file}", str(touched))
    with pytest.raises(ConfigError, match="is not a YAML value"):
        load(str(path), [f"name={value}"])
    assert not touched.exists()
