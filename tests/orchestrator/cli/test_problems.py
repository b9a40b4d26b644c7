"""The problems of a corpus, as the commands print them. No recording exists, which is one too."""

import json
from pathlib import Path

import pytest
import yaml

from tests.orchestrator.cli.conftest import Command

ROWS = """\
file,speaker,emotion,session,dialogue,phrase,fold,split
0.wav,a,ang,1,1,p,1,train
1.wav,b,neu,1,1,q,1,train
2.wav,a,neu,2,2,r,2,dev
3.wav,b,ang,2,2,s,2,dev
4.wav,c,ang,3,3,t,3,test
5.wav,c,neu,3,3,u,3,test
6.wav,d,ang,4,4,v,4,test
7.wav,d,neu,4,4,w,4,test
"""
COLUMNS = ROWS.splitlines()[0].split(",")


def written(folder: Path, rows: str, **sections: object) -> Path:
    (folder / "m.csv").write_text(rows, encoding="utf-8")
    corpus = {"root": str(folder / "m.csv"), "classes": ["ang", "neu"]}
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({"corpus": corpus, **sections}))
    return path


@pytest.mark.parametrize(
    ("normalize", "said"), [("speaker", True), ("channel", True), ("train", False), ("none", False)]
)
def test_notes_follow_the_configured_normalisation(
    tmp_path: Path, command: Command, normalize: str, said: bool
) -> None:
    config = written(tmp_path, ROWS, features={"normalize": normalize})
    notes = json.loads(command("corpus", config, "--json").stdout)["notes"]
    assert bool(notes) == said
    assert json.loads(command("corpus", written(tmp_path, ROWS), "--json").stdout)["notes"]


def without(rows: str, column: str, text: str = "") -> str:
    """The table without the values of a column in rows 2 and 5."""
    lines = [line.split(",") for line in rows.splitlines()]
    for row in (2, 5):
        lines[row][COLUMNS.index(column)] = text
    return "\n".join(map(",".join, lines)) + "\n"


def problems(command: Command, config: Path, *arguments: str) -> list[dict[str, str]]:
    done = command("corpus", config, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["utterances"] == summary["labelled"] == 8
    return [problem for problem in summary["problems"] if "does not exist" not in problem["reason"]]


@pytest.mark.parametrize(
    ("column", "folds"),
    [
        ("session", {"scheme": "leave_one_session_out"}),
        ("session", {"scheme": "stratified_group_k_fold", "group": "session", "folds": 3}),
        ("dialogue", {"scheme": "stratified_group_k_fold", "group": "dialogue", "folds": 3}),
        ("phrase", {"scheme": "phrase_groups", "folds": 3}),
        ("fold", {"scheme": "corpus"}),
    ],
)
@pytest.mark.parametrize("text", ["", "NaN", "<NA>"])
def test_rows_without_a_unit_that_the_scheme_needs_are_named(
    tmp_path: Path, command: Command, column: str, folds: dict[str, str], text: str
) -> None:
    rows = without(ROWS, column, text)
    *texts, scheme = problems(command, written(tmp_path, rows, folds=folds))
    assert scheme["file"] == "folds.scheme"
    assert (
        f"2 rows have no {column}: row 2, 1, speaker b; row 5, 4, speaker c. C" in scheme["reason"]
    )
    assert [problem["file"] for problem in texts] == ([f"column {column}"] if text else [])
    config = written(tmp_path, rows, folds={"scheme": "random_repeated", "folds": 2})
    assert [problem["file"] for problem in problems(command, config)] == [
        problem["file"] for problem in texts
    ]


def test_only_a_file_that_configures_a_run_has_a_scheme(tmp_path: Path, command: Command) -> None:
    rows = without(ROWS, "session")
    assert problems(command, written(tmp_path, rows)) == []
    (default,) = problems(command, written(tmp_path, rows, model={"name": "nonsense"}))
    assert default["reason"].startswith("leave_one_session_out needs a session in every labelled")
    config = written(tmp_path, ROWS, model={"name": "iaan"}, folds={"scheme": "corpus"})
    assert problems(command, config) == []
    (overridden,) = problems(command, config, "--set", "folds.scheme=phrase_groups")
    assert overridden["reason"].startswith("phrase_groups with selection validation needs at least")
    (split,) = problems(
        command, written(tmp_path, without(ROWS, "fold"), folds={"scheme": "corpus"})
    )
    assert "needs a fold in every labelled row, but 2 rows have no fold" in split["reason"]


def test_a_wrong_folds_section_is_a_problem_of_its_own(tmp_path: Path, command: Command) -> None:
    config = written(tmp_path, ROWS, folds={"scheme": "kfold"})
    (problem,) = problems(command, config)
    assert problem == {
        "file": "folds.scheme",
        "reason": "no scheme kfold; known: corpus, leave_one_session_out, leave_one_speaker_out, "
        "phrase_groups, random_repeated, stratified_group_k_fold",
    }


def test_problems_are_printed_on_whole_lines_to_copy_from(tmp_path: Path, command: Command) -> None:
    rows = ROWS.replace(",ang,", ",Ang,", 1).replace(",neu,", ",ne\u200bu,", 1)
    config = written(tmp_path, rows)
    done = command("corpus", config)
    assert done.returncode == 0, done.stderr
    merge = r'merge: {Ang: ang, "ne\u200Bu": neu}'
    assert any(
        line.endswith(f"write `{merge}` in the section corpus") for line in done.stdout.splitlines()
    )
    assert "  0.wav, 1.wav, 2.wav, and 5 more: " in done.stdout
    corpus = yaml.safe_load(config.read_text())["corpus"] | yaml.safe_load(merge)
    config.write_text(yaml.safe_dump({"corpus": corpus}))
    assert problems(command, config) == []


def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path, command: Command) -> None:
    rows = ROWS.replace(",a,", ",[bold]a,").replace(",b,", ",b:smile:,")
    done = command("corpus", written(tmp_path, rows))
    assert "[bold]a 2" in done.stdout
    assert "b:smile: 2" in done.stdout


@pytest.mark.parametrize("label", ["nan", "None", "#N/A"])
def test_init_proposes_no_class_that_means_no_value(
    tmp_path: Path, command: Command, label: str
) -> None:
    written(tmp_path, ROWS.replace(",ang,", f",{label},", 2).replace(",a,", ",e,", 1))
    done = command("init", "manifest", tmp_path / "m.csv", "--file", tmp_path / "new.yaml")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "new.yaml").read_text()
    assert "classes: [ang, neu]" in text
    assert f"{label} (2)" in text


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_names_the_doubts_before_it_computes_anything(
    tmp_path: Path, command: Command
) -> None:
    rows = ROWS.replace(",ang,", ",Ang,", 1).replace(",b,", ",A,")
    config = written(
        tmp_path, rows, model={"name": "linear_svm"}, storage=str(tmp_path / "runs"), name="x"
    )
    done = command("train", config)
    assert done.returncode == 1  # no recording exists
    before, _, after = done.stderr.partition("features.max_errors is 0")
    assert "corpus.classes: 1 utterances have no class, because their label differs" in before
    assert "column speaker: some speakers differ only in case" in before
    assert after != ""
