"""The check of a model with its feature set, before anything is computed."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest

from features.errors import FeatureError
from features.sets import EXTRACTED, FEATURES, FeatureConfig, FeatureSet, Shape
from features.sets.emobase_functionals import FunctionalsConfig
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration
from orchestrator.errors import ConfigError
from orchestrator.sweep.check import _check_own, check_model, searched_features
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
        found = searched_features("iaan", configuration.features, space)
        return [each.model_dump() for each in found]

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


OWN = """
from torch import Tensor, nn
from ser_models import EmotionModel
from ser_models.sequences import Output, Padded

class Switched(EmotionModel):
    def __init__(
        self, dims: int, classes: int, *, kind: str = "mean", size: int = 4, depth: int = 1
    ) -> None:
        super().__init__()
        if size == 7:
            raise ValueError("size is 7")
        self.faulty = FAULT
        self.hidden = nn.Linear(dims, size)
        self.output = nn.Linear(size, classes)

    def forward(self, current: Padded, *context: Padded | None) -> Output:
        values = current.values if self.faulty else current.values * current.mask[:, :, None]
        mean = self.hidden(values.sum(1) / current.lengths[:, None])
        return Output(self.output(mean), mean, {})
"""
PARAMETERS = {
    "model.kind": {"choices": ["mean", "sum"]},
    "model.size": {"low": 2, "high": 8},
    "model.depth": {"low": 1, "high": 3},
    "training.learning_rate": {"choices": [0.1, 0.2]},
}


@pytest.mark.parametrize(
    ("fault", "values"),
    [
        ("kind == 'mean' and size == 4", ""),
        ("kind == 'sum'", " with model.kind=sum"),
        ("size == 8 and depth == 3", " with model.kind=sum, model.size=8, model.depth=3"),
        ("size == 2 and depth == 1", " with model.kind=mean, model.size=2, model.depth=1"),
        ("False", None),
        ("size == 5", None),  # between the ends, and not configured
    ],
)
def test_the_contract_holds_at_the_corners_of_the_space(
    fault: str, values: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"switched_{abs(hash(fault))}"
    (tmp_path / f"{module}.py").write_text(OWN.replace("FAULT", fault))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    raw = {"name": "x", "corpus": {"root": "m.csv", "classes": ["a", "b"]}}
    configuration = parse({**raw, "model": {"name": f"{module}:Switched"}})
    space = Space.model_validate({"parameters": PARAMETERS})
    if values is None:
        _check_own(configuration, space, {"a": 2})
    else:
        with pytest.raises(ConfigError, match="the output depends on padding") as caught:
            _check_own(configuration, space, {"a": 2})
        assert f"breaks the contract of a model{values}: " in str(caught.value)


def test_a_combination_that_a_model_refuses_is_no_breach_of_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refusing_switched.py").write_text(OWN.replace("FAULT", "size == 7"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    raw = {"name": "x", "corpus": {"root": "m.csv", "classes": ["a", "b"]}}
    configuration = parse({**raw, "model": {"name": "refusing_switched:Switched"}})
    parameters = PARAMETERS | {"model.size": {"low": 2, "high": 7}}
    _check_own(configuration, Space.model_validate({"parameters": parameters}), {"a": 2})
