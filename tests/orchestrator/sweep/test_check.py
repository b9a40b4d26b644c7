"""The check of a model with its feature set, before anything is computed."""

import dataclasses
from typing import Any, ClassVar, Literal

import pytest

from features.errors import FeatureError
from features.sets import FEATURES, FeatureConfig, FeatureSet, Shape
from features.sets.emobase_functionals import FunctionalsConfig
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.errors import ConfigError
from orchestrator.sweep.check import check_model


class DualConfig(FeatureConfig):
    """A set whose options decide its shape."""

    shapes: ClassVar[tuple[Shape, ...]] = ("frames", "vector")

    name: Literal["dual"] = "dual"
    normalize: Literal["train", "none"] = "train"
    level: Literal["frames", "vector", "missing"] = "frames"

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
