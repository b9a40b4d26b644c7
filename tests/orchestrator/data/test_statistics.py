"""The summary of a corpus, compared with counts by hand."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from features.manifest import Manifest, normalise
from orchestrator.data.audio_headers import AudioHeaders, read_headers
from orchestrator.data.statistics import context_counts, summarise_corpus

CLASSES = ("ang", "neu")


def manifest(root: Path, **columns: list) -> Manifest:
    rows = len(next(iter(columns.values())))
    defaults = {
        "file": [f"{i}.wav" for i in range(rows)],
        "speaker": ["a"] * rows,
        "emotion": ["neu"] * rows,
    }
    return Manifest(normalise(pa.table(defaults | columns)), str(root))


def labels(of: Manifest) -> np.ndarray:
    position = {name: index for index, name in enumerate(CLASSES)}
    return np.asarray([position.get(e, -1) for e in of.table["emotion"].to_pylist()])


@pytest.fixture
def dialogue(tmp_path: Path) -> Manifest:
    """Seven turns of a and b in a dialogue, and an utterance of c (neu) in no dialogue.

    turn : 0 a ang | 1 b ang | 2 a ang | 3 b neu | 4 a xxx | 5 b neu | 6 a neu

    Previous turn of the same speaker and of the other speaker, and how many have the same class:
    0 absent, absent: 0     1 absent, a0: 1        2 a0, b1: 2     3 b1, a2: 0
    5 b3, a4 (xxx): 1       6 a4 (xxx), b5: 1      c absent, absent: 0
    """
    return manifest(
        tmp_path,
        speaker=["a", "b", "a", "b", "a", "b", "a", "c"],
        emotion=["ang", "ang", "ang", "neu", "xxx", "neu", "neu", "neu"],
        dialogue=["d"] * 7 + [None],
        session=["1"] * 7 + ["2"],
        dialogue_start=[0.0, 1, 2, 3, 4, 5, 6, 7],
        dialogue_end=[0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 8.0],
    )


def test_a_summary_has_the_counts_of_the_manifest(dialogue: Manifest) -> None:
    summary = summarise_corpus("mine", dialogue, labels(dialogue), CLASSES)
    assert json.loads(summary.model_dump_json()) == {
        "corpus": "mine",
        "utterances": 8,
        "labelled": 7,
        "duration_s": 4.5,
        "sample_rates": {},
        "channels": {},
        "formats": {},
        "classes": {"ang": 3, "neu": 4},
        "speakers": {"a": 4, "b": 3, "c": 1},
        "sessions": {"1": 7, "2": 1},
        "dialogues": 1,
        "context": {
            "both_same": 1 / 7,
            "one_same": 3 / 7,
            "none_same": 3 / 7,
            "no_previous_own": 3,
            "no_previous_other": 2,
        },
        "problems": [],
    }


def test_a_manifest_without_labels_has_no_context_counts(dialogue: Manifest) -> None:
    counts = context_counts(dialogue, np.full(8, -1)).model_dump()
    assert counts == dict.fromkeys(counts, 0)


def test_duration_is_summed_from_segments_and_headers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "0.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "1.flac", np.zeros(4_000), 8_000)
    (tmp_path / "2.wav").write_bytes(b"not a recording")
    recordings = manifest(
        tmp_path,
        file=["0.wav", "0.wav", "0.wav", "1.flac", "2.wav", "gone.wav", "gone.wav"],
        start=[None, 0.25, 0.5, None, None, None, 1.0],
        end=[None, 0.75, None, None, None, None, 3.0],
    )
    found = read_headers(recordings)
    assert found.seconds == pytest.approx(1 + 0.5 + 0.5 + 0.5 + 2.0)
    assert [problem.file for problem in found.problems] == ["2.wav"]
    arguments = ("mine", recordings, labels(recordings), CLASSES)
    summary = summarise_corpus(*arguments)
    assert summary.sample_rates == {"16000": 1, "8000": 1}
    assert summary.formats == {"WAV PCM_16": 1, "FLAC PCM_16": 1, "WAV": 1}
    (problem,) = summary.problems
    assert problem.file == "2.wav"
    assert "its length is unknown" in problem.reason
    without = summarise_corpus(*arguments, audio=False)
    assert without.duration_s is None
    assert without.problems == []


def test_pointers_in_place_of_recordings_are_named(tmp_path: Path) -> None:
    (tmp_path / "0.wav").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    (tmp_path / "1.wav").write_text("/annex/objects/SHA256E-s9--0.wav\n")
    (tmp_path / "2.wav").write_text("../.git/annex/objects/a/b/0.wav")
    found = read_headers(manifest(tmp_path, file=["0.wav", "1.wav", "2.wav"]))
    assert found.seconds == 0
    reasons = [problem.reason.partition(" in place")[0] for problem in found.problems]
    assert reasons == ["a pointer of Git LFS", "a pointer of git-annex", "a pointer of git-annex"]


def test_duration_of_recordings_in_any_place(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for name, samples in (("corpus/a.wav", 8_000), ("b.wav", 16_000), ("c.wav", 32_000)):
        soundfile.write(tmp_path / name, np.zeros(samples), 16_000)
    files = ["a.wav", "../b.wav", f"{tmp_path}/c.wav", "/gone.wav"]
    table = pa.table({"file": files, "speaker": ["s"] * 4, "emotion": ["neu"] * 4})
    own = Manifest(normalise(table, own=True), str(tmp_path / "corpus"), own=True)
    found = read_headers(own)
    assert (found.seconds, found.problems) == (3.5, ())


def test_duration_is_not_fetched_from_object_stores(dialogue: Manifest) -> None:
    root = "s3://bucket/corpus?region=us-east-1"
    untimed = Manifest(normalise(dialogue.table.drop(["dialogue_end"])), root)
    assert read_headers(untimed) == AudioHeaders(None)
    assert read_headers(Manifest(dialogue.table, root)) == AudioHeaders(4.5)
