"""The page and the files say what labels alone score, and how much of the score it could explain.

The audits are those of a made-up corpus whose emotion follows the dialogue for 80 %.
"""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.label_baselines import EMOTIONS, rows
from features.context import Turns
from features.manifest import normalise
from features.storage import Storage
from orchestrator.config.sections import FoldsConfig, LeaveOneSessionOut, RandomRepeated
from orchestrator.data.audit import audit
from orchestrator.data.folds import make_folds
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Audit
from orchestrator.report.labels import DASH
from orchestrator.report.study import build_study
from orchestrator.results.findings import gather
from tests.support.made_study import made
from tests.support.made_sweep import make_sweep
from tests.support.report_page import Page, page_of, summary

FILE = "report/label_baselines.csv"


def audit_of(scheme: FoldsConfig) -> Audit:
    table = normalise(pa.Table.from_pylist(rows()))
    labels = np.asarray([EMOTIONS.index(emotion) for emotion in table["emotion"].to_pylist()])
    without = Turns.none(len(labels))
    folds = make_folds(table, labels, EMOTIONS, scheme)
    return audit(table, labels, EMOTIONS, folds, without, without, scheme)


def sweep_with(folder: Path, audited: Audit, skill: tuple[float, float], folds: int = 5) -> Ledger:
    return make_sweep(
        folder,
        ["complete", "complete"],
        classes=list(EMOTIONS),
        folds=folds,
        extra={"audit": audited},
        skill=skill,
    )


def sentences(page: Page, begin: str) -> list[str]:
    """The texts of the page that begin with these words."""
    return [text.strip() for text in page.text if text.strip().startswith(begin)]


@pytest.mark.parametrize(
    ("skill", "explains", "beaten"),
    [
        pytest.param((0.0, 0.1), 1.0, False, id="a weak model"),
        pytest.param((0.4, 0.5), 1.0, False, id="a model as good as labels"),
        pytest.param((0.97, 0.99), 0.75, True, id="a strong model"),
    ],
)
def test_random_folds_leak_the_dialogue(
    tmp_path: Path, skill: tuple[float, float], explains: float, beaten: bool
) -> None:
    audited = audit_of(RandomRepeated())
    page = page_of(sweep_with(tmp_path, audited, skill))
    ua = float(np.mean([fold.label_baselines["dialogue"] for fold in audited.folds]))
    assert ua > 0.7
    (sentence,) = sentences(page, "The folds leak the dialogue: ")
    assert f"labels of the same dialogue have a UA of {ua:.1%} (" in sentence
    assert "Chance is 25.0%. This could explain " in sentence
    share = min(1.0, (ua - 0.25) / (page.data["ua-nested-mean"] - 0.25))
    assert f"could explain {share:.0%} of the model's UA above chance." in sentence
    assert share == pytest.approx(explains, abs=0.1)
    assert not sentences(page, "The folds leak the speaker: ")
    assert ("labels-banner" in page.ids()) == (not beaten)
    if not beaten:
        assert "This score is not clearly above what labels alone give." in page.words()
        assert f"same dialogue, without any sound, have {ua:.1%}." in page.words()
    table = {row[0]: row[1:] for row in page.tables["label-baselines"][1:]}
    assert next(iter(table)) == "nothing (chance)"
    assert table["dialogue"][0] == f"{100 * ua:.1f}%"
    assert table["dialogue"][2:] == ["yes", f"{100 * share:.1f}%"]
    assert table["session"][2:] == ["no", DASH]
    assert f"Labels alone: {100 * ua:.1f}% (given the dialogue)" in page.words()


def test_folds_by_session_leak_nothing(tmp_path: Path) -> None:
    page = page_of(sweep_with(tmp_path, audit_of(LeaveOneSessionOut()), (0.4, 0.6)))
    assert "labels-banner" not in page.ids()
    assert not sentences(page, "The folds leak")
    assert "the folds leak none of these units" in page.words()
    assert "Labels alone: " not in page.words()
    body = page.tables["label-baselines"][1:]
    names = ["nothing (chance)", "speaker", "session", "dialogue", "dialogue and speaker"]
    assert [row[0] for row in body] == [*names, "The model, nested"]
    assert {row[1] for row in body[:-1]} == {"25.0%"}
    assert {row[3] for row in body[:-1]} == {"no"}


def test_a_score_at_chance_is_named_at_the_top(tmp_path: Path) -> None:
    page = page_of(sweep_with(tmp_path, audit_of(LeaveOneSessionOut()), (0.0, 0.02)))
    assert "labels-banner" in page.ids()
    words = page.words()
    assert "This score is not clearly above chance." in words
    assert "A guess without any knowledge has 25.0%." in words
    assert words.index("not clearly above chance") < words.index("Scores of the best configuration")


@pytest.mark.parametrize("scheme", [RandomRepeated(folds=3), LeaveOneSessionOut()])
def test_files_and_tables_have_the_value_of_each_fold(tmp_path: Path, scheme: FoldsConfig) -> None:
    audited = audit_of(scheme)
    ledger = sweep_with(tmp_path, audited, (0.4, 0.6))
    page = page_of(ledger)
    lines = csv.DictReader(io.StringIO(ledger.storage.read(FILE).decode()))
    read = [(line["fold"], line["given"], float(line["ua"])) for line in lines]
    expected = [
        (fold.name, given, ua)
        for fold in audited.folds
        for given, ua in sorted(fold.label_baselines.items())
    ]
    assert read == expected
    header, *body = page.tables["audit-labels"]
    assert header[:3] == ["Fold", "Given nothing", "Given speaker"]
    for fold, row in zip(audited.folds, body, strict=True):
        values = [fold.label_baselines[name.removeprefix("Given ")] for name in header[1:]]
        assert row == [fold.name, *(f"{100 * value:.1f}%" for value in values)]
    given = summary(ledger)["label_baselines"]["given"]
    assert [(fold, unit, ua) for unit in given for fold, ua in given[unit]["folds"].items()] == [
        (fold.name, unit, fold.label_baselines[unit]) for unit in given for fold in audited.folds
    ]


@pytest.mark.parametrize("skill", [(0.97, 0.99), (0.4, 0.5)], ids=["strong", "weak"])
def test_the_page_of_a_study_compares_its_models_with_labels(
    tmp_path: Path, skill: tuple[float, float]
) -> None:
    extra = {"audit": audit_of(RandomRepeated())}
    classes = list(EMOTIONS)
    sweeps = [
        made(tmp_path, name, statuses=["complete"], skill=skilled, extra=extra, classes=classes)
        for name, skilled in (("iaan", skill), ("bigru_att", (0.1, 0.2)))
    ]
    build_study(sweeps, Storage.open(str(tmp_path / "study")), "made")
    page = Page((tmp_path / "study/index.html").read_text(encoding="utf-8"))
    labels = sweeps[0].findings.labels
    assert labels is not None
    assert labels.beaten == (skill[0] > 0.9)
    rows = {row[0]: row[1:] for row in page.tables["label-baselines"][1:]}
    (dialogue,) = [each for each in labels.baselines if each.given == "dialogue"]
    share = labels.explained(dialogue)
    assert share is not None
    assert rows["dialogue"][0] == f"{100 * dialogue.ua.value:.1f}%"
    assert rows["dialogue"][2:] == ["yes", f"{100 * share:.1f}%"]
    assert rows["iaan, nested"][0] == f"{100 * labels.score.value:.1f}%"
    assert len(sentences(page, "The folds leak the dialogue: ")) == 1
    assert ("labels-banner" in page.ids()) == (not labels.beaten)
    named = "Clearly above all of these scores: iaan. Not clearly above all of them: bigru_att."
    assert (named in page.words()) == labels.beaten
    assert ("Not clearly above all of them: iaan, bigru_att." in page.words()) != labels.beaten


def test_a_sweep_of_an_older_version_has_no_baselines(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"])
    page = page_of(ledger)
    assert gather(ledger).labels is None
    assert summary(ledger)["label_baselines"] is None
    assert not {"label-baselines", "audit-labels"} & page.tables.keys()
    assert not {"labels-banner", "leaks"} & page.ids()
    assert ledger.storage.read(FILE).splitlines() == [b'"fold","given","ua"']


def test_a_sweep_without_a_score_shows_the_baselines_of_its_folds(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["failed"], extra={"audit": audit_of(RandomRepeated())})
    page = page_of(ledger)
    assert len(page.tables["audit-labels"]) == 1 + 10
    assert "label-baselines" not in page.tables
