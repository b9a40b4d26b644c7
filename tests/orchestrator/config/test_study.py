"""Studies from plain values and from files."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from orchestrator.config.parsing import parse
from orchestrator.config.study import load_study
from orchestrator.errors import ConfigError

CORPUS = {"root": "m.csv", "classes": ["a", "b"]}
RAW: dict[str, Any] = {
    "name": "table",
    "base": {
        "corpus": CORPUS,
        "folds": {"scheme": "random_repeated", "folds": 3},
        "training": {"seed": 7, "epochs": 5},
        "search": {"trials": 4},
        "storage": "there",
    },
    "sweeps": {
        "svm": {"model": {"name": "linear_svm"}, "search": {"space": "linear_svm"}},
        "iaan": {
            "model": {"name": "iaan", "hidden_size": 16},
            "training": {"patience": 3},
            "search": {"space": "iaan_small"},
        },
    },
    "seeds": [1, 2],
}


def changed(**keys: Any) -> dict[str, Any]:
    """The study with dotted keys set; `__` stands for the dot."""
    raw = copy.deepcopy(RAW)
    for key, value in keys.items():
        *path, last = key.split("__")
        section = raw
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return raw


def refused(raw: Any, overrides: list[str] | None = None) -> list[str]:
    """The lines with which the study is refused."""
    with pytest.raises(ConfigError) as caught:
        load_study(raw, overrides)
    return str(caught.value).splitlines()


def test_a_sweep_has_the_sections_of_base_and_its_own() -> None:
    study = load_study(RAW)
    assert (study.name, study.seeds, study.storage) == ("table", (1, 2), "there")
    shared = {key: RAW["base"][key] for key in ("corpus", "folds", "storage")}
    assert study.sweeps == {
        "svm": parse(
            shared
            | {
                "name": "svm",
                "model": {"name": "linear_svm"},
                "training": {"seed": 7},
                "search": {"space": "linear_svm", "trials": 4},
            }
        ),
        "iaan": parse(
            shared
            | {
                "name": "iaan",
                "model": {"name": "iaan", "hidden_size": 16},
                "training": {"seed": 7, "epochs": 5, "patience": 3},
                "search": {"space": "iaan_small", "trials": 4},
            }
        ),
    }
    assert list(study.sweeps) == ["svm", "iaan"]
    with pytest.raises(ValidationError, match="frozen"):
        study.name = "other"  # type: ignore[misc]


def test_a_file_gives_its_name_and_is_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "my table.yaml"
    path.write_text(yaml.safe_dump({key: RAW[key] for key in ("base", "sweeps")}))
    study = load_study(str(path), ["base.training.epochs=2"])
    assert (study.name, study.seeds) == ("my-table", ())
    assert study.sweeps["iaan"].training.epochs == 2
    (line,) = refused(str(path), ["seeds=[-1]"])
    assert line.startswith(f"{path}: seeds.0: ")


def test_a_key_of_base_applies_to_the_models_that_have_it() -> None:
    raw = changed(base__features={"pool": 2}, base__model={"dropout": 0.4})
    raw["sweeps"]["crnn"] = {"model": {"name": "acrnn"}, "search": {"space": "acrnn"}}
    sweeps = load_study(raw).sweeps
    assert sweeps["iaan"].features.pool == 2
    assert sweeps["iaan"].model.dropout == sweeps["crnn"].model.dropout == 0.4
    assert sweeps["crnn"].training.epochs == 5
    lines = refused(changed(base__training={"epoch": 5}))
    assert lines[0].startswith("sweeps.svm: training.epoch: unknown key")
    assert lines[1] == "sweeps.iaan: training.epoch: unknown key; did you mean epochs?"
    (line,) = refused(changed(sweeps__svm__training={"epochs": 5}))
    assert line.startswith("sweeps.svm: training.epochs: unknown key")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"sweeps__iaan__training": {"epochs": 9}},
            ["sweeps.iaan: training.epochs is 9, but base has 5. "],
        ),
        (
            {"sweeps__svm__search": None, "sweeps__iaan__corpus": {"merge": {}, "root": "n.csv"}},
            ["sweeps.svm: search is None, but base has {", "sweeps.iaan: corpus.root is 'n.csv', "],
        ),
        (
            {"sweeps__svm__folds": {"seed": 3}},
            ["sweeps.iaan: folds.seed is 0, but 3 in sweeps.svm"],
        ),
        (
            {"sweeps__iaan__corpus": {"only": {"style": ["x"]}}},
            ["sweeps.iaan: corpus.only is {'style': ['x']}, but {} in sweeps.svm. "],
        ),
        ({"sweeps__iaan__storage": "x"}, ["sweeps.iaan.storage: "]),
        ({"sweeps__iaan__name": "x"}, ["sweeps.iaan.name: "]),
        ({"base__name": "x"}, ["base.name: "]),
        ({"sweeps__a.b": RAW["sweeps"]["svm"]}, ["sweeps: 'a.b' cannot be the name of a sweep"]),
        ({"sweeps__report": RAW["sweeps"]["svm"]}, ["sweeps: 'report' cannot be the name"]),
        ({"sweeps__../up": RAW["sweeps"]["svm"]}, ["sweeps: '../up' cannot be the name"]),
        ({"sweeps": {}}, ["sweeps: "]),
        ({"name": "../up"}, ["name: "]),
        ({"seeds": [1, 1]}, ["seeds: each seed may be named once"]),
        ({"seeds": [-1]}, ["seeds.0: "]),
        ({"seeds": 3}, ["seeds: must be a list"]),
        ({"sweep": {}}, ["sweep: unknown key; did you mean sweeps?"]),
        ({"base__corpus": {"root": "m.csv"}}, ["all sweeps: corpus.classes: this key is required"]),
        ({"sweeps__iaan__model": {"name": "iaam"}}, ["sweeps.iaan: model.name: no model iaam"]),
        ({"sweeps__iaan__model": {"name": "iaan", "droput": 1}}, ["sweeps.iaan: model.droput: "]),
        ({"base__stoarge": "x"}, ["all sweeps: stoarge: unknown key; did you mean storage?"]),
    ],
)
def test_a_wrong_value_is_named_in_one_line(keys: dict[str, Any], expected: list[str]) -> None:
    lines = refused(changed(**keys))
    assert len(lines) == len(expected), lines
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start), line


def test_a_key_may_repeat_the_value_of_base_and_a_note_changes_no_fold() -> None:
    study = load_study(changed(sweeps__iaan__corpus={"root": "m.csv", "note": "a caveat"}))
    assert study.sweeps["iaan"].corpus.note == "a caveat"


@pytest.mark.parametrize("raw", [[], None, "a study", 3])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, raw: Any) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    for overrides in ([], ["seeds=[1]"]):
        (line,) = refused(str(path), overrides)
        assert "mapping of keys" in line


def test_overrides_set_keys_of_the_study_of_base_and_of_sweeps() -> None:
    raw = changed()
    raw["sweeps"]["iaan"]["search"]["grace_epochs"] = 2
    study = load_study(
        raw,
        [
            "training.epochs=6",
            "search.grace_epochs=3",
            "sweeps.iaan.search.reduction_factor=4",
            "corpus.classes=b, c",
            "seeds=[9]",
            "name=other",
            "base.storage=0123",
        ],
    )
    assert (study.name, study.seeds, study.storage) == ("other", (9,), "0123")
    svm, iaan = study.sweeps["svm"], study.sweeps["iaan"]
    assert svm.corpus.classes == iaan.corpus.classes == ("b", "c")
    assert iaan.training.epochs == 6
    assert svm.search is not None
    assert iaan.search is not None
    assert (svm.search.grace_epochs, svm.search.reduction_factor) == (3, 3)
    assert (iaan.search.grace_epochs, iaan.search.reduction_factor) == (3, 4)
    assert raw["name"] == "table"  # the dictionary stays as it was


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("sweeps.crnn.training.epochs=1", "--set sweeps.crnn.training.epochs=1: the study has no "),
        ("seeds", "--set seeds: write key=value"),
        ("training.epochs=010", "--set training.epochs=010: YAML reads 010 as 8"),
        ("seeds.a=1", "seeds.a: seeds is a value"),
    ],
)
def test_a_wrong_override_is_named(override: str, start: str) -> None:
    (line,) = refused(RAW, [override])
    assert line.startswith(start)


NAMES = """
name: 0011
base: {corpus: {root: m.csv}, storage: 1e3}
sweeps:
  svm: &svm
    model: {name: linear_svm}
    corpus: &corpus {classes: [01, no]}
  iaan: {model: &iaan {name: iaan, hidden_size: 16}, corpus: *corpus}
  att: {model: {<<: *iaan, name: bigru_att}, corpus: *corpus}
  again: {model: *iaan, corpus: *corpus}
"""


def test_names_stay_as_written_and_sections_with_an_alias_are_their_own(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(NAMES)
    study = load_study(str(path), ["sweeps.iaan.model.hidden_size=8"])
    assert (study.name, study.storage) == ("0011", "1e3")
    assert {sweep.corpus.classes for sweep in study.sweeps.values()} == {("01", "no")}
    sizes = {name: getattr(s.model, "hidden_size", None) for name, s in study.sweeps.items()}
    assert sizes == {"svm": None, "iaan": 8, "att": 16, "again": 16}


def test_an_alias_that_contains_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("base: &base {corpus: *base}\nsweeps: {svm: {model: {name: linear_svm}}}")
    (line,) = refused(str(path))
    assert "no value contains itself" in line
