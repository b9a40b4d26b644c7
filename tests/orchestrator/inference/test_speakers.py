"""Speakers of whom there is little audio: the arithmetic, and who shares statistics."""

from pathlib import Path

import numpy as np
import pytest

from features.statistics import Statistics
from orchestrator.errors import UsageError
from orchestrator.inference.inputs import requests
from orchestrator.inference.model import load_model
from orchestrator.inference.reading import windows
from orchestrator.inference.recognise import recognise
from orchestrator.inference.speakers import shrunk, speaker_statistics, typical
from tests.support.signals import RATE, encode
from tests.support.small_sweep import Sweeps
from tests.support.voices import voice


@pytest.mark.parametrize(
    ("seconds", "vectors", "weight"),
    [
        (0.5, False, 0.05),
        (4.0, False, 0.4),
        (10.0, False, 1.0),
        (90.0, False, 1.0),
        (90.0, True, 0.3),  # three utterances
        (2.0, True, 0.2),
    ],
)
def test_statistics_are_shrunk_as_numpy_blends_them(
    seconds: float, vectors: bool, weight: float
) -> None:
    rng = np.random.default_rng(0)
    said = [rng.normal(3, 2, (length, 4)).astype(np.float32) for length in (5, 30, 17)]
    speaker = speaker_statistics(said, seconds)
    assert speaker.weight(vectors) == pytest.approx(weight)
    trained = [rng.normal(size=(20, 4)) * k + k for k in (1, 2, 3)]
    prior = typical([Statistics(20, frames.mean(0), frames.std(0)) for frames in trained])
    blended = shrunk(speaker.own, prior, speaker.weight(vectors))

    frames = np.concatenate(said).astype(np.float64)
    mean = weight * frames.mean(0) + (1 - weight) * np.mean([t.mean(0) for t in trained], axis=0)
    variance = weight * frames.var(0) + (1 - weight) * np.mean([t.var(0) for t in trained], axis=0)
    np.testing.assert_allclose(blended.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(blended.deviation**2, variance, rtol=1e-12)


def test_windows_have_one_length_and_cover_the_recording() -> None:
    assert windows(9.9, 10) == [(0, 9.9)]
    parts = windows(25.0, 10)
    assert len(parts) == 3
    assert [start for start, _ in parts[1:]] == [end for _, end in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == (0, 25.0)
    assert {round(end - start, 9) for start, end in parts} == {round(25 / 3, 9)}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two folders with two files of 1.5 s each."""
    for number, speaker in enumerate(("ann", "bob")):
        (tmp_path / speaker).mkdir()
        for take, emotion in enumerate(("ang", "sad")):
            sound = encode(voice(emotion, number, take, seconds=1.5))
            (tmp_path / speaker / f"{emotion}.wav").write_bytes(sound)
    return tmp_path


def test_a_folder_is_a_speaker_only_if_asked(recordings: Path, sweeps: Sweeps) -> None:
    model = load_model(str(sweeps("iaan")[0]), fold="Ses01")
    by_file = recognise(model, [str(recordings)]).table.to_pylist()
    none = recognise(model, [str(recordings)], "none").table.to_pylist()
    by_folder = recognise(model, [str(recordings)], "folder").table.to_pylist()
    assert by_file == none
    assert [row["speaker"] for row in by_file] == [None] * 4
    assert [row["speaker"] for row in by_folder] == ["ann", "ann", "bob", "bob"]
    for rows, seconds in ((by_file, 1.5), (by_folder, 3.0)):
        assert {row["statistics"] for row in rows} == {"shrunk"}
        for row in rows:
            assert row["speaker_seconds"] == pytest.approx(seconds)
            assert row["speaker_weight"] == pytest.approx(seconds / 10)
    assert by_file[0]["posterior_ang"] != by_folder[0]["posterior_ang"]
    with pytest.raises(UsageError, match="--speaker-from: no 'file'"):
        recognise(model, [str(recordings)], "file")


def test_segments_are_the_pieces_of_the_recording(recordings: Path, sweeps: Sweeps) -> None:
    model = load_model(str(sweeps("iaan")[0]), fold="Ses01")
    path = recordings / "ann" / "ang.wav"
    rows = recognise(model, [str(path)], segment=0.6).table.to_pylist()
    assert [(row["start"], row["end"]) for row in rows] == [(0, 0.5), (0.5, 1.0), (1.0, 1.5)]
    # The windows of one file share statistics, which are not those of one window alone.
    assert {round(row["speaker_seconds"], 6) for row in rows} == {1.5}
    sound = voice("ang", 0, 0, seconds=1.5)
    pieces = [sound[start : start + RATE // 2] for start in range(0, len(sound), RATE // 2)]
    speaker = model.speaker(pieces, RATE)
    for row, piece in zip(rows, pieces, strict=True):
        expected = model.predict(piece, RATE, speaker)
        for name, posterior in expected.items():
            # The file has 16 bits, and the piece has more.
            assert row[f"posterior_{name}"] == pytest.approx(posterior, abs=1e-3)
    with pytest.raises(UsageError, match=r"--segment: 0\.01 s is too short"):
        recognise(model, [str(path)], segment=0.01)


def test_hidden_files_and_other_suffixes_of_a_folder_are_not_taken(recordings: Path) -> None:
    (recordings / "notes.md").write_text("x")
    (recordings / "ann" / "._ang.wav").write_bytes(b"")
    found = [request.file for request in requests([str(recordings)])]
    assert found == ["ann/ang.wav", "ann/sad.wav", "bob/ang.wav", "bob/sad.wav"]
