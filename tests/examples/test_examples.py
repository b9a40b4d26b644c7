"""Examples and search spaces run as they stand; what the documentation says of models is so."""

import re
import wave
from pathlib import Path

import pytest
import torch
import yaml

from features.sets import FEATURES
from orchestrator.config.sections import Configuration, load
from orchestrator.data.prepare import corpus_folds, read_corpus
from orchestrator.sweep.run import check
from search_spaces import FOLDER, load_space
from ser_models import MODELS, Sizes

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*.yaml"))


def wav(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(3200))


def iemocap(root: Path) -> str:
    """Five sessions of one improvised and one scripted dialogue; both speak every emotion."""
    emotions = ["ang", "hap", "exc", "neu", "sad", "fru"] * 4
    for session in range(1, 6):
        base = root / f"Session{session}"
        for dialogue in (f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1"):
            labels, lines = "% head\n\n", ""
            for turn, emotion in enumerate(emotions):
                name = f"{dialogue}_{'FM'[turn % 2]}{turn // 2:03d}"
                labels += f"[{turn}.0000 - {turn}.9000]\t{name}\t{emotion}\t[2.5, 2.5, 2.5]\n\n"
                lines += f"{name} [{turn:03d}.0000-{turn:03d}.9000]: Excuse me.\n"
                wav(base / f"sentences/wav/{dialogue}/{name}.wav")
            for folder, content in (("EmoEvaluation", labels), ("transcriptions", lines)):
                path = base / f"dialog/{folder}/{dialogue}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
    return str(root)


def att_hack(root: Path) -> str:
    for speaker in ("F01", "M02"):
        for attitude in range(1, 5):
            for phrase in range(1, 101):
                wav(root / f"wav/{speaker}_a{attitude}_s{phrase:03d}_v01.wav")
    return str(root)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("corpora")
    return {"iemocap": iemocap(root / "iemocap"), "att_hack": att_hack(root / "att_hack")}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_whole_and_fits_its_corpus(
    path: Path, corpora: dict[str, str], tmp_path: Path
) -> None:
    name = yaml.safe_load(path.read_text())["corpus"]["name"]
    overrides = [f"storage={tmp_path}"]
    if name in corpora:
        overrides.append(f"corpus.root={corpora[name]}")
    configuration = load(str(path), overrides)
    assert configuration.search is not None  # `ser train` leaves it aside, `ser sweep` needs it
    if name in corpora:
        check(configuration)


def of(name: str, root: str) -> Configuration:
    path = next(path for path in EXAMPLES if path.stem == name)
    return load(str(path), [f"corpus.root={root}"])


def test_ssa_crnns_iemocap_is_improvised_and_without_excitement(corpora: dict[str, str]) -> None:
    configuration = of("ssa_crnn_r_iemocap", corpora["iemocap"])
    corpus = read_corpus(configuration)
    assert set(corpus.manifest.table["style"].to_pylist()) == {"improvised"}
    labels = corpus.manifest.table["emotion"].to_pylist()
    assert [labels[row] for row in range(len(labels)) if corpus.labels[row] == 1] == ["hap"] * 20
    folds = corpus_folds(configuration, corpus)
    assert len(folds) == 10
    assert all(len(fold.test) == 16 and not len(fold.validation) for fold in folds)


def test_att_hack_trains_on_eighty_phrases(corpora: dict[str, str]) -> None:
    configuration = of("ssa_crnn_r_att_hack", corpora["att_hack"])
    corpus = read_corpus(configuration)
    phrases = corpus.manifest.table["phrase"].to_pylist()
    for fold in corpus_folds(configuration, corpus):
        assert len({phrases[row] for row in fold.train}) == 80
        assert len({phrases[row] for row in fold.test}) == 20


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_space_whose_first_point_is_its_default(name: str) -> None:
    """The IAAN family shares one: its models have the same hyperparameters."""
    family = "iaan" if MODELS[name].network.func is MODELS["iaan"].network.func else name
    space = load_space(family)
    configuration = load(
        str(EXAMPLES[0]),
        ["corpus.name=manifest", "model={name: " + name + "}", "features={}", "training={}"],
    )
    found = configuration.with_values(space.first)
    assert (FOLDER / f"{family}.yaml").exists()
    for key in space.first:
        section, _, leaf = key.partition(".")
        default = getattr(getattr(configuration, section), leaf)
        assert default is None or getattr(getattr(found, section), leaf) == default


DOCUMENT = (Path(__file__).parents[2] / "docs/models.md").read_text(encoding="utf-8")


def test_the_table_of_models_is_whole_and_counts_parameters() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `(\w+)` \| ([0-9,]+)", DOCUMENT, re.MULTILINE)
    found = {}
    for name, model in MODELS.items():
        sizes = Sizes(FEATURES[model.features].dims, classes=4, speakers=10, segment=300)
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in model(sizes).parameters())
        found[name] = (model.features, f"{parameters:,}")
    assert {name: values for name, *values in map(list, rows)} == {
        name: list(values) for name, values in found.items()
    }


def test_what_the_documentation_shows_of_attention_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    attention = names["output"].attention  # type: ignore[attr-defined]
    both = attention["emotion"] + attention["speaker"]
    assert both.shape == (1, 150)
    assert both.sum().item() == pytest.approx(1)
