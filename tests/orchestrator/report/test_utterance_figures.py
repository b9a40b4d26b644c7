"""Attention and embeddings on the page of a study, PNG files, and recordings to play."""

import base64
import io
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.manifest import read_manifest
from features.storage import Storage
from orchestrator.report import players, raster
from orchestrator.report.study import build_study
from orchestrator.report.svg import Drawing
from orchestrator.report.utterance_figures import attention, averaged, grey_png, inspection_of
from orchestrator.results.opened import OpenedSweep
from orchestrator.results.study import study
from tests.orchestrator.report.test_interpretation import with_inspection
from tests.support.made_study import made
from tests.support.made_sweep import CLASSES
from tests.support.report_page import Page

SVG = "{http://www.w3.org/2000/svg}"


def test_the_page_shows_attention_embeddings_and_recordings(tmp_path: Path) -> None:
    sweep = made(tmp_path, "iaan", statuses=["complete"], folds=2, utterances=24)
    rows = with_inspection(sweep.ledger, speakers=True)
    shown = sorted((rows[3], rows[9]), key=lambda row: CLASSES.index(row["truth"]))
    tone = np.sin(np.arange(8000) / 5) * 0.5
    lines = ["id,file,speaker,emotion"]
    for row in shown:
        soundfile.write(tmp_path / f"{row['utterance']}.wav", tone, 16000)
        lines.append(f"{row['utterance']},{row['utterance']}.wav,{row['speaker']},{row['truth']}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    corpus = read_manifest(str(tmp_path / "manifest.csv"))
    target = tmp_path / "study"
    files = build_study(
        [OpenedSweep(sweep.ledger)], Storage.open(str(target)), "made", recordings=corpus
    )
    page = Page((target / "index.html").read_text(encoding="utf-8"))
    sources = [known["src"] for tag, known in page.elements if tag == "audio"]
    assert len(sources) == 2
    for source in sources:
        assert source is not None
        head, _, data = source.partition(",")
        assert head == "data:audio/flac;base64"
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert rate == 16000
        np.testing.assert_allclose(samples, tone, atol=1e-4)

    root = ET.parse(target / "figures/attention-iaan.svg").getroot()
    assert len(list(root.iter(f"{SVG}image"))) == 2
    curves = list(root.iter(f"{SVG}polyline"))
    assert len(curves) == 2 * 2
    weights = np.asarray(shown[0]["attention"][0]["weights"])
    heights = [float(p.split(",")[1]) for p in (curves[0].get("points") or "").split()]
    bottom = 24 + 96
    lengths = bottom - np.asarray(heights)
    np.testing.assert_allclose(lengths / lengths.max(), weights / weights.max(), atol=0.01)
    first = [row for row in rows if row["fold"] == rows[0]["fold"]]
    placed = ET.parse(target / "figures/embeddings-iaan.svg").getroot()
    # z_em and z_sp, each by emotion and by speaker
    assert sum(e.get("r") == "3" for e in placed.iter(f"{SVG}circle")) == 4 * len(first)

    for name in files:
        if name.endswith(".svg"):
            width = float(ET.parse(target / name).getroot().get("width", "nan"))
            png = (target / name).with_suffix(".png").read_bytes()
            assert png[:8] == b"\x89PNG\r\n\x1a\n"
            assert struct.unpack(">I", png[16:20])[0] == pytest.approx(2 * width, abs=1)
    without = build_study([OpenedSweep(sweep.ledger)], Storage.open(str(tmp_path / "mute")), "made")
    assert without == files
    assert "<audio" not in (tmp_path / "mute/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("bands", [1, 0])
def test_the_axis_of_a_drawing_has_the_seconds_of_the_utterance(tmp_path: Path, bands: int) -> None:
    sweep = made(tmp_path, "iaan", statuses=["complete"], folds=2, utterances=24)
    with_inspection(sweep.ledger, True, bands, seconds=8.0)
    (entry,) = study("made", [OpenedSweep(sweep.ledger)]).ranking
    inspection = inspection_of(entry)
    assert inspection is not None
    root = ET.fromstring(attention(entry, inspection))
    times = [text for e in root.iter(f"{SVG}text") if (text := e.text or "").endswith(" s")]
    assert times[-1] == "8 s"
    assert len(list(root.iter(f"{SVG}polyline"))) == 2 * (2 + bands)


def test_recordings_stop_at_the_limit_and_skip_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    for name in "ac":
        soundfile.write(tmp_path / f"{name}.wav", noise, 16000)
    (tmp_path / "b.wav").write_bytes(b"no sound")
    lines = [f"{name},{name}.wav,one,ang" for name in "abcd"]
    (tmp_path / "manifest.csv").write_text("\n".join(["id,file,speaker,emotion", *lines]))
    corpus = read_manifest(str(tmp_path / "manifest.csv"))
    whole = players.players(corpus, ["a", "b", "gone", "c", "d", "a"])
    assert list(whole) == ["a", "c"]
    monkeypatch.setattr(players, "MOST_BYTES", len(whole["a"]) + 1)
    assert list(players.players(corpus, ["c", "a"])) == ["c"]


def test_a_grey_png_has_the_largest_value_in_black() -> None:
    data = grey_png(np.asarray([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    assert struct.unpack(">II", data[16:24]) == (3, 2)
    start = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0]
    lines = zlib.decompress(data[start : start + size])
    assert list(lines) == [0, 255, 128, 0, 0, 0, 128, 255]
    assert len(grey_png(np.ones((2, 2)))) > 0  # without any contrast


def test_long_curves_are_averaged() -> None:
    values = np.arange(10.0)[:, None]
    np.testing.assert_array_equal(averaged(values, 5)[:, 0], [0.5, 2.5, 4.5, 6.5, 8.5])
    assert averaged(values, 10) is values
    uneven = averaged(np.ones((7, 2)), 3)
    np.testing.assert_array_equal(uneven, np.ones((3, 2)))


def test_texts_are_drawn_or_the_page_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    font = raster.installed_font()
    if font is not None:
        with_text, empty = Drawing(40, 20, ""), Drawing(40, 20, "")
        with_text.text((2, 16), "UA")
        assert raster.png(with_text.svg(), font) != raster.png(empty.svg(), font)
    monkeypatch.setattr("orchestrator.report.study.installed_font", lambda: None)
    sweep = made(tmp_path, "iaan", statuses=["complete"], folds=2, utterances=16)
    files = build_study([sweep], Storage.open(str(tmp_path / "study")), "made")
    assert not any(name.endswith(".png") for name in files)
    page = Page((tmp_path / "study/index.html").read_text(encoding="utf-8"))
    assert "no font that the program knows" in page.words()
