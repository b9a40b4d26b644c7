"""The example configurations and the search spaces are valid, and docs/models.md is correct."""

import re
import wave
from pathlib import Path

import pytest
import torch
import yaml

from features.sets import FEATURES
from features.sets.encoder_layers import groups
from orchestrator.config.parsing import load
from orchestrator.config.study import load_study
from orchestrator.data.prepare import Plan, plan_folds
from orchestrator.study import check_study
from orchestrator.sweep.check import check
from search_spaces import FOLDER, load_space
from ser_models import MODELS, Sizes
from tests.support.encoders import shared_encoder

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*.yaml"))
ENCODERS = {"layer_sum", "mean_pool"}
"""Models that need a pretrained encoder, which no study of all models has."""
STUDIES = sorted(Path(__file__).parents[2].glob("examples/studies/*.yaml"))


def wav(path: Path) -> None:
    """Write 0.1 s of silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(3200))


def iemocap(root: Path) -> str:
    """Write five sessions, each with an improvised and a scripted dialogue and all emotions."""
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
    """Write two speakers who say a hundred phrases with each of four attitudes."""
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
def test_an_example_is_valid_for_its_corpus(
    path: Path, corpora: dict[str, str], tmp_path: Path
) -> None:
    name = yaml.safe_load(path.read_text())["corpus"]["name"]
    overrides = [f"storage={tmp_path}"]
    if name in corpora:
        overrides.append(f"corpus.root={corpora[name]}")
    if path.stem in ENCODERS:
        overrides.append(f"features.encoder={shared_encoder()}")
    configuration = load(str(path), overrides)
    assert configuration.search is not None  # `ser sweep` needs a search space
    if name in corpora:
        check(configuration)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_is_valid_for_its_corpus(
    path: Path, corpora: dict[str, str], tmp_path: Path
) -> None:
    name = yaml.safe_load(path.read_text())["base"]["corpus"]["name"]
    overrides = [f"storage={tmp_path}"]
    if name in corpora:
        overrides.append(f"corpus.root={corpora[name]}")
    study = load_study(str(path), overrides)
    assert all(sweep.model.name == name for name, sweep in study.sweeps.items())
    if name in corpora:
        check_study(study)
    else:  # the studies of all models
        assert study.sweeps.keys() == MODELS.keys() - ENCODERS


TABLES = {
    "iaan_table_1": "",
    "ssa_crnn_table_1": "_iemocap",
    "ssa_crnn_table_1_att_hack": "_att_hack",
}
"""The studies of the papers' tables, and the endings of the examples of their rows."""


@pytest.mark.parametrize(("study", "ending"), TABLES.items())
def test_a_table_of_a_paper_has_the_settings_of_the_examples(study: str, ending: str) -> None:
    folder = EXAMPLES[0].parent
    for name, sweep in load_study(str(folder / f"studies/{study}.yaml")).sweeps.items():
        example = load(str(folder / f"{name}{ending}.yaml"))
        assert sweep.search is None
        for section in ("corpus", "features", "model", "training"):
            assert sweep.resolved()[section] == example.resolved()[section], (name, section)
        # Not a row of the paper, or a row with other test parts: the IAAN paper quotes it.
        if name not in ("linear_svm", "svm_trees", "mdnn"):
            assert sweep.folds == example.folds


def plan(name: str, root: str) -> Plan:
    """The corpus and the folds of an example."""
    path = next(path for path in EXAMPLES if path.stem == name)
    return plan_folds(load(str(path), [f"corpus.root={root}"]))


def test_ssa_crnn_reads_improvised_dialogues_without_excitement(corpora: dict[str, str]) -> None:
    example = plan("ssa_crnn_r_iemocap", corpora["iemocap"])
    table, classes = example.corpus.manifest.table, example.corpus.labels
    assert set(table["style"].to_pylist()) == {"improvised"}
    labels = table["emotion"].to_pylist()
    assert [labels[row] for row in range(len(labels)) if classes[row] == 1] == ["hap"] * 20
    assert len(example.folds) == 10
    assert all(len(fold.test) == 16 and not len(fold.validation) for fold in example.folds)


def test_att_hack_trains_on_eighty_phrases(corpora: dict[str, str]) -> None:
    example = plan("ssa_crnn_r_att_hack", corpora["att_hack"])
    phrases = example.corpus.manifest.table["phrase"].to_pylist()
    for fold in example.folds:
        assert len({phrases[row] for row in fold.train}) == 80
        assert len({phrases[row] for row in fold.test}) == 20


@pytest.mark.parametrize("name", MODELS)
def test_the_first_point_of_a_models_search_space_is_its_default(name: str) -> None:
    """IAAN and its variants share a search space, because they have the same hyperparameters."""
    family = "iaan" if MODELS[name].network == MODELS["iaan"].network else name
    space = load_space(family)
    configuration = load(
        str(EXAMPLES[0]),
        ["corpus.name=manifest", "model={name: " + name + "}", "features={}", "training={}"],
    )
    first = configuration.with_values(space.first)
    assert (FOLDER / f"{family}.yaml").exists()
    for key in space.first:
        section, _, leaf = key.partition(".")
        default = getattr(getattr(configuration, section), leaf)
        assert default is None or getattr(getattr(first, section), leaf) == default


DOCUMENT = (Path(__file__).parents[2] / "docs/models.md").read_text(encoding="utf-8")


def test_the_table_of_models_in_the_docs_has_all_models_and_their_parameters() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `(\w+)` \| ([0-9,]+)", DOCUMENT, re.MULTILINE)
    expected = {}
    for name, model in MODELS.items():
        if name in ENCODERS:  # a base model
            columns = groups(13, 768) if name == "layer_sum" else {}
            sizes = Sizes(13 * 768 if columns else 768, classes=4, groups=columns)
        else:
            features = FEATURES[model.features]().load()
            sizes = Sizes(features.dims, 4, speakers=10, segment=300, groups=features.groups)
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in model(sizes).parameters())
        expected[name] = (model.features, f"{parameters:,}")
    assert {name: (features, count) for name, features, count in rows} == expected


def test_the_attention_example_in_the_docs_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    attention = names["output"].attention  # type: ignore[attr-defined]
    both = attention["emotion"] + attention["speaker"]
    assert both.shape == (1, 150)
    assert both.sum().item() == pytest.approx(1)
