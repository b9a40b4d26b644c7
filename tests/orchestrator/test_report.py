"""The report against its sources: a sweep is written through the ledger, built, and read back."""

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_sweep import CLASSES, make_sweep
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from features.storage import Storage
from orchestrator.ledger import (
    Ledger,
    LedgerError,
    TrialRecord,
    parquet_bytes,
    sha256,
)
from orchestrator.report import build, summary

MIXED = ["complete", "complete", "pruned", "complete", "failed", "complete", "pruned", "complete"]


class Page(HTMLParser):
    """What a browser would find: elements, `data` values by id, tables' rows, JSON of figures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, float] = {}
        self.shown: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self._table = self._data = ""
        self._cell = False
        self._in = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.elements.append((tag, known))
        if tag == "data" and known.get("id"):
            self._data = str(known["id"])
            self.data[self._data] = float(str(known["value"]))
        elif tag == "table":
            self._table = str(known.get("id"))
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
            self._cell = True
        elif tag in ("script", "style"):
            self._in = tag
            if tag == "script":
                self.scripts.append((known, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False
        elif tag == "data":
            self._data = ""
        elif tag in ("script", "style"):
            self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            known, text = self.scripts[-1]
            self.scripts[-1] = (known, text + data)
        elif not self._in:
            self.text.append(data)
            if self._cell:
                self.tables[self._table][-1][-1] += data
            if self._data:
                self.shown[self._data] = self.shown.get(self._data, "") + data

    def ids(self) -> set[str]:
        return {str(known["id"]) for _, known in self.elements if "id" in known}

    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))

    def figure(self, name: str) -> dict[str, Any]:
        for known, text in self.scripts:
            if known.get("data-figure") == f"figure-{name}":
                return json.loads(text)
        raise KeyError(name)


def page_of(ledger: Ledger) -> Page:
    assert build(ledger) == ["report/folds.csv", "report/index.html", "report/trials.csv"]
    return Page(ledger.storage.read("report/index.html").decode())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return make_sweep(tmp_path_factory.mktemp("mixed"), MIXED, running=1)


@pytest.fixture(scope="module")
def page(mixed: Ledger) -> Page:
    return page_of(mixed)


def best_of(ledger: Ledger) -> TrialRecord:
    return max((r for r in ledger.trials() if r.score is not None), key=lambda r: r.score or 0)


def test_headline_is_recomputed_from_the_files(mixed: Ledger, page: Page) -> None:
    best = best_of(mixed)
    rows = mixed.predictions(best.id).to_pylist()
    truth, guess = [row["truth"] for row in rows], [row["prediction"] for row in rows]
    assert page.data["ua-pooled"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert page.data["wa-pooled"] == pytest.approx(accuracy_score(truth, guess))
    tests = [row for row in mixed.folds(best.id).to_pylist() if row["split"] == "test"]
    assert page.data["ua-mean"] == pytest.approx(np.mean([row["ua"] for row in tests]))
    assert page.data["wa-mean"] == pytest.approx(np.mean([row["wa"] for row in tests]))
    for name in ("ua-pooled", "ua-mean", "wa-pooled", "wa-mean"):
        assert page.shown[name] == f"{100 * page.data[name]:.1f}%"
    assert f"Trial {best.number} ({best.id}) has the highest mean UA on the validation part" in (
        page.words()
    )
    interval = stats.t.interval(
        0.95, 4, np.mean([r["ua"] for r in tests]), stats.sem([r["ua"] for r in tests])
    )
    assert f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" in page.words()
    assert "Chance: 25.0%" in page.words()


def test_nested_and_optimism_are_recomputed_from_the_files(mixed: Ledger, page: Page) -> None:
    tables = {r.number: mixed.folds(r.id).to_pylist() for r in mixed.trials() if r.score}
    ids = {record.number: record.id for record in mixed.trials()}
    ua, truth, guess, choices = [], [], [], {}
    for fold in [f"Ses{number:02d}" for number in range(1, 6)]:
        highest = {
            number: max(
                row["ua"] for row in rows if (row["fold"], row["split"]) == (fold, "validation")
            )
            for number, rows in tables.items()
        }
        choice = max(highest, key=lambda number: (highest[number], -number))
        choices[fold] = choice
        ua += [r["ua"] for r in tables[choice] if (r["fold"], r["split"]) == (fold, "test")]
        for row in mixed.predictions(ids[choice]).to_pylist():
            if row["fold"] == fold:
                truth.append(row["truth"])
                guess.append(row["prediction"])
    assert len(ua) == 5
    assert page.data["ua-nested-mean"] == pytest.approx(np.mean(ua))
    assert page.data["ua-nested-pooled"] == pytest.approx(balanced_accuracy_score(truth, guess))
    for part in ("pooled", "mean"):
        plain, nested = page.data[f"ua-{part}"], page.data[f"ua-nested-{part}"]
        assert page.data[f"optimism-{part}"] == pytest.approx(plain - nested)
    column = page.tables["folds"][0].index("Would choose trial")
    assert {row[0]: int(row[column]) for row in page.tables["folds"][1:]} == choices
    assert set(choices.values()) != {best_of(mixed).number}


def test_tables_of_folds_classes_and_trials(mixed: Ledger, page: Page) -> None:
    best = best_of(mixed)
    header, *body = page.tables["folds"]
    assert header[:7] == [
        "Fold",
        "Train",
        "Validation",
        "Test",
        "Epoch",
        "Validation UA",
        "Test UA",
    ]
    rows = mixed.folds(best.id).to_pylist()
    for line in body:
        epochs = max(row["epoch"] for row in rows if row["fold"] == line[0])
        test = next(r for r in rows if r["fold"] == line[0] and r["split"] == "test")
        assert line[1:4] == ["300", "60", "80"]
        assert line[4] == f"{test['epoch']} of {epochs}"
        assert line[6] == f"{100 * test['ua']:.1f}%"
        assert line[8:12] == [f"{100 * test[f'recall_{name}']:.1f}%" for name in CLASSES]
    predictions = mixed.predictions(best.id).to_pylist()
    truth, guess = ([row[key] for row in predictions] for key in ("truth", "prediction"))
    counts = confusion_matrix(truth, guess, labels=CLASSES)
    assert [[int(cell) for cell in row[-4:]] for row in page.tables["classes"][1:]] == (
        counts.tolist()
    )
    recalls = recall_score(truth, guess, labels=CLASSES, average=None)
    assert [row[1] for row in page.tables["classes"][1:]] == [f"{100 * r:.1f}%" for r in recalls]
    trials = page.tables["trials"][1:]
    assert [line[2] for line in trials] == MIXED
    assert [line[1] for line in trials] == [record.id for record in mixed.trials()]
    assert trials[4][-1] == "loss is not finite in fold Ses03, epoch 2"
    assert "5 complete, 2 pruned, 1 failed, 1 not ended" in page.words()
    assert {row[0] for row in page.tables["speakers"][1:]} == {r["speaker"] for r in predictions}


def test_figures_hold_the_same_numbers(mixed: Ledger, page: Page) -> None:
    best = best_of(mixed)
    predictions = mixed.predictions(best.id).to_pylist()
    truth, guess = ([row[key] for row in predictions] for key in ("truth", "prediction"))
    shares = confusion_matrix(truth, guess, labels=CLASSES, normalize="true")
    np.testing.assert_allclose(page.figure("confusion")["data"][0]["z"], shares)
    search = {trace["name"]: trace for trace in page.figure("search")["data"]}
    records = mixed.trials()
    for status in ("complete", "pruned"):
        chosen = [record for record in records if record.status == status]
        assert search[status]["x"] == [record.number for record in chosen]
        assert search[status]["y"] == [record.score for record in chosen]
    assert search["failed (no score)"]["x"] == [4]
    expected = [max(r.score or 0 for r in records[: end + 1]) for end in range(len(records))]
    assert search["best so far"]["y"] == expected
    curves = page.figure("curves")["data"]
    rows = mixed.folds(best.id).to_pylist()
    for fold in {row["fold"] for row in rows}:
        traces = [trace for trace in curves if trace["name"] == fold]
        assert len(traces) == 4  # train and validation, UA and loss
        values = [r["ua"] for r in rows if (r["fold"], r["split"]) == (fold, "validation")]
        assert values in [trace["y"] for trace in traces]


def test_summary_is_json_and_agrees_with_the_page(mixed: Ledger, page: Page) -> None:
    found = json.loads(json.dumps(summary(mixed), allow_nan=False))
    assert found["best"]["trial"] == best_of(mixed).id
    assert found["best"]["hyperparameters"] == best_of(mixed).hyperparameters
    assert found["best"]["pooled"]["ua"]["value"] == page.data["ua-pooled"]
    low, high = (found["best"]["pooled"]["ua"][end] for end in ("low", "high"))
    assert low < page.data["ua-pooled"] < high
    assert found["best"]["mean_over_folds"]["wa"]["value"] == page.data["wa-mean"]
    assert found["nested"]["pooled"]["ua"] == page.data["ua-nested-pooled"]
    assert found["optimism"]["mean_over_folds"]["ua"] == page.data["optimism-mean"]
    assert found["trials"] == {"complete": 5, "pruned": 2, "failed": 1, "unfinished": 1}
    assert found["chance"]["ua"] == 0.25
    assert found["notes"] == ["Synthetic numbers: this sweep was made by a test."]
    assert len(found["best"]["folds"]) == 5
    assert not found["optimistic"]


def test_context_cases_are_counted_from_the_predictions(mixed: Ledger, page: Page) -> None:
    best = summary(mixed)["best"]
    rows = mixed.predictions(best["trial"]).to_pylist()
    cases: dict[str, list[dict[str, Any]]] = {"both": [], "one": [], "none": []}
    for row in rows:
        equal = [row["truth"] == row[key] for key in ("own_previous", "other_previous")]
        cases[("none", "one", "both")[sum(equal)]].append(row)
    assert [case["same"] for case in best["context"]] == list(cases)
    for case in best["context"]:
        mine = cases[case["same"]]
        truth, guess = [row["truth"] for row in mine], [row["prediction"] for row in mine]
        assert case["utterances"] == len(mine) > 0
        assert case["share"] == pytest.approx(len(mine) / len(rows))
        assert case["wa"] == pytest.approx(accuracy_score(truth, guess))
        assert case["ua"] == pytest.approx(balanced_accuracy_score(truth, guess))
    shown = page.tables["context"][1:]
    assert [int(cells[1]) for cells in shown] == [case["utterances"] for case in best["context"]]


def test_csv_files_hold_every_trial_and_every_epoch(mixed: Ledger, page: Page) -> None:
    text = mixed.storage.read("report/trials.csv").decode()
    trials = list(csv.DictReader(io.StringIO(text)))
    records = mixed.trials()
    assert [row["trial"] for row in trials] == [record.id for record in records]
    for row, record in zip(trials, records, strict=True):
        assert row["status"] == record.status
        assert (float(row["score"]) if row["score"] else None) == record.score
        assert (
            float(row["training.learning_rate"])
            == (record.hyperparameters["training.learning_rate"])
        )
    folds = list(csv.DictReader(io.StringIO(mixed.storage.read("report/folds.csv").decode())))
    scored = [record for record in records if record.status != "failed"]
    assert len(folds) == sum(mixed.folds(record.id).num_rows for record in scored)
    first = mixed.folds(scored[0].id).to_pylist()[0]
    assert {
        key: str(value) for key, value in first.items() if key in ("fold", "epoch", "split")
    } == {key: folds[0][key] for key in ("fold", "epoch", "split")}
    assert float(folds[0]["ua"]) == first["ua"]


def test_same_sweep_gives_the_same_bytes(mixed: Ledger, page: Page) -> None:
    before = {name: mixed.storage.read(name) for name in build(mixed)}
    assert {name: mixed.storage.read(name) for name in build(mixed)} == before


def test_page_needs_no_network(page: Page) -> None:
    for tag, known in page.elements:
        for attribute in ("src", "href", "action", "data", "srcset", "poster"):
            assert attribute not in known, (tag, known)
    assert "url(" not in (Path(str(page_css())).read_text())
    policy = [str(known.get("content")) for tag, known in page.elements if tag == "meta"]
    assert any(content.startswith("default-src 'none'") for content in policy)
    scripts = [text for known, text in page.scripts if "data-figure" not in known]
    assert sum("plotly.js v" in text[:200] for text in scripts) == 1


def page_css() -> Path:
    import orchestrator.report

    return Path(str(orchestrator.report.__file__)).parent / "page.css"


def test_provenance_is_on_the_page(page: Page) -> None:
    words = page.words()
    for text in ("9f3c1a77e2", "torch 2.13.0", "2025-01-02T03:04:05", "scheme: leave_one_session"):
        assert text in words
    assert words.count("(= UAR)") == 1


def test_held_out_is_marked_wherever_a_score_is_shown(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, MIXED, selection="held_out")
    page = page_of(ledger)
    assert "optimistic-banner" in page.ids()
    assert "nested-unavailable" in page.ids()
    assert not any("nested" in name for name in page.data)
    tags = sum(known.get("class") == "tag" for _, known in page.elements)
    assert tags >= 6  # three headline scores, recalls, confusion, folds
    assert "optimistic" in page.figure("search")["layout"]["yaxis"]["title"]["text"]
    assert "Validation" not in page.tables["folds"][0]
    found = summary(ledger)
    assert found["optimistic"]
    assert found["nested"] is None
    assert found["optimism"] is None
    assert "no validation part" in found["nested_unavailable"]
    # The row that is reported is the selected epoch's, not another of the test rows.
    rows = [r for r in ledger.folds(best_of(ledger).id).to_pylist() if r["split"] == "test"]
    chosen = [row["ua"] for row in rows if row["selected"]]
    assert len(chosen) == 5
    assert page.data["ua-mean"] == pytest.approx(np.mean(chosen))


def test_what_a_corpus_calls_things_is_text_and_not_markup(tmp_path: Path) -> None:
    classes = ["</script><script>alert(1)</script>", "<b>hap</b>", 'a&b "q"', "{{ 7*7 }}"]
    ledger = make_sweep(
        tmp_path,
        MIXED,
        classes=classes,
        name="<img src=x onerror=alert(1)>",
        speaker="<i onclick=alert(1)>Ses{:02d}{}</i>",
        extra={"notes": ["<iframe src=javascript:alert(1)>"], "versions": {"<u>": "</footer>"}},
    )
    page = page_of(ledger)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "i", "b", "iframe", "u"}
    assert not any(key.startswith("on") for _, known in page.elements for key in known)
    assert [row[0] for row in page.tables["classes"][1:]] == classes
    assert page.tables["speakers"][1][0] == "<i onclick=alert(1)>Ses01F</i>"
    assert "<img src=x onerror=alert(1)>" in page.words()
    # Four figures, plotly and the page's own script: nothing else became a script.
    assert len(page.scripts) == 6
    # plotly's labels know some HTML too, so what stands in them is escaped once more.
    assert page.figure("confusion")["data"][0]["x"][1] == "&lt;b&gt;hap&lt;/b&gt;"


@pytest.mark.parametrize(
    ("statuses", "running", "says"),
    [
        ([], 0, "No trial has ended yet."),
        ([], 2, "No trial has ended yet."),
        (["failed"], 0, "The only trial failed."),
        (["failed"] * 3, 1, "All 3 trials failed."),
    ],
)
def test_sweep_without_a_score(
    tmp_path: Path, statuses: list[str], running: int, says: str
) -> None:
    ledger = make_sweep(tmp_path, statuses, running=running)
    page = page_of(ledger)
    assert says in page.words()
    assert "no-score" in page.ids()
    if statuses:
        assert "0: loss is not finite" in page.words() or "0, 1, 2: loss" in page.words()
    assert page.data == {}
    found = summary(ledger)
    assert found["best"] is None
    assert found["nested_unavailable"] == "No trial has ended with a score."
    assert found["trials"]["unfinished"] == running
    assert len(page.tables.get("trials", [[]])) == 1 + len(statuses)
    assert len(ledger.storage.read("report/trials.csv").splitlines()) == 1 + len(statuses)
    assert len(ledger.storage.read("report/folds.csv").splitlines()) == 1


def test_one_trial_of_one_fold(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"], folds=1)
    page = page_of(ledger)
    assert page.data["optimism-pooled"] == 0
    assert page.shown["optimism-pooled"] == "0.0 points"
    found = summary(ledger)
    assert found["best"]["mean_over_folds"]["ua"]["low"] is None
    assert any("one fold" in warning for warning in found["warnings"])
    assert any("2 speakers" in warning for warning in found["warnings"])


def test_sparse_sweep_file_still_gives_a_report(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete", "pruned"])
    ledger.write_sweep({"name": "bare", "classes": CLASSES})
    page = page_of(ledger)
    assert page.data["ua-pooled"] > 0.25
    assert summary(ledger)["selection"] == "validation"


def test_unsaid_and_contradicting_scores_are_warned_of(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"], seed=4)
    folder = ledger.trial_storage("0000000000")
    record = ledger.trial("0000000000")
    assert record is not None
    table = ledger.folds("0000000000")
    rows = table.to_pylist()
    for row in rows:
        if row["fold"] == "Ses02" and row["split"] == "test":
            row |= {"ua": 0.99, "recall_sad": 0.0}
        if row["fold"] == "Ses04" and row["split"] == "test":
            row |= {"recall_hap": math.nan}
    data = parquet_bytes(pa.Table.from_pylist(rows))
    folder.write("folds.parquet", data)
    assert ledger.trial(record.id) is None  # the ledger sees that the file is another
    ledger.write_trial(
        record.model_copy(update={"files": {**record.files, "folds.parquet": sha256(data)}})
    )
    warnings = " ".join(summary(ledger)["warnings"])
    assert "Fold Ses02: the recorded test UA does not follow" in warnings
    assert "sad was never recognised in fold Ses02" in warnings
    assert "No test utterance is hap in fold Ses04" in warnings


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"no sweep\.yaml"):
        build(Ledger(Storage.open(str(tmp_path))))


def with_inspection(ledger: Ledger, speakers: bool) -> list[dict[str, Any]]:
    """Give the best trial embeddings and attention of random numbers; its rows."""
    rng = np.random.default_rng(0)
    best = best_of(ledger)
    rows = []
    for number, row in enumerate(ledger.predictions(best.id).to_pylist()):
        shown = number in (3, 9)
        weights = [rng.dirichlet(np.ones(5)).tolist() for _ in range(2)]
        rows.append(
            {
                "fold": row["fold"],
                "utterance": row["utterance"],
                "speaker": row["speaker"],
                "truth": CLASSES[number % 4],
                "embedding": rng.normal(size=6).tolist(),
                "speaker_embedding": rng.normal(size=6).tolist() if speakers else None,
                "attention": [
                    {"name": name, "weights": w}
                    for name, w in zip(("emotion", "speaker"), weights, strict=True)
                ]
                if shown
                else None,
                "picture": rng.normal(size=10 * 3).tolist() if shown else None,
                "bands": 3 if shown else None,
            }
        )
    data = parquet_bytes(pa.Table.from_pylist(rows))
    ledger.trial_storage(best.id).write("inspection.parquet", data)
    files = best.files | {"inspection.parquet": sha256(data)}
    ledger.write_trial(best.model_copy(update={"files": files}))
    return rows


@pytest.mark.parametrize("speakers", [True, False])
def test_attention_and_embeddings_of_the_first_fold_are_drawn(
    tmp_path: Path, speakers: bool
) -> None:
    ledger = make_sweep(tmp_path, ["complete"], extra={})
    assert "figure-attention" not in page_of(ledger).ids()
    rows = with_inspection(ledger, speakers)
    page = page_of(ledger)
    traces = page.figure("attention")["data"]
    curves = [trace for trace in traces if trace["type"] == "scatter"]
    shown = sorted((rows[3], rows[9]), key=lambda row: CLASSES.index(row["truth"]))
    expected = [curve["weights"] for row in shown for curve in row["attention"]]
    np.testing.assert_allclose([curve["y"] for curve in curves], expected, rtol=1e-3)
    # Ten frames of 10 ms, averaged by five before: half a second, and a step is two of them.
    np.testing.assert_allclose(curves[0]["x"], [0.05, 0.15, 0.25, 0.35, 0.45])
    heat = next(trace for trace in traces if trace["type"] == "heatmap")
    np.testing.assert_allclose(np.asarray(heat["z"]).T.ravel(), shown[0]["picture"], atol=1e-3)
    placed = page.figure("embeddings")["data"]
    first = [row for row in rows if row["fold"] == rows[0]["fold"]]
    panels = 4 if speakers else 2
    assert sum(len(trace["x"]) for trace in placed) == panels * len(first)
    by_emotion = {trace["name"]: len(trace["x"]) for trace in placed[:4]}
    assert by_emotion == {name: sum(row["truth"] == name for row in first) for name in CLASSES}
    assert ("emotion and speaker together" in page.words()) == speakers
    assert page_of(ledger).figure("embeddings")["data"] == placed  # the same picture each time
