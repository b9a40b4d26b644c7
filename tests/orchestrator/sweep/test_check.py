"""The check of a model with its feature set, before anything is computed."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import pytest

from features.errors import FeatureError
from features.sets import EXTRACTED, FEATURES, FeatureConfig, FeatureSet, Shape
from features.sets.emobase_functionals import FunctionalsConfig
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.errors import ConfigError
from orchestrator.sweep.check import check_model, searched_features
from search_spaces import Space
from ser_models import MODELS


class DualConfig(FeatureConfig):
    """A set whose options decide its shape."""

    shapes: ClassVar[tuple[Shape, ...]] = ("frames", "vector")

    name: Literal["dual"] = "dual"
    normalize: Literal["train", "none"] = "train"
    level: Annotated[Literal["frames", "vector", "missing"], EXTRACTED] = "frames"
    width: Annotated[float, EXTRACTED] = 1.0

    def load(self) -> FeatureSet:
        if self.level == "missing":
            raise FeatureError("features.folder: no folder x")
        return dataclasses.replace(FunctionalsConfig().load(), dims=3, shape=self.level, groups={})


@pytest.fixture
def dual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FEATURES, "dual", DualConfig)


def with_level(level: str, model: dict[str, Any]) -> Configuration:
    corpus = {"root": "m.csv", "classes": ["a", "b"]}
    features = {"name": "dual", "level": level}
    return parse({"name": "x", "corpus": corpus, "model": model, "features": features})


@pytest.mark.usefixtures("dual")
def test_the_network_has_the_dims_of_the_loaded_set() -> None:
    model = check_model(with_level("vector", {"name": "cmn", "hidden_size": 4}), {"a": 2})
    assert 3 in {size for weights in model.parameters() for size in weights.shape}
    assert not {988, 45} & {size for weights in model.parameters() for size in weights.shape}


@pytest.mark.usefixtures("dual")
@pytest.mark.parametrize(
    ("level", "model", "message"),
    [
        ("vector", "iaan", "iaan reads a sequence of frames, but dual has one vector an utterance. "
                           "Sets that fit: emobase_lld45, .*dual"),
        ("frames", "cmn", "cmn reads one vector an utterance, but dual has a sequence of frames"),
        ("missing", "iaan", "features.folder: no folder x"),
    ],
)  # fmt: skip
def test_a_set_that_cannot_be_read_is_named(level: str, model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_model(with_level(level, {"name": model}), {"a": 2})


LEVELS = {"frames": "low_level_descriptors", "vector": "functionals"}


@pytest.mark.parametrize(
    "model", [name for name in MODELS if MODELS[name].reads in LEVELS and name != "layer_sum"]
)
def test_every_model_of_frames_or_vectors_reads_any_set_of_opensmile(model: str) -> None:
    level = LEVELS[MODELS[model].reads]
    raw = {"name": "x", "corpus": {"root": "m.csv", "classes": ["a", "b"]}}
    for name in ("eGeMAPSv02", "emobase"):
        features = {"name": "opensmile", "feature_set": name, "level": level}
        configuration = parse({**raw, "model": {"name": model}, "features": features})
        network = check_model(configuration, {"a": 2})
        dims = configuration.features.load().dims
        assert any(dims in weights.shape for weights in network.parameters()) or model == "mdnn"
    (features["level"],) = set(LEVELS.values()) - {level}
    other = parse({**raw, "model": {"name": model}, "features": features})
    with pytest.raises(ConfigError, match=r"opensmile \(with other options\)"):
        check_model(other, {"a": 2})


def test_layer_sum_refuses_columns_that_are_not_layers_of_one_size() -> None:
    raw = {"name": "x", "corpus": {"root": "m.csv", "classes": ["a", "b"]}}
    features = {"name": "opensmile", "feature_set": "emobase"}
    configuration = parse({**raw, "model": {"name": "layer_sum"}, "features": features})
    with pytest.raises(ConfigError, match="needs layers of one size"):
        check_model(configuration, {"a": 2})


@pytest.mark.usefixtures("dual")
def test_the_features_of_a_search_are_those_of_all_its_trials() -> None:
    configuration = with_level("frames", {"name": "iaan"})

    def searched(**parameters: dict[str, Any]) -> list[dict[str, Any]]:
        named = {f"features.{key}": value for key, value in parameters.items()}
        space = Space.model_validate({"parameters": named | {"model.dropout": {"choices": [0.1]}}})
        return [each.model_dump() for each in searched_features(configuration, space)]

    assert searched() == [configuration.features.model_dump()]
    levels = {"choices": ["frames", "missing"], "when": {"features.name": ["dual"]}}
    found = searched(name={"choices": ["emobase_lld45", "dual"]}, level=levels)
    assert [(each["name"], each.get("level")) for each in found] == [
        ("emobase_lld45", None),
        ("dual", "frames"),
        ("dual", "missing"),
    ]
    with pytest.raises(ConfigError, match=r"features.width: a grid needs `choices` or a `step`"):
        searched(width={"low": 0.5, "high": 1.5})
    with pytest.raises(ConfigError, match=r"search.space: features.level: unknown key"):
        searched(name={"choices": ["emobase_lld45"]}, level={"choices": ["frames"]})
    with pytest.raises(ConfigError, match=r"search.space: features.name: iaan reads a seq"):
        searched(name={"choices": ["emobase_functionals"]})
    with pytest.raises(ConfigError, match=r"features.pool cannot be searched"):
        searched(name={"choices": ["emobase_lld45"]}, pool={"choices": [1]})
