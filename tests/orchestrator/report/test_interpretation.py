"""The figures of attention and of embeddings against an inspection table of random numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.seals import parquet_bytes, sha256
from orchestrator.report import interpretation
from tests.support.made_sweep import CLASSES, make_sweep
from tests.support.report_page import best_of, page_of


def with_inspection(
    ledger: Ledger, speakers: bool, bands: int = 3, seconds: float | None = None
) -> list[dict[str, Any]]:
    """Give the best trial random embeddings and attention, and return the rows.

    bands : columns of the pictures, of 10 frames
    seconds : of the utterances; None: an old trial, which did not record them
    """
    rng = np.random.default_rng(0)
    best = best_of(ledger)
    rows = []
    for number, row in enumerate(ledger.predictions(best.id).to_pylist()):
        shown = number in (3, 9)
        weights = [rng.dirichlet(np.ones(5)).tolist() for _ in range(2)]
        curves = zip(("emotion", "speaker"), weights, strict=True)
        rows.append(
            {
                "fold": row["fold"],
                "utterance": row["utterance"],
                "speaker": row["speaker"],
                "truth": CLASSES[number % 4],
                "embedding": rng.normal(size=6).tolist(),
                "speaker_embedding": rng.normal(size=6).tolist() if speakers else None,
                "attention": [{"name": name, "weights": w} for name, w in curves]
                if shown
                else None,
                "picture": rng.normal(size=10 * bands).tolist() if shown else None,
                "bands": bands if shown else None,
            }
            | ({} if seconds is None else {"seconds": seconds if shown else None})
        )
    data = parquet_bytes(pa.Table.from_pylist(rows))
    ledger.trial_storage(best.id).write("inspection.parquet", data)
    files = best.files | {"inspection.parquet": sha256(data)}
    ledger.write_trial(best.model_copy(update={"files": files}))
    return rows


@pytest.mark.parametrize("speakers", [True, False], ids=["with speakers", "emotions only"])
def test_attention_and_embeddings_of_the_first_fold(tmp_path: Path, speakers: bool) -> None:
    ledger = make_sweep(tmp_path, ["complete"])
    assert "figure-attention" not in page_of(ledger).ids()
    rows = with_inspection(ledger, speakers)
    page = page_of(ledger)
    traces = page.figure("attention")["data"]
    curves = [trace for trace in traces if trace["type"] == "scatter"]
    shown = sorted((rows[3], rows[9]), key=lambda row: CLASSES.index(row["truth"]))
    expected = [curve["weights"] for row in shown for curve in row["attention"]]
    np.testing.assert_allclose([curve["y"] for curve in curves], expected, rtol=1e-3)
    # The 10 frames are pools of five frames of 10 ms: half a second. A weight is for two frames.
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
    assert not set.intersection(*legends)  # emotions and speakers have the same colours
    assert ("emotion and speaker together" in page.words()) == speakers
    assert page_of(ledger).figure("embeddings")["data"] == placed  # the same picture each time


@pytest.mark.parametrize("bands", [3, 1, 0])
def test_the_axis_of_attention_has_the_seconds_of_the_utterance(tmp_path: Path, bands: int) -> None:
    """Of an encoder with 50 frames a second; without a picture, only the weights are drawn."""
    ledger = make_sweep(tmp_path, ["complete"])
    rows = with_inspection(ledger, True, bands, seconds=0.2)
    shown = sorted((rows[3], rows[9]), key=lambda row: CLASSES.index(row["truth"]))
    traces = page_of(ledger).figure("attention")["data"]
    curves = [trace for trace in traces if trace.get("name") in ("emotion", "speaker")]
    expected = [curve["weights"] for row in shown for curve in row["attention"]]
    np.testing.assert_allclose([curve["y"] for curve in curves], expected, rtol=1e-3)
    np.testing.assert_allclose(curves[0]["x"], [0.02, 0.06, 0.1, 0.14, 0.18])
    pictures = [trace for trace in traces if trace not in curves]
    assert len(pictures) == (2 if bands else 0)
    for picture in pictures:
        np.testing.assert_allclose(picture["x"], 0.02 * np.arange(10) + 0.01)


def test_attention_over_turns_has_a_bar_for_each_turn(tmp_path: Path) -> None:
    """Of a model that reads a vector for each turn: there is no picture of the utterance."""
    ledger = make_sweep(tmp_path, ["complete"])
    best = best_of(ledger)
    rng = np.random.default_rng(1)
    # Sizes of the histories of the two shown utterances; the first turn of a dialogue has none.
    sizes = {3: (4, 3), 9: (0, 0)}
    rows = []
    for number, row in enumerate(ledger.predictions(best.id).to_pylist()):
        curves = [
            {"name": name, "weights": rng.dirichlet(np.ones(size)).tolist() if size else []}
            for name, size in zip(("own", "other"), sizes.get(number, (0, 0)), strict=True)
        ]
        rows.append(
            {
                "fold": row["fold"],
                "utterance": row["utterance"],
                "speaker": row["speaker"],
                "truth": CLASSES[number % 4],
                "embedding": rng.normal(size=6).tolist(),
                "speaker_embedding": None,
                "attention": curves if number in sizes else None,
                "picture": [] if number in sizes else None,
                "bands": 0 if number in sizes else None,
            }
        )
    data = parquet_bytes(pa.Table.from_pylist(rows))
    ledger.trial_storage(best.id).write("inspection.parquet", data)
    files = best.files | {"inspection.parquet": sha256(data)}
    ledger.write_trial(best.model_copy(update={"files": files}))
    page = page_of(ledger)
    shown = sorted((rows[3], rows[9]), key=lambda row: CLASSES.index(row["truth"]))
    expected = [curve["weights"] for row in shown for curve in row["attention"]]
    bars = page.figure("attention")["data"]
    assert [bar["type"] for bar in bars] == ["bar"] * 4
    for bar, weights in zip(bars, expected, strict=True):
        np.testing.assert_allclose(bar["y"], weights, rtol=1e-3)
        assert bar["x"] == list(range(-len(weights), 0))
    assert "The weights of own turns sum to 1" in page.words()
    assert "Each frame has a weight" not in page.words()


def test_tsne_uses_one_thread_and_leaves_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sklearn import manifold

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}

    class Watched(manifold.TSNE):
        def fit_transform(self, *arguments: Any) -> Any:
            used.append(threads())
            return super().fit_transform(*arguments)

    used: list[set[int]] = []
    vectors = np.random.default_rng(0).normal(size=(12, 3))
    alone = interpretation.tsne(vectors)
    monkeypatch.setattr(manifold, "TSNE", Watched)
    with threadpool_limits(2, user_api="openmp"):
        np.testing.assert_array_equal(interpretation.tsne(vectors), alone)
        assert threads() == {2}
    assert used == [{1}]
