"""What `ser corpus` tells of recordings, compared with files that the test makes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from features.manifest import Manifest, normalise
from orchestrator.data.audio_headers import read_headers
from tests.support.signals import encode, noise


def manifest(root: Path | str, files: list[str], **columns: list) -> Manifest:
    same = {"speaker": ["a"] * len(files), "emotion": ["neu"] * len(files)}
    return Manifest(normalise(pa.table({"file": files, **same, **columns})), str(root))


def write(root: Path, seconds: dict[str, float], rate: int = 16_000) -> None:
    for name, length in seconds.items():
        soundfile.write(root / name, noise(int(length * rate)), rate)


def test_rates_channels_and_formats_are_counted_by_file(tmp_path: Path) -> None:
    write(tmp_path, {"a.wav": 1, "b.wav": 2, "c.flac": 3})
    write(tmp_path, {"d.wav": 1}, rate=44_100)
    soundfile.write(tmp_path / "e.ogg", np.zeros((8000, 2)), 8_000)
    (tmp_path / "f.xyz").write_bytes(bytes(range(256)))
    (tmp_path / "g").write_bytes(bytes(range(256)))
    files = ["a.wav", "a.wav", "b.wav", "c.flac", "d.wav", "e.ogg", "f.xyz", "g", "gone.wav"]
    starts = [0.0, 0.5] + [None] * 7
    found = read_headers(manifest(tmp_path, files, start=starts, end=[0.5] + [None] * 8))
    assert found.sample_rates == {"16000": 3, "44100": 1, "8000": 1}
    assert found.channels == {"1": 4, "2": 1}
    assert found.formats == {
        "WAV PCM_16": 3,
        "FLAC PCM_16": 1,
        "OGG VORBIS": 1,
        "XYZ": 1,
        "no suffix": 1,
    }
    assert found.seconds == pytest.approx(0.5 + 0.5 + 2 + 3 + 1 + 1)
    assert [problem.file for problem in found.problems] == ["f.xyz", "g"]


@pytest.mark.parametrize(
    ("start", "end"),
    [([100.0] * 3, [400.0, 900.0, 1500.0]), ([0.0] * 3, [500.0] * 3), ([300.0] * 3, [None] * 3)],
)
def test_segments_in_milliseconds_are_named(start: list, end: list, tmp_path: Path) -> None:
    files = {"a.wav": 0.5, "b.wav": 1.0, "c.wav": 1.5}
    write(tmp_path, files)
    found = read_headers(manifest(tmp_path, list(files), start=start, end=end))
    (problem,) = found.problems
    assert problem.file == "a.wav"
    reach = end[0] or start[0]
    assert problem.reason == (
        f"3 segments are beyond the end of their file; the first reaches {reach:.3f} s of 0.500 s. "
        "All fit as milliseconds: give start and end in seconds (divide them by 1000)"
    )
    assert found.seconds == (3.0 if start[0] == 0 else 0)


def test_segments_that_fit_in_no_unit_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"a.wav": 1.0, "b.wav": 2.0})
    files = ["a.wav", "a.wav", "b.wav", "b.wav"]
    found = read_headers(
        manifest(tmp_path, files, start=[0.5, 0.5, 0.5, 1.0], end=[1.0, 1.02, 2.1, 19.0])
    )
    (problem,) = found.problems
    assert problem.file == "b.wav"
    assert problem.reason.startswith("2 segments are beyond the end of their file; the first rea")
    assert "2.100 s of 2.000 s. Check the columns start and end" in problem.reason
    assert found.seconds == pytest.approx(0.5 + 0.5 + 1.5 + 1.0)


@pytest.mark.parametrize(
    "columns",
    [
        {"start": [0.0, 1.0], "end": [5.0, 4000.0]},
        {"dialogue_start": [0.0, 1000.0], "dialogue_end": [1.0, 99_000.0]},
        {"end": [601.0, 1.0]},
    ],
)
def test_long_utterances_are_named_if_no_header_can_be_read(columns: dict, tmp_path: Path) -> None:
    for root in (str(tmp_path), "s3://bucket/corpus?region=us-east-1"):
        (problem,) = read_headers(manifest(root, ["a.wav", "b.wav"], **columns)).problems
        assert problem.reason.startswith("1 utterances are longer than 10 minutes by their times")
    found = read_headers(manifest("s3://bucket/corpus?region=us-east-1", ["a.wav"], end=[599.0]))
    assert (found.seconds, found.problems) == (599, ())
    assert found.sample_rates == found.channels == found.formats == {}


def test_a_long_recording_is_no_problem(tmp_path: Path) -> None:
    write(tmp_path, {"a.wav": 700})
    found = read_headers(manifest(tmp_path, ["a.wav", "a.wav"], end=[None, 650.0]))
    assert (found.seconds, found.problems) == (1350, ())


def test_lengths_that_headers_do_not_name(tmp_path: Path) -> None:
    """A WAV of a recorder that was stopped, and a truncated MP3."""
    data = encode(noise(32_000))
    (tmp_path / "a.wav").write_bytes(data[:40] + bytes(4) + data[44:])
    mp3 = encode(noise(32_000), subtype="MPEG_LAYER_III", kind="MP3")
    (tmp_path / "b.mp3").write_bytes(mp3)
    (tmp_path / "c.mp3").write_bytes(mp3[: len(mp3) // 2])
    found = read_headers(manifest(tmp_path, ["a.wav", "b.mp3", "c.mp3"]))
    assert found.seconds == 4.0
    assert [problem.file for problem in found.problems] == ["c.mp3"]
    assert "truncated" in found.problems[0].reason
