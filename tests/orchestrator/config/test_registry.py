"""Names of models, feature sets and corpora: built in, of entry points, and of own code."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import registry
from orchestrator.config.parsing import load_corpus, parse, parse_stored
from orchestrator.data.corpus import read_corpus
from orchestrator.errors import ConfigError
from orchestrator.sweep.identity import code, own_code
from ser_models import MODELS

CODE = """
from features.corpora import read_own
from features.sets.emobase_functionals import FunctionalsConfig
from features.sets.emobase_lld45 import EmobaseConfig
from ser_models import Context, EmotionModel, Model
from ser_models.mdnn import MDNN
from typing import Literal

class Plain(EmotionModel):
    def __init__(self, dims: int, classes: int, *, width: int = 3) -> None:
        super().__init__()

class Untyped(Plain):
    def __init__(self, dims, classes, *, width=3):
        super().__init__(dims, classes)

class Positional(Plain):
    def __init__(self, dims: int, width: int):
        super().__init__(dims, 2)

class Pictures(Plain):
    reads = "pictures"

class OwnFrames(EmobaseConfig):
    name: Literal["MODULE:OwnFrames"] = "MODULE:OwnFrames"

entry = Model(MDNN, "emobase_functionals", training={"epochs": 7}, reads="vector")
number = 3
"""


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of the user's code in the current directory, new for each test."""
    name = f"own_code_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(CODE.replace("MODULE", name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a package with an entry point of a model: name, value."""

    def package(name: str, value: str) -> None:
        folder = tmp_path / "installed/own_models-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: own-models\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[ser_orchestrator.models]\n{name} = {value}\n")
        monkeypatch.syspath_prepend(folder.parent)
        registry._entry_points.cache_clear()

    yield package
    monkeypatch.undo()
    registry._entry_points.cache_clear()


def raw(model: str, **sections: Any) -> dict[str, Any]:
    corpus = {"root": "m.csv", "classes": ["a", "b"]}
    return {"name": "x", "corpus": corpus, "model": {"name": model}, **sections}


def test_an_own_class_has_the_defaults_of_an_entry(own: str) -> None:
    configuration = parse(raw(f"{own}:Plain"))
    assert configuration.resolved()["model"] == {"name": f"{own}:Plain", "width": 3}
    assert configuration.features.name == "emobase_lld45"
    assert parse(configuration.resolved()) == configuration
    assert registry.model(f"{own}:Plain").context.kind == "none"


def test_an_own_entry_gives_its_training(own: str) -> None:
    configuration = parse(raw(f"{own}:entry"))
    assert configuration.resolved()["training"]["epochs"] == 7
    assert configuration.features.name == "emobase_functionals"


def test_own_features_are_read_by_a_built_in_model(own: str) -> None:
    configuration = parse(raw("iaan", features={"name": f"{own}:OwnFrames"}))
    assert configuration.features.load().dims == 45


def test_an_own_corpus_is_a_function(own: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,speaker,emotion\na.wav,s,x\nb.wav,t,y\n")
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    (tmp_path / "c.yaml").write_text(f"corpus: {{name: '{own}:read_own', root: m.csv}}\n")
    assert read_corpus(load_corpus("c.yaml")).classes == ("x", "y")


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        (
            "model",
            "no_such_module_x:Net",
            "model.name: no module no_such_module_x. Run the command",
        ),
        ("model", "{own}:Net", "model.name: the module {own} has no attribute Net"),
        ("model", "{own}:number", "{own}:number is a int, not a class that derives from Emotion"),
        ("model", "{own}:OwnFrames", "{own}:OwnFrames is a OwnFrames, not a class"),
        ("model", "{own}:Untyped", "the hyperparameter width needs a type and a default"),
        ("model", "{own}:Positional", r"the parameter width is not a size \(dims, "),
        ("model", "{own}:Pictures", "reads is 'pictures': use frames, vector, maps"),
        ("model", "broken_code_x:Net", "broken_code_x cannot be imported: ValueError: bad"),
        ("features", "{own}:Plain", "not a class that derives from FeatureConfig"),
        ("features", "{own}", "features.name: no feature set {own}; known: emobase_lld45"),
    ],
)
def test_a_wrong_name_is_one_line(
    section: str, name: str, message: str, own: str, tmp_path: Path
) -> None:
    (tmp_path / "broken_code_x.py").write_text("raise ValueError('bad')\n")
    chosen = raw("iaan") | {section: {"name": name.format(own=own)}}
    with pytest.raises(ConfigError, match=message.format(own=own)) as caught:
        parse(chosen)
    assert "\n" not in str(caught.value)


def test_a_file_that_hides_a_package_is_refused(own: str, tmp_path: Path) -> None:
    (tmp_path / "features.py").touch()
    with pytest.raises(ConfigError, match=r"features.py has the name of the package features"):
        parse(raw(f"{own}:Plain"))


def test_a_name_from_a_storage_imports_nothing_unless_it_is_allowed(own: str) -> None:
    name = f"{own}:Plain"
    with pytest.raises(ConfigError, match=f"you have not allowed it.*--trust {name}"):
        parse_stored(raw(name))
    with pytest.raises(ConfigError, match="you have not allowed it"):
        parse(raw("iaan")).with_values({"features.name": f"{own}:OwnFrames"})
    assert own not in sys.modules
    registry.allow([name])
    assert parse_stored(raw(name)).model.name == name


def test_an_entry_point_is_a_name(own: str, install: Callable[..., None]) -> None:
    registry._search_here("model.name")
    install("mine", f"{own}:Plain")
    assert parse_stored(raw("mine")).model.name == "mine"  # an installed package is trusted
    with pytest.raises(ConfigError, match=r"no model yours; known: iaan, .*mine"):
        parse(raw("yours"))


def test_an_entry_point_cannot_replace_a_built_in_model(install: Callable[..., None]) -> None:
    install("iaan", "other:Net")
    with pytest.raises(ConfigError, match="iaan is built in, but the entry point other:Net"):
        registry.model("iaan")
    assert registry.model("cmn") is MODELS["cmn"]


def test_the_code_digest_has_the_users_files(own: str, tmp_path: Path) -> None:
    chosen = parse(raw(f"{own}:Plain"))
    assert own_code(parse(raw("iaan"))) is None
    first = own_code(chosen)
    assert first == own_code(parse(raw("iaan", features={"name": f"{own}:OwnFrames"})))
    assert code(chosen)["own"] == first
    file = tmp_path / f"{own}.py"
    file.write_text("# A comment.\n" + file.read_text())
    assert own_code(chosen) == first
    file.write_text(file.read_text().replace("number = 3", "number = 4"))
    assert own_code(chosen) != first


def test_the_code_digest_has_all_files_of_a_package(own: str, tmp_path: Path) -> None:
    package = tmp_path / f"{own}_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "inner/__init__.py").touch()
    (package / "inner/net.py").write_text((tmp_path / f"{own}.py").read_text())
    (package / "layers.py").write_text("SIZE = 1\n")
    chosen = parse(raw(f"{own}_package.inner.net:Plain"))
    first = own_code(chosen)
    (package / "layers.py").write_text("SIZE = 2\n")
    assert own_code(chosen) != first
