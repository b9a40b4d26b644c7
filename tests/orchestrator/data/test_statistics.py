"""What `ser corpus` prints, against counts by hand."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from rich.console import Console

from features.manifest import Manifest, Problem, normalise
from orchestrator.data.statistics import context_counts, duration, render, summarise_corpus

CLASSES = ("ang", "neu")
KEYS = [
    "corpus", "utterances", "labelled", "duration_s", "classes", "speakers", "sessions",
    "dialogues", "context", "problems",
]  # fmt: skip


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
    """turn: 0 a ang | 1 b ang | 2 a ang | 3 b neu | 4 a xxx | 5 b neu | 6 a neu; and alone: neu

    own, other of the labelled:
    0 none, none: 0 agree     1 none, a0: 1      2 a0, b1: 2     3 b1, a2: 0
    5 b3, a4 (xxx): 1         6 a4 (xxx), b5: 1  alone: 0
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


def test_by_hand(dialogue: Manifest) -> None:
    found = summarise_corpus("mine", dialogue, labels(dialogue), CLASSES)
    assert list(found) == KEYS
    assert json.loads(json.dumps(found)) == {
        "corpus": "mine",
        "utterances": 8,
        "labelled": 7,
        "duration_s": 4.5,
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


def test_the_window_is_a_parameter(dialogue: Manifest) -> None:
    # One turn back is always the other's: nobody has an own one.
    assert context_counts(dialogue, labels(dialogue), window=1) == {
        "both_same": 0.0,
        "one_same": 3 / 7,  # 1, 2 and 6
        "none_same": 4 / 7,
        "no_previous_own": 7,
        "no_previous_other": 2,
    }


def test_nothing_labelled(dialogue: Manifest) -> None:
    found = context_counts(dialogue, np.full(8, -1))
    assert found == dict.fromkeys(found, 0)


def test_duration_from_segments_and_headers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "0.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "1.flac", np.zeros(4_000), 8_000)
    (tmp_path / "2.wav").write_bytes(b"not a recording")
    got = manifest(
        tmp_path,
        file=["0.wav", "0.wav", "0.wav", "1.flac", "2.wav", "gone.wav", "gone.wav"],
        start=[None, 0.25, 0.5, None, None, None, 1.0],
        end=[None, 0.75, None, None, None, None, 3.0],
    )
    seconds, problems = duration(got)
    assert seconds == pytest.approx(1 + 0.5 + 0.5 + 0.5 + 2.0)
    assert [problem.file for problem in problems] == ["2.wav"]
    found = summarise_corpus("mine", got, labels(got), CLASSES)
    assert found["problems"][0]["file"] == "2.wav"
    assert "its length is not known" in found["problems"][0]["reason"]
    assert summarise_corpus("mine", got, labels(got), CLASSES, audio=False)["duration_s"] is None


def test_duration_is_not_fetched_from_object_stores(dialogue: Manifest) -> None:
    root = "s3://bucket/corpus?region=us-east-1"
    untimed = Manifest(normalise(dialogue.table.drop(["dialogue_end"])), root)
    assert duration(untimed) == (None, [])
    assert duration(Manifest(dialogue.table, root)) == (4.5, [])


def test_the_table_says_the_same(dialogue: Manifest) -> None:
    problems = tuple(Problem(f"{i}.wav", "not on the disk (5 files): copy it") for i in range(5))
    found = summarise_corpus(
        "mine", Manifest(dialogue.table, dialogue.root, problems), labels(dialogue), CLASSES
    )
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(found, "/data/mine"))
    text = console.export_text()
    for words in (
        "mine: /data/mine",
        "ang 3 (42.9%), neu 4 (57.1%)",
        "3: a 4, b 3, c 1",
        "both same 14.3%",
        "no previous own 3",
        "0 h 00 min 04 s",
        "not on the disk (5 files): copy it",
        "0.wav, 1.wav, 2.wav and 2 more",
    ):
        assert words in text
