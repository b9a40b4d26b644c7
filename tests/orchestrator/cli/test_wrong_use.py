"""Wrong use: every command answers every kind of wrong input with one line and its exit code."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger.seals import seal, unseal
from tests.orchestrator.cli.conftest import Command
from tests.support.made_sweep import make_sweep
from tests.support.sweeps import configure

SMALL_CRNN = {"first_maps": 2, "maps": 2, "conv_layers": 1, "linear_size": 8}


def assert_one_line(done: Any, code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("ser: ")
    assert done.stdout == ""
    for part in parts:
        assert part in done.stderr


def case(key: str, *parts: str, **changed: Any) -> Any:
    return pytest.param(changed, (key, *parts), id=f"{key}: {parts[0][:40]}" if parts else key)


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        case("model.droput", "did you mean dropout?", model={"droput": 0.1}),
        case("training.epochs", "'x'", training={"epochs": "x"}),
        case("corpus.classes", "joy", corpus={"classes": ["ang", "joy"]}),
        case("corpus.root", "gone.csv", corpus={"root": "gone.csv"}),
        case("corpus.name", "iemocapp", corpus={"name": "iemocapp"}),
        case("folds.scheme", "kfold", folds={"scheme": "kfold"}),
        case("hidden_size is 7", model={"hidden_size": 7}),
        case("search.space", "iaann", "acrnn, ", search={"space": "iaann"}),
        case("training.learning_rate", "grid", search={"sampler": "grid"}),
        case("acrnn_r", "model.embedding_size: unknown key", search={"space": "acrnn_r"}),
        case(
            "search.space",
            "regularizer_weight is 0.1",
            model={"name": "acrnn_r", "regularizer_weight": 0.1, **SMALL_CRNN},
            search={"space": "acrnn_r"},
        ),
        case("model: ", model={"hidden_size": 10**12}),
        case(
            "speakers is 1",
            "in fold Ses01",
            model={"name": "ssa_crnn_r", **SMALL_CRNN},
            search={"space": "ssa_crnn_r"},
            corpus={"only": {"gender": ["female"]}},
        ),
        case("corpus.only", "scripted", corpus={"only": {"style": ["scripted"]}}),
        case("corpus.only", "turn", corpus={"only": {"turn": ["1"]}}),
        case("storage: ", "s4://bucket", storage="s4://bucket"),
        case("cluster.workers_per_trial", "4 workers", cluster={"workers_per_trial": 4}),
        case(
            "search.reduction_factor: 4",
            "no effect with search.scheduler paired",
            search={"scheduler": "paired", "reduction_factor": 4},
        ),
        case("search.lag", "'many'", search={"lag": "many"}),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_before_anything_is_written(
    tmp_path: Path, spoken: Path, command: Command, changed: dict[str, Any], parts: tuple[str, ...]
) -> None:
    assert_one_line(command("sweep", configure(tmp_path, spoken, **changed)), 2, *parts)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        pytest.param("corpus.note: {choices: [a, b]}", "corpus.note cannot be searched", id="key"),
        pytest.param(
            "model.hidden_size: {low: 16, high: 64}", "hidden_size is 17", id="odd hidden size"
        ),
        pytest.param("model.dropout: {low: 0.5", "space.yaml", id="not YAML"),
    ],
)
def test_a_search_space_with_an_impossible_point_is_refused(
    tmp_path: Path, spoken: Path, command: Command, parameters: str, part: str
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(f"parameters: {{{parameters}}}")
    config = configure(tmp_path, spoken, search={"space": str(space)})
    assert_one_line(command("sweep", config), 2, part)


REST = "model: {name: iaan}\nsearch: {space: iaan}"
FILES = {
    "not YAML": ("corpus: [", "wrong.yaml"),
    "binary": ("\x00\x01", "wrong.yaml"),
    "empty": ("", "wrong.yaml"),
    "a list": ("- corpus", "wrong.yaml"),
    "a corpus that is text": (f"corpus: iemocap\n{REST}", "corpus: "),
    "a missing table": (f"corpus: {{root: gone.csv, classes: [a, b]}}\n{REST}", "gone.csv"),
}


@pytest.mark.parametrize("name", ["corpus", "extract", "train", "sweep"])
@pytest.mark.parametrize(("text", "part"), FILES.values(), ids=list(FILES))
def test_a_file_that_is_no_configuration_is_refused(
    tmp_path: Path, command: Command, name: str, text: str, part: str
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(text)
    assert_one_line(command(name, config), 2, part)


@pytest.mark.parametrize("name", ["extract", "train", "sweep"])
def test_a_misspelt_section_is_refused(
    tmp_path: Path, spoken: Path, command: Command, name: str
) -> None:
    config = configure(tmp_path, spoken)
    done = command(name, config, "--set", "storag=elsewhere")
    assert_one_line(done, 2, "storag: unknown key; did you mean storage?")


@pytest.mark.parametrize("name", ["corpus", "extract", "train", "sweep", "study"])
def test_a_missing_configuration_is_named(tmp_path: Path, command: Command, name: str) -> None:
    assert_one_line(command(name, tmp_path / "gone.yaml"), 2, "gone.yaml")


@pytest.mark.usefixtures("extracted_here")
@pytest.mark.parametrize("name", ["extract", "train", "sweep"])
def test_a_storage_inside_a_file_is_named(
    tmp_path: Path, spoken: Path, command: Command, name: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    config = configure(tmp_path, spoken, storage=str(tmp_path / "file" / "runs"))
    done = command(name, config)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "file") in done.stderr.splitlines()[-1]


def test_a_speaker_without_a_session_is_named_by_row(
    tmp_path: Path, spoken: Path, command: Command
) -> None:
    lines = spoken.read_text().splitlines()
    column = lines[0].split(",").index("session")
    cells = lines[7].split(",")
    cells[column] = ""
    lines[7] = ",".join(cells)
    manifest = spoken.parent / "holed.csv"
    manifest.write_text("\n".join(lines) + "\n")
    assert_one_line(command("sweep", configure(tmp_path, manifest)), 2, "session", "row 7")


def _read(command: Command, name: str, folder: Path | str) -> Any:
    """Run a command that reads sweeps."""
    return command(name, *([folder] * (2 if name == "compare" else 1)))


@pytest.mark.parametrize("name", ["status", "report", "compare"])
def test_a_folder_without_a_sweep_is_named(tmp_path: Path, command: Command, name: str) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        assert_one_line(_read(command, name, folder), 2, str(folder), "sweep.json")


@pytest.mark.parametrize("name", ["status", "report", "compare"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "another format"])
def test_a_damaged_sweep_is_named(tmp_path: Path, command: Command, name: str, damage: str) -> None:
    make_sweep(tmp_path, ["complete"])
    file = tmp_path / "sweep.json"
    data = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(data[:-9])
    elif damage == "changed":
        file.write_bytes(data.replace(b"iaan", b"aian", 1))
    else:
        file.write_bytes(seal({**unseal(data), "format": 1}))
    assert_one_line(_read(command, name, tmp_path), 1, str(file))


@pytest.mark.parametrize("name", ["status", "report", "compare"])
def test_an_unknown_storage_is_named(command: Command, name: str) -> None:
    done = _read(command, name, "s4://bucket/runs/mine")
    assert done.returncode in (1, 2)
    assert_one_line(done, done.returncode, "s4://bucket/runs/mine")


def test_sweeps_with_other_test_parts_cannot_be_compared(tmp_path: Path, command: Command) -> None:
    make_sweep(tmp_path / "first", ["complete"], folds=5)
    make_sweep(tmp_path / "second", ["complete"], folds=4)
    assert_one_line(command("compare", tmp_path / "first", tmp_path / "second"), 2)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        pytest.param(["manifest", "SPOKEN", "--model", "iaann"], "iaann", id="model"),
        pytest.param(["iemocapp", "SPOKEN"], "iemocapp", id="corpus"),
        pytest.param(["manifest", "gone.csv"], "gone.csv", id="root"),
    ],
)
def test_init_refuses_wrong_names(
    tmp_path: Path, spoken: Path, command: Command, arguments: list[str], part: str
) -> None:
    given = [str(spoken) if argument == "SPOKEN" else argument for argument in arguments]
    assert_one_line(command("init", *given, "--file", tmp_path / "new.yaml"), 2, part)
    assert not (tmp_path / "new.yaml").exists()


def test_the_demo_does_not_write_into_a_folder_with_something_else(
    tmp_path: Path, command: Command
) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "mine.txt").write_text("mine")
    done = command("demo", tmp_path)
    assert done.returncode == 2
    assert str(tmp_path / "corpus") in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "corpus").iterdir()] == ["mine.txt"]


def test_the_demo_names_the_missing_package(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    done = command("demo", tmp_path)
    assert done.returncode == 1
    assert "pip install" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["corpus", "sweep", "study", "status", "compare", "demo", "init"])
def test_an_unknown_option_ends_with_the_usage(command: Command, name: str) -> None:
    done = command(name, "--unknown")
    assert done.returncode == 2
    assert "--unknown" in done.stderr


def test_errors_do_not_pollute_json(tmp_path: Path, command: Command) -> None:
    make_sweep(tmp_path, ["complete"])
    assert json.loads(command("status", tmp_path, "--json").stdout)["complete"] == 1
    assert command("status", tmp_path / "gone", "--json").stdout == ""
