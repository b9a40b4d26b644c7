"""The page and the files of a study against the sweeps' files, and pages of unusual studies."""

import csv
import io
import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from features.parquet import read_table
from features.storage import Storage
from orchestrator.errors import FolderError
from orchestrator.report.labels import DASH
from orchestrator.report.study import build_study
from orchestrator.results.method import paragraph
from orchestrator.results.opened import OpenedSweep
from orchestrator.results.study import study
from tests.support.made_study import STATUSES, made, make_study, multiplied
from tests.support.made_sweep import CLASSES
from tests.support.report_page import Page

FILES = ["index.html", "pairs.csv", "paragraph.txt", "predictions.parquet", "scores.csv"]
FILES += ["tables.tex", "trials.csv"]
SVG = "{http://www.w3.org/2000/svg}"


def built(folder: Path, sweeps: list[OpenedSweep], **seeds: list[OpenedSweep]) -> Page:
    """The page of a new study in `folder`. Each figure is a whole SVG file."""
    names = build_study(sweeps, Storage.open(str(folder)), "made", seeds=seeds)
    assert [name for name in names if "/" not in name] == FILES
    assert all((folder / name).exists() for name in names)
    for name in names:
        if name.endswith(".svg"):
            root = ET.parse(folder / name).getroot()
            assert root.tag == f"{SVG}svg"
            assert "nan" not in (folder / name).read_text(encoding="utf-8")
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / name).read_text(encoding="utf-8"))))


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> list[OpenedSweep]:
    return make_study(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def page(sweeps: list[OpenedSweep], folder: Path) -> Page:
    return built(folder, sweeps)


def test_the_answer_comes_first(sweeps: list[OpenedSweep], page: Page) -> None:
    found = study("made", sweeps)
    words = page.words()
    best, second = found.ranking[:2]
    assert words.index(f"{best.label} is ahead") < words.index("Differences between")
    assert page.data["ua-best"] == best.score.ua.value
    assert page.data["ahead"] == best.score.ua.value - second.score.ua.value
    assert found.across is not None
    assert page.data["ua-across-pooled"] == found.across.pooled.ua.value
    assert paragraph(found) in words
    table = page.tables["models"]
    assert [row[0] for row in table[1:]] == [entry.label for entry in found.ranking]
    assert table[1][1] == f"{100 * best.score.ua.value:.1f}%"  # no column repeats the names


def test_the_matrix_has_a_cell_for_each_pair(sweeps: list[OpenedSweep], page: Page) -> None:
    found = study("made", sweeps)
    header, *body = page.tables["pairs"]
    assert header[1:] == [entry.label for entry in found.ranking[1:]]
    cells = {
        (row[0], column): cell.replace("\N{NO-BREAK SPACE}", " ")
        for row in body
        for column, cell in zip(header[1:], row[1:], strict=True)
        if cell
    }
    assert cells.keys() == {(pair.first, pair.second) for pair in found.pairs}
    for pair in found.pairs:
        cell = cells[pair.first, pair.second]
        assert pair.t_test is not None
        assert pair.t_holm is not None
        assert cell.startswith(f"+{100 * pair.t_test.mean:.1f}{'*' if pair.differs else ''}")
        assert cell.endswith("p < 0.001" if pair.t_holm < 0.001 else f"p = {pair.t_holm:.3f}")


def test_published_numbers_have_columns_of_their_own(page: Page) -> None:
    header, *body = page.tables["recalls"]
    place = header.index("Publ. WA")
    rows = {row[0]: row[place:] for row in body}
    assert rows["iaan"][:2] == ["64.7", "66.3"]
    assert rows["bigru_att"][:2] == ["57.6", "58.4"]
    assert rows["iaan"][2] == (
        "merged labels: ours none, published exc hap; "
        "selection on: ours a validation part, published the test part"
    )
    recalls = {row[0]: row[header.index("Publ. ang") : place] for row in body}
    assert recalls["iaan"] == ["72.1", "65.4", "53.1", "74.6"]
    context = {row[0]: row for row in page.tables["context"][1:]}
    assert context["iaan"][-6:] == ["76.0", "74.4", "64.3", "66.6", "53.6", "54.8"]
    assert context["rand_iaan"][-6:] == [DASH] * 6


def test_another_corpus_has_no_published_numbers(tmp_path: Path) -> None:
    sweep = made(tmp_path / "runs", "iaan")
    summary = sweep.record.corpus.model_copy(update={"corpus": "emodb"})
    sweep.ledger.write_sweep(sweep.record.model_copy(update={"corpus": summary}))
    page = built(tmp_path / "study", [OpenedSweep(sweep.ledger)])
    assert not any("Publ." in cell for cell in page.tables["recalls"][0])
    assert "Published scores exist for IEMOCAP and Att-HACK only" in page.words()


def test_scores_csv_is_recomputed_from_predictions_parquet(
    sweeps: list[OpenedSweep], page: Page, folder: Path
) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("sweep", "trial", "truth", "prediction")])
    table = read_table((folder / "predictions.parquet").read_bytes(), schema)
    scores = {row["sweep"]: row for row in rows_of(folder, "scores.csv")}
    assert len(scores) == 5
    for sweep in sweeps:
        rows = [row for row in table.to_pylist() if row["sweep"] == sweep.name]
        assert len(rows) == 5 * 80
        best = sweep.best
        assert best is not None
        assert {row["trial"] for row in rows} == {best.id} == {scores[sweep.name]["best_trial"]}
        truth, guess = [row["truth"] for row in rows], [row["prediction"] for row in rows]
        ua = balanced_accuracy_score(truth, guess)
        assert float(scores[sweep.name]["plain_ua_pooled"]) == pytest.approx(ua)
        assert sweep.findings.best is not None
        assert sweep.findings.best.pooled.wa.value == accuracy_score(truth, guess)
        assert scores[sweep.name]["trials_failed"] == "1"
    across = scores["model and configuration selected for each fold"]
    assert float(across["ua_pooled"]) == page.data["ua-across-pooled"]
    assert across["model"] == ""


def test_pairs_and_trials_are_in_files(sweeps: list[OpenedSweep], page: Page, folder: Path) -> None:
    pairs = rows_of(folder, "pairs.csv")
    found = study("made", sweeps)
    assert [float(row["t_p_holm"]) for row in pairs] == [pair.t_holm for pair in found.pairs]
    trials = rows_of(folder, "trials.csv")
    assert len(trials) == 4 * len(STATUSES) == len(page.tables["trials"]) - 1
    failed = [row for row in trials if row["status"] == "failed"]
    assert {row["reason"] for row in failed} == {"loss is not finite in fold Ses03, epoch 2"}
    assert {row["score"] for row in failed} == {""}


def test_figures_have_the_numbers_of_the_study(
    sweeps: list[OpenedSweep], page: Page, folder: Path
) -> None:
    found = study("made", sweeps)
    scores = (folder / "figures" / "scores.svg").read_text(encoding="utf-8")
    hints = re.findall(r"<title>(.*?)</title>", scores)
    assert hints == [f"{e.label}: {e.score.ua.value:.1%}" for e in found.ranking]
    entry = found.ranking[0]
    drawn = (folder / "figures" / f"confusion-{entry.label}.svg").read_text(encoding="utf-8")
    hints = re.findall(r"<title>true (\w+), predicted (\w+): (.*?)% \((\d+)\)</title>", drawn)
    counts = entry.score.confusion
    expected = [
        (true, guess, f"{100 * counts[i, j] / counts[i].sum():.1f}", str(counts[i, j]))
        for i, true in enumerate(CLASSES)
        for j, guess in enumerate(CLASSES)
    ]
    assert hints == expected
    speakers = (folder / "figures" / "speakers.svg").read_text(encoding="utf-8")
    assert len(re.findall("<title>", speakers)) == 10 * 4


def test_dots_are_at_their_values(sweeps: list[OpenedSweep], page: Page, folder: Path) -> None:
    found = study("made", sweeps)
    root = ET.parse(folder / "figures" / "scores.svg").getroot()
    ticks = {
        float(element.text): float(element.get("x", "nan"))
        for element in root.iter(f"{SVG}text")
        if element.get("text-anchor") == "middle"
        and re.fullmatch(r"\d+", element.text or "")
        and element.text
    }
    low, high = min(ticks), max(ticks)
    scale = (ticks[high] - ticks[low]) / (high - low)
    drawn = [float(circle.get("cx", "nan")) for circle in root.iter(f"{SVG}circle")]
    expected = [ticks[low] + scale * (100 * e.score.ua.value - low) for e in found.ranking]
    assert drawn == pytest.approx(expected, abs=0.02)


def test_the_same_sweeps_give_the_same_bytes(
    sweeps: list[OpenedSweep], page: Page, folder: Path, tmp_path: Path
) -> None:
    opened = [OpenedSweep(sweep.ledger) for sweep in sweeps]
    names = build_study(opened, Storage.open(str(tmp_path)), "made")
    assert {n: (tmp_path / n).read_bytes() for n in names} == {
        n: (folder / n).read_bytes() for n in names
    }


def test_page_needs_no_network(page: Page) -> None:
    for tag, known in page.elements:
        for attribute in ("src", "href", "action", "data", "srcset", "poster"):
            assert attribute not in known, (tag, known)
    policy = [str(known.get("content")) for tag, known in page.elements if tag == "meta"]
    assert any(content.startswith("default-src 'none'") for content in policy)


def test_held_out_pages_are_labelled_optimistic(tmp_path: Path) -> None:
    sweeps = make_study(tmp_path / "runs", selection="held_out")
    page = built(tmp_path / "study", sweeps)
    assert {"optimistic-banner", "across-unavailable"} <= page.ids()
    assert sum(known.get("class") == "tag" for _, known in page.elements) >= 5
    scores = rows_of(tmp_path / "study", "scores.csv")
    assert {row["estimate"] for row in scores} == {"optimistic"}


EVERYWHERE = {f"Ses{number:02d}": "hap" for number in range(1, 6)}
UNUSUAL: dict[str, dict[str, Any]] = {
    "one fold": {"folds": 1},
    "few": {"utterances": 5, "seed": 3},
    "a class lacks in a fold": {"lacking": {"Ses02": "hap"}},
    "a class lacks in every fold": {"lacking": EVERYWHERE},
    "a class lacks in the only fold": {"lacking": EVERYWHERE, "folds": 1},
}


@pytest.mark.parametrize("case", ["one sweep", "one failed", "all failed", *UNUSUAL])
def test_unusual_studies_have_a_sensible_page(tmp_path: Path, case: str) -> None:
    runs = tmp_path / "runs"
    if case == "one sweep":
        sweeps = [made(runs, "iaan")]
    elif "failed" in case:
        statuses = STATUSES if case == "one failed" else ["failed"]
        sweeps = [
            made(runs, "iaan", statuses=["failed"]),
            made(runs, "bigru_att", statuses=statuses),
        ]
    else:
        sweeps = make_study(runs, **UNUSUAL[case])
    page = built(tmp_path / "study", sweeps)
    words = page.words()
    for wrong in ("nan", "None", "inf", "Undefined"):
        assert not re.search(rf"\b{wrong}\b", words), wrong
    assert ("pairs" in page.tables) == (case in UNUSUAL)
    # An interval and its corrected p-value can disagree only with a t-test and several pairs.
    several = case in UNUSUAL and UNUSUAL[case].get("folds") != 1
    assert ("uncorrected" in page.ids()) == several
    assert ("failed" in page.ids()) == ("failed" in case)
    if "failed" in case:
        assert "iaan: trials 0: loss is not finite in fold Ses03, epoch 2" in words
    if case == "all failed":
        assert "No sweep has a score, so no model is ahead." in words
        assert page.data == {}
    if "lacks" in case:
        everywhere = UNUSUAL[case]["lacking"] == EVERYWHERE
        sentence = "No test utterance is of class hap. UA is the mean over ang, neu, sad."
        if not everywhere:
            sentence = "Test parts without a class, of 5: hap in 1. UA of such a part is the mean"
        assert words.count(sentence) == 2  # beside the table, and in the paragraph for a paper
        place = page.tables["recalls"][0].index("hap")
        assert {row[place] == DASH for row in page.tables["recalls"][1:]} == {everywhere}
        recalls = {row["recall_hap"] for row in rows_of(tmp_path / "study", "scores.csv")}
        assert ("" in recalls) == everywhere
        assert (" & -- & " in (tmp_path / "study/tables.tex").read_text()) >= everywhere
    if case == "one fold":
        assert "because there is one fold" in words
        found = study("made", sweeps)
        stars = sum("*" in cell for row in page.tables["pairs"][1:] for cell in row)
        assert stars == sum(pair.differs for pair in found.pairs) > 0


def test_seeds_are_shown_apart_from_folds(tmp_path: Path) -> None:
    first = made(tmp_path, "iaan")
    again = [
        made(
            tmp_path / str(seed), "iaan", statuses=["complete"], trial_seed=seed, training_seed=seed
        )
        for seed in (5, 6)
    ]
    page = built(tmp_path / "study", [first], iaan=again)
    (row,) = page.tables["seeds"][1:]
    spread = study("seeds", [first], {"iaan": again}).seeds["iaan"]
    expected = [f"{100 * spread.deviation_seeds:.2f}", f"{100 * spread.deviation_folds:.2f}"]
    assert row[-2:] == expected
    assert "trained again with the seeds 5, 6" in page.words()
    drawn = (tmp_path / "study/figures/seeds.svg").read_text(encoding="utf-8")
    assert len(re.findall("<title>iaan: seeds", drawn)) == 3
    assert len(re.findall("<title>iaan: folds", drawn)) == 5


def test_markup_in_names_is_text(tmp_path: Path) -> None:
    script = "</script><script>alert(1)</script>"
    classes = ["<img src=x onerror=alert(1)>", "<b>hap</b>", script, "{{ 7*7 }}"]
    sweep = made(tmp_path, "iaan", name=script, classes=classes, speaker="<i>{}{}</i>", folds=2)
    page = built(tmp_path / "study", [sweep])
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "i", "b"}
    assert not any(key.startswith("on") for _, known in page.elements for key in known)
    assert len(page.scripts) == 1
    assert script in page.words()


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    sweep = made(tmp_path, "iaan", name="=1+1", speaker="@SUM({}{})")
    built(tmp_path / "study", [sweep])
    assert rows_of(tmp_path / "study", "scores.csv")[0]["sweep"] == "'=1+1"


def test_the_folder_of_a_sweep_is_refused(tmp_path: Path) -> None:
    sweep = made(tmp_path, "iaan")
    with pytest.raises(FolderError, match="is the folder of a sweep"):
        build_study([sweep], sweep.ledger.storage, "made")


def test_two_thousand_trials_make_a_small_page_quickly(tmp_path: Path) -> None:
    sweeps = [
        multiplied(made(tmp_path, "iaan", folds=2, utterances=16), 2000),
        made(tmp_path, "bigru_att", folds=2, utterances=16),
    ]
    start = time.monotonic()
    page = built(tmp_path / "study", sweeps)
    assert time.monotonic() - start < 60
    assert (tmp_path / "study/index.html").stat().st_size < 8 * 2**20
    assert len(page.tables["trials"]) - 1 == 2000 + len(STATUSES)
    assert len(rows_of(tmp_path / "study", "trials.csv")) == 2000 + len(STATUSES)
    drawn = (tmp_path / "study/figures/search-trials.svg").stat().st_size
    assert drawn < 50_000


def test_more_trials_than_the_page_shows_are_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.report.study.MOST_TRIALS", 3)
    page = built(tmp_path / "study", [made(tmp_path, "iaan")])
    assert len(page.tables["trials"]) - 1 == 3
    assert "failed" not in {row[2] for row in page.tables["trials"][1:]}
    assert "The other 2 are in trials.csv" in page.words()
    assert len(rows_of(tmp_path / "study", "trials.csv")) == 5
