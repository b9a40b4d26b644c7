"""`--segment speech` finds the utterances of a recording that was made from several ones."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.manifest import read_manifest
from orchestrator.errors import DependencyError
from orchestrator.inference.model import load_model
from orchestrator.inference.recognise import recognise
from orchestrator.inference.speech import LONGEST, stretches
from tests.support.signals import RATE
from tests.support.small_sweep import Sweeps


def silence(seconds: float) -> np.ndarray:
    """Very quiet noise."""
    return np.random.default_rng(0).normal(0, 1e-4, round(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def utterances(spoken: Path) -> list[np.ndarray]:
    """Spoken utterances."""
    pytest.importorskip("silero_vad")
    files = read_manifest(str(spoken)).table["file"].to_pylist()[:24]
    return [soundfile.read(spoken.parent / file, dtype="float32")[0] for file in files]


def test_each_utterance_of_a_recording_gets_a_row(
    utterances: list[np.ndarray], sweeps: Sweeps, tmp_path: Path
) -> None:
    first, second = utterances[:2]
    recording = np.concatenate([silence(1.5), first, silence(2), second, silence(1)])
    soundfile.write(tmp_path / "long.flac", recording, RATE)
    soundfile.write(tmp_path / "noise.flac", silence(2), RATE)
    model = load_model(str(sweeps("iaan")[0]), fold="Ses01")
    labelled = recognise(model, [str(tmp_path)], segment="speech")

    begins = [1.5, 1.5 + len(first) / RATE + 2]
    ends = [begins[0] + len(first) / RATE, begins[1] + len(second) / RATE]
    rows = labelled.table.to_pylist()
    assert [row["start"] for row in rows] == pytest.approx(begins, abs=0.3)
    assert [row["end"] for row in rows] == pytest.approx(ends, abs=0.3)
    pieces = [recording[round(row["start"] * RATE) : round(row["end"] * RATE)] for row in rows]
    speaker = model.speaker(pieces, RATE)
    for row, piece in zip(rows, pieces, strict=True):
        for name, posterior in model.predict(piece, RATE, speaker).items():
            assert row[f"posterior_{name}"] == pytest.approx(posterior, abs=1e-2)  # 16 bits
    ((file, reason),) = labelled.skipped
    assert (Path(file).name, reason) == ("noise.flac", "no speech")


def test_long_speech_is_cut(utterances: list[np.ndarray]) -> None:
    recording = np.concatenate(utterances)
    assert len(recording) / RATE > 2 * LONGEST
    found = stretches(recording)
    assert all(end - start <= LONGEST + 0.1 for start, end in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(found))
    assert sum(end - start for start, end in found) > 0.8 * len(recording) / RATE


def test_the_missing_package_is_named(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(str(sweeps("iaan")[0]), fold="Ses01")
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(DependencyError, match=r"--segment speech needs .*ser-orchestrator\[vad\]"):
        recognise(model, ["x.wav"], segment="speech")
