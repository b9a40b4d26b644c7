"""Reports of sweeps that are not the usual one: held-out, hostile names, without scores, sparse."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.support.made_sweep import CLASSES, make_sweep
from tests.support.report_page import best_of, page_of

from features.storage import Storage
from orchestrator.ledger.ledger import (
    Ledger,
    LedgerError,
    parquet_bytes,
    sha256,
)
from orchestrator.report import build, summary

MIXED = ["complete", "complete", "pruned", "complete", "failed", "complete", "pruned", "complete"]


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
    legends = [{t["legend"] for t in placed if (t["name"] in CLASSES) == kind} for kind in (0, 1)]
    assert not set.intersection(*legends)  # emotions and speakers are of the same colours
    assert ("emotion and speaker together" in page.words()) == speakers
    assert page_of(ledger).figure("embeddings")["data"] == placed  # the same picture each time
