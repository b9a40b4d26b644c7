"""`ser corpus` says what labels alone score in the configured folds, and so does a finished run."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import yaml

from benchmarks.label_baselines import EMOTIONS, rows
from orchestrator.cli.console import print_labels_alone
from tests.orchestrator.cli.conftest import Command

UNITS = {"nothing", "speaker", "session", "dialogue", "dialogue and speaker"}


def configured(folder: Path, table: list[dict[str, Any]], **sections: Any) -> Path:
    """A configuration of a manifest without its recordings: `ser corpus` needs only labels."""
    timed = [{**row, "id": f"u{i}", "start": 0.0, "end": 1.0} for i, row in enumerate(table)]
    pacsv.write_csv(pa.Table.from_pylist(timed), folder / "manifest.csv")
    corpus = {"root": str(folder / "manifest.csv"), "classes": list(EMOTIONS)}
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({"corpus": corpus, **sections}))
    return path


@pytest.mark.parametrize(
    ("sections", "scheme", "leaks"),
    [
        ({"folds": {"scheme": "random_repeated"}}, "random_repeated", True),
        ({"folds": {"scheme": "leave_one_session_out"}}, "leave_one_session_out", False),
        ({"model": {"name": "linear_svm"}}, "leave_one_session_out", False),
        ({"folds": {"scheme": "random_repeated", "folds": 3}}, "random_repeated", True),
    ],
)
def test_corpus_prints_what_labels_alone_score(
    tmp_path: Path, command: Command, sections: dict[str, Any], scheme: str, leaks: bool
) -> None:
    config = configured(tmp_path, rows(), **sections)
    done = command("corpus", config, "--json")
    assert done.returncode == 0, done.stderr
    folds = json.loads(done.stdout)["folds"]
    assert folds["scheme"] == scheme
    given = folds["label_baselines"]
    assert given.keys() == UNITS
    assert given["dialogue"]["leaks"] == leaks
    assert (given["dialogue"]["ua"]["value"] > 0.7) == leaks
    assert given["nothing"]["ua"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    printed = command("corpus", config).stdout
    assert f"{scheme}: UA of labels alone" in printed
    assert f"{given['dialogue']['ua']['value']:.3f}" in printed


def test_corpus_without_folds_prints_none(tmp_path: Path, command: Command) -> None:
    config = configured(tmp_path, rows())
    assert json.loads(command("corpus", config, "--json").stdout)["folds"] is None
    assert "labels alone" not in command("corpus", config).stdout


def without_session(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "session": None} if i in (3, 9) else row for i, row in enumerate(table)]


@pytest.mark.parametrize(
    ("table", "folds", "problem"),
    [
        (
            without_session(rows()),
            {"scheme": "leave_one_session_out"},
            "2 rows have no session: row 4",
        ),
        (rows(), {"scheme": "phrase_groups"}, "needs the manifest's column `phrase`"),
        (rows(), {"scheme": "leave_one_sesion_out"}, "no scheme leave_one_sesion_out"),
        (rows(), {"scheme": "random_repeated", "folds": 1}, "folds.folds: "),
        (rows(), ["random_repeated"], "folds.scheme: this key is required"),
        (
            [*rows(), {**rows()[0], "session": "2", "dialogue": "new"}],
            {"scheme": "leave_one_session_out"},
            "2 rows have the same recording as a row in another part",
        ),
    ],
)
def test_corpus_prints_its_counts_although_the_folds_do_not_fit(
    tmp_path: Path, command: Command, table: list[dict[str, Any]], folds: Any, problem: str
) -> None:
    config = configured(tmp_path, table, folds=folds)
    done = command("corpus", config, "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["utterances"] == len(table)
    assert values["folds"] is None
    found = [f"{each['file']}: {each['reason']}" for each in values["problems"]]
    assert any(problem in line for line in found), found
    printed = command("corpus", config)
    assert printed.returncode == 0
    assert "labels alone" not in printed.stdout


@pytest.mark.parametrize(
    ("given", "beaten", "lines"),
    [
        (
            {"nothing": 0.25, "dialogue": 0.8},
            False,
            [
                "labels alone: 0.800 UA given the dialogue, without any sound",
                "the model's UA is not clearly above what labels alone give: the report says more",
            ],
        ),
        (
            {"nothing": 0.25, "speaker": 0.3},
            True,
            ["labels alone: 0.300 UA given the speaker, without any sound"],
        ),
        (
            {"nothing": 0.5, "speaker": 0.5},
            False,
            ["the model's UA is not clearly above chance: the report says more"],
        ),
        ({"nothing": 0.5}, True, []),
    ],
)
def test_a_finished_run_prints_the_highest_baseline(
    capsys: pytest.CaptureFixture[str], given: dict[str, float], beaten: bool, lines: list[str]
) -> None:
    values = {unit: {"ua": {"value": ua}} for unit, ua in given.items()}
    print_labels_alone({"given": values, "beaten": beaten})
    assert capsys.readouterr().out.splitlines() == lines
