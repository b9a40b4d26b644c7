"""Configurations from plain values and from files."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.config.parsing import corpus_section, load, load_corpus, parse
from orchestrator.config.sections import Configuration
from orchestrator.errors import ConfigError
from ser_models import MODELS

MINIMAL: dict[str, Any] = {
    "name": "x",
    "corpus": {"root": "m.csv", "classes": ["a", "b"]},
    "model": {"name": "iaan"},
}


def test_defaults_are_resolved() -> None:
    resolved = parse(MINIMAL).resolved()
    assert resolved["model"]["hidden_size"] == 512
    assert resolved["training"]["learning_rate"] == 1e-4
    assert resolved["folds"] == {"scheme": "leave_one_session_out", "selection": "validation"}
    assert parse(resolved) == parse(MINIMAL)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.droput", 0.1, "model.droput: unknown key; did you mean dropout?"),
        ("trainig.epochs", 3, "trainig: unknown key; did you mean training?"),
        ("cluster.zzz", 3, "cluster.zzz: unknown key; known keys: workers_per_trial"),
        ("search.zzz", 3, "search.zzz: unknown key; known keys: space, trials"),
        ("folds.scheme", "kfold", "folds.scheme: no scheme kfold; known: corpus, "),
        ("folds.test_share", 0.3, "folds.test_share: unknown key; known keys: scheme, selection"),
        ("training.epochs", "many", "training.epochs: .*integer.*'many'"),
        ("training.epochs", 0, "training.epochs: .*greater than or equal to 1.*0"),
        ("model.name", "cnn", "model.name: no model cnn; known: .*iaan"),
        ("model.context", "none", "model.context: unknown key"),
        ("folds.selection", "test", "folds.selection: .*'validation' or 'held_out'"),
        ("corpus.classes", ["a", "a"], "corpus.classes: each class may be named once"),
        ("corpus.classes", ["a"], "corpus.classes: .*at least 2"),
        ("name", "../up", "name: .*not '../up'"),
        ("corpus.root", None, "corpus.root: .*string"),
        ("training.learning_rate", float("nan"), "training.learning_rate: "),
    ],
)
def test_a_wrong_value_is_named_in_one_line(key: str, value: object, message: str) -> None:
    raw = yaml.safe_load(yaml.safe_dump(MINIMAL | {"search": {"space": "iaan"}}))
    section, _, leaf = key.rpartition(".")
    (raw.setdefault(section, {}) if section else raw)[leaf] = value
    with pytest.raises(ConfigError, match=message) as caught:
        parse(raw)
    assert "\n" not in str(caught.value)


def test_missing_keys_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"corpus": {"root": "x"}, "model": {"name": "iaan"}})
    assert str(caught.value).splitlines() == [
        "corpus.classes: this key is required",
        "name: this key is required",
    ]
    with pytest.raises(ConfigError, match=r"model.name: this key is required; known: iaan"):
        parse({"name": "x", "corpus": {"root": "x", "classes": ["a", "b"]}})
    with pytest.raises(ConfigError, match=r"model.name: this key is required; known: iaan"):
        parse(MINIMAL | {"model": {"hidden_size": 8}})


def test_overrides_are_yaml_values(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    found = load(
        str(path),
        [
            "training.learning_rate=1e-3",
            "corpus.classes=[x, y, z]",
            "model.normalize_projection=true",
        ],
    )
    assert found.training.learning_rate == 1e-3
    assert found.corpus.classes == ("x", "y", "z")
    assert found.model.normalize_projection is True


def of(model: str, **sections: object) -> dict[str, object]:
    return MINIMAL | {"model": {"name": model}} | sections


@pytest.mark.parametrize("name", MODELS)
def test_each_model_brings_its_features_and_its_published_training(name: str) -> None:
    configuration = parse(of(name))
    assert configuration.features.name == MODELS[name].features
    for key, value in MODELS[name].training.items():
        assert getattr(configuration.training, key) == value
    # Workers receive the configuration pickled, although no module holds its class.
    assert pickle.loads(pickle.dumps(configuration)) == configuration  # noqa: S301


def test_a_configuration_may_name_any_set_of_the_shape_that_the_model_reads() -> None:
    raw = of("linear_svm", features={"name": "compare_functionals", "normalize": "train"})
    configuration = parse(raw)
    assert configuration.resolved()["features"] == {
        "name": "compare_functionals",
        "normalize": "train",
        "max_errors": 0,
    }
    assert parse(configuration.resolved()) == configuration
    assert pickle.loads(pickle.dumps(configuration)) == configuration  # noqa: S301


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            of("iaan", features={"name": "logmel3d"}),
            "features.name: iaan reads a sequence of frames, but logmel3d has log-mel maps in "
            "segments. Sets that fit: .*emobase_lld45",
        ),
        (of("iaan", features={"name": "mfcc"}), "features.name: no feature set mfcc; known: emob"),
        (of("ssa_crnn_r", features={"pool": 5}), "features.pool: unknown key; known keys: .*segm"),
        (of("iaan", features={"segment": 300}), "features.segment: unknown key"),
        (of("ssa_crnn_r", features={"segment": 301}), "features.segment: .*multiple of 2"),
        (of("linear_svm", training={"epochs": 3}), "training.epochs: unknown key; known keys: met"),
        (of("ssa_crnn_r", training={"learning_rate": 0}), "learning_rate: .*greater than 0"),
        (MINIMAL | {"model": {"name": "acrnn", "regularizer": "none"}}, "model.regularizer: unkn"),
        (of("iaan", training={"epochs": True}), "training.epochs: must be a number, not True"),
        (MINIMAL | {"model": {"name": "acrnn_r", "regularizer_weight": True}}, "must be a number"),
        (
            MINIMAL | {"corpus": {**MINIMAL["corpus"], "only": {"session": []}}},
            "corpus.only.session: .*at least 1 item",
        ),
        (of("ssa_crnn_r", training={"batch_size": 41}), "batch_size: must be a multiple of the 2"),
    ],
)
def test_a_value_that_the_model_would_ignore_is_an_error(raw: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        (None, [], "no such configuration"),
        ("a: [", [], "cannot be read as YAML"),
        ("- a", [], "mapping"),
        ("name: x", ["training.epochs"], "key=value"),
        ("name: x", ["name.a=1"], "name is a value"),
    ],
)
def test_unreadable_files_and_overrides(
    tmp_path: Path, content: str | None, overrides: list[str], message: str
) -> None:
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load(str(path), overrides)


def test_with_values_checks_like_a_file() -> None:
    configuration: Configuration = parse(MINIMAL)
    changed = configuration.with_values({"model.dropout": 0.5, "training.batch_size": 8})
    assert (changed.model.dropout, changed.training.batch_size) == (0.5, 8)
    with pytest.raises(ConfigError, match=r"model\.lambda: unknown key"):
        configuration.with_values({"model.lambda": 0.5})


def test_the_options_of_a_scheme_have_defaults_and_bounds() -> None:
    folds = {"scheme": "random_repeated"}
    assert parse(MINIMAL | {"folds": folds}).resolved()["folds"] == {
        "scheme": "random_repeated",
        "selection": "validation",
        "folds": 10,
        "test_share": 0.2,
        "seed": 0,
    }
    with pytest.raises(ConfigError, match=r"folds\.test_share: must be below 0\.5 .*, not 0\.6"):
        parse(MINIMAL | {"folds": folds | {"test_share": 0.6}})
    held_out = folds | {"test_share": 0.6, "selection": "held_out"}
    assert parse(MINIMAL | {"folds": held_out}).resolved()["folds"]["test_share"] == 0.6


@pytest.mark.parametrize(
    ("file", "name"),
    [("mine.yaml", "mine"), ("my corpus (2).yml", "my-corpus-2-"), (".hidden.yaml", "hidden")],
)
def test_the_name_is_by_default_the_stem_of_the_file(tmp_path: Path, file: str, name: str) -> None:
    path = tmp_path / file
    path.write_text(yaml.safe_dump({k: v for k, v in MINIMAL.items() if k != "name"}))
    configuration = load(str(path))
    assert configuration.name == name
    assert configuration.storage == "./runs"
    assert load(str(path), ["name=other"]).name == "other"


def test_a_corpus_needs_no_other_section(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("corpus: {root: m.csv}\nmodel: {name: nonsense}")
    assert load_corpus(str(path)).classes is None
    assert load_corpus(str(path), ["corpus.classes=[a, b]"]).classes == ("a", "b")
    path.write_text("corpus: {rot: m.csv}")
    with pytest.raises(ConfigError) as caught:
        load_corpus(str(path))
    assert str(caught.value).splitlines() == [
        f"{path}: corpus.root: this key is required",
        f"{path}: corpus.rot: unknown key; did you mean root?",
    ]
    path.write_text("model: {name: iaan}")
    with pytest.raises(ConfigError, match="corpus: this section is required"):
        load_corpus(str(path))
    with pytest.raises(ConfigError, match=r"corpus\.only: .*dictionary"):
        corpus_section({"root": "x", "only": "improvised"})
