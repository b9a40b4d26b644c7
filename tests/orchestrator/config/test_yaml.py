"""YAML that would run code, is not YAML, or says something else than its writer means."""

from pathlib import Path

import pytest

from orchestrator.config.parsing import load, load_corpus
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


RUN = """\
name: x
corpus: {root: m.csv, classes: [a, b]}
model: {name: iaan}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "config.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RUN + "corpus: {root: other.csv, classes: [a, c]}", "line 4: the key corpus is also in l"),
        (RUN + "training:\n  epochs: 5\n  seed: 1\n  epochs: 6", "line 7: the key epochs is also"),
        (
            RUN.replace("m.csv", "m.csv, merge: {exc: a, exc: b}"),
            "line 2: the key exc is also in l",
        ),
        (RUN + "training: {epochs: 010}", "line 4: YAML reads 010 as 8. .*'010'"),
        (RUN + "cluster:\n  trial_minutes: 1:30", "line 5: YAML reads 1:30 as 90. .*'1:30'"),
        (RUN + "training: {seed: 2024-01-01}", "line 4: YAML reads 2024-01-01 as a date. "),
    ],
)
def test_a_surprise_in_a_configuration_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    for read in (load, load_corpus):
        with pytest.raises(ConfigError, match=rf"config\.yaml: {message}") as caught:
            read(written(tmp_path, text))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ("[0, 1, 2, 3]", ("0", "1", "2", "3")),
        ("[0011, 0012]", ("0011", "0012")),
        ("[yes, no]", ("yes", "no")),
        ("[on, 1e-3, 1:30]", ("on", "1e-3", "1:30")),
        ("[2024-01-01, 1_000, 1.0]", ("2024-01-01", "1_000", "1.0")),
        ("['no', \"01\"]", ("no", "01")),
    ],
)
def test_names_are_taken_as_they_are_written(
    tmp_path: Path, classes: str, names: tuple[str, ...]
) -> None:
    first = classes.strip("[]").split(",")[0]
    path = written(
        tmp_path,
        f"name: 0011\nstorage: 2024-01-01\nmodel: {{name: iaan}}\nsearch: {{space: 1e3}}\n"
        f"corpus: {{root: 007, note: no, classes: {classes}, merge: {{{first}: {first}}}, "
        f"only: {{session: {classes}}}}}",
    )
    found = load(path)
    assert found.corpus.classes == load_corpus(path).classes == names
    assert found.corpus.merge == {names[0]: names[0]}
    assert found.corpus.only == {"session": names}
    assert (found.name, found.storage, found.corpus.root) == ("0011", "2024-01-01", "007")
    assert (found.corpus.note, found.search.space) == ("no", "1e3")
    assert load(found.resolved()) == found
    path = written(tmp_path, RUN)
    overrides = [f"corpus.classes={classes}", f"corpus.only.session={classes}", "name=0011"]
    found = load(path, [*overrides, f"corpus.merge.{names[0]}={first}"])
    assert (found.corpus.classes, found.corpus.only["session"], found.name) == (
        names,
        names,
        "0011",
    )
    assert found.corpus.merge == {names[0]: names[0]}
    assert load(path, [f"corpus={{root: m, classes: {classes}}}"]).corpus.classes == names


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("anger,sadness", ["anger", "sadness"]),
        ("anger, sadness ,no", ["anger", "sadness", "no"]),
        ("0,1,2,3", ["0", "1", "2", "3"]),
        ("1e-3,0011", ["1e-3", "0011"]),
        ("very sad,angry,", ["very sad", "angry"]),
    ],
)
def test_an_override_of_a_list_needs_no_brackets(
    tmp_path: Path, value: str, names: list[str]
) -> None:
    path = written(tmp_path, RUN)
    found = load(path, [f"corpus.classes={value}", f"corpus.only.style={value}"]).corpus
    listed = load(path, [f"corpus.classes={names}", f"corpus.only.style={names}"]).corpus
    assert found == listed
    assert found.classes == found.only["style"] == tuple(names)
    assert load_corpus(path, [f"corpus.only.style={names[0]}"]).only == {"style": (names[0],)}


def test_values_that_are_no_names_are_refused_with_a_remedy(tmp_path: Path) -> None:
    for text, message in {
        "classes: [a, ~]": r"corpus\.classes\.1: .*, not None \(YAML reads null, ~ .*quote a text",
        "merge: {a: }": r"corpus\.merge\.a: .*, not None \(YAML reads null",
        "classes: anger, sad: ": "corpus.sad: unknown key",
        "classes: 'anger, sadness'": r"corpus\.classes: must be a list, as in \[a, b\], not 'anger",
        "only: {style: read}": r"corpus\.only\.style: must be a list, as in \[a, b\], not 'read'",
    }.items():
        with pytest.raises(ConfigError, match=message):
            load_corpus(written(tmp_path, f"corpus: {{root: m.csv, {text}}}"))
    path = written(tmp_path, RUN + "features: {normalize: no}")
    with pytest.raises(ConfigError, match=r"normalize: .*, not False \(YAML reads no, off and fal"):
        load(path)
    with pytest.raises(ConfigError, match=r"--set training\.epochs=010: YAML reads 010 as 8"):
        load(written(tmp_path, RUN), ["training.epochs=010"])
    with pytest.raises(ConfigError, match=r"corpus\.classes\.0: .*, not True \(YAML reads yes, on"):
        load({"name": "x", "model": {"name": "iaan"}, "corpus": {"root": "m", "classes": [True]}})


def test_names_may_be_numbers_in_python() -> None:
    corpus = {"root": "m", "classes": [0, 1.0, 2.5], "merge": {3: 0}, "only": {"session": [1, 2]}}
    found = load({"name": "x", "model": {"name": "iaan"}, "corpus": corpus}).corpus
    assert found.classes == ("0", "1", "2.5")
    assert found.merge == {"3": "0"}
    assert found.only == {"session": ("1", "2")}


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("1.5e-4", 0.00015), ("2E-2", 0.02)])
def test_a_number_with_an_exponent_is_a_number(tmp_path: Path, text: str, value: float) -> None:
    path = written(tmp_path, RUN + f"training: {{learning_rate: {text}, epochs: 1e2}}")
    assert load(path).training.learning_rate == value
    assert load(path).training.epochs == 100
    path = written(tmp_path, RUN)
    assert load(path, [f"training.learning_rate={text}"]).training.learning_rate == value
