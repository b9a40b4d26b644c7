"""Speakers with one class, with one utterance, and with little audio."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features.manifest import Manifest, normalise
from orchestrator.data.coverage import coverage_notes, speaker_coverage
from orchestrator.ledger.records import SpeakerCoverage
from tests.support.signals import RATE, encode, noise

CLASSES = ("ang", "neu")


def coverage(rows: list[tuple[str, str | None]], root: str = "nowhere", **columns: Any) -> Any:
    """Of rows of a speaker and a label; `xxx` and None are no classes."""
    speakers, labels = zip(*rows, strict=True)
    table = pa.table(
        {
            "file": [f"u{i}.wav" for i in range(len(rows))],
            "speaker": speakers,
            "emotion": pa.array(labels, pa.string()),
            **columns,
        }
    )
    numbers = [CLASSES.index(label) if label in CLASSES else -1 for label in labels]
    return speaker_coverage(Manifest(normalise(table), root), np.asarray(numbers))


def test_speakers_with_one_class_are_counted_with_their_share() -> None:
    got = coverage(
        [("a", "ang")] * 12
        + [("b", "ang"), ("b", "neu")] * 6
        + [("c", "neu"), ("c", "xxx"), ("c", None)] * 4
        + [("d", "xxx")] * 10
    )
    assert got == SpeakerCoverage(
        speakers=4,
        labelled_speakers=3,
        one_class=2,
        one_class_share=16 / 28,
        one_utterance=0,
        short=0,
    )
    (note,) = coverage_notes(got)
    assert "one class only: 2 of 3, with 57% of the labelled utterances" in note
    assert note.endswith("Set features.normalize: train.")


def test_a_speaker_for_each_utterance_is_named() -> None:
    got = coverage([(f"s{i}", CLASSES[i % 2]) for i in range(30)])
    assert (got.one_class, got.one_utterance, got.short) == (30, 30, 30)
    notes = list(coverage_notes(got))
    assert [note.partition(":")[0] for note in notes[:2]] == [
        "Speakers whose labelled utterances have one class only",
        "Speakers with one utterance only",
    ]
    assert "functionals of such an utterance are all zeros" in notes[1]
    assert notes[2].startswith("Each utterance has a speaker of its own")
    assert len(notes) == 3


def test_some_speakers_with_few_utterances_are_named() -> None:
    whole = [("a", "ang"), ("a", "neu")] * 40
    got = coverage([*whole, ("b", "ang"), *[("c", "ang"), ("c", "neu")] * 4])
    assert (got.one_utterance, got.short) == (1, 2)
    notes = list(coverage_notes(got))
    assert "Speakers with one utterance only: 1 of 3." in notes[1]
    assert "fewer than 10 utterances or less than 30 s: 2 of 3." in notes[2]
    assert notes[0].endswith("Compare with features.normalize: train.")  # 1 of 89 utterances


def test_the_length_comes_from_times_or_from_headers(tmp_path: Path) -> None:
    both = [("a", "ang"), ("a", "neu")] * 10 + [("b", "ang"), ("b", "neu")] * 10
    times = {"start": [0.0] * 40, "end": [1.4] * 20 + [1.6] * 20}
    assert coverage(both, **times).short == 1  # 28 s and 32 s
    for number in range(40):
        seconds = 1.6 if number < 20 else 1.4
        samples = noise(int(seconds * RATE))
        (tmp_path / f"u{number}.wav").write_bytes(encode(samples))
    assert coverage(both, root=str(tmp_path)).short == 1
    (tmp_path / "u25.wav").write_bytes(b"RIFF")  # now the length of b is not known
    assert coverage(both, root=str(tmp_path)).short == 0
    assert coverage(both).short == 0  # no file exists


def test_a_corpus_with_enough_of_everything_has_no_notes() -> None:
    rows = [(speaker, label) for speaker in "abc" for label in CLASSES for _ in range(10)]
    times = {"start": [0.0] * 60, "end": [3.0] * 60}
    got = coverage(rows, **times)
    assert (got.one_class, got.one_utterance, got.short) == (0, 0, 0)
    assert list(coverage_notes(got)) == []


@pytest.mark.parametrize(("few", "word"), [(1, "Compare with"), (10, "Set"), (40, "Set")])
def test_the_remedy_depends_on_the_share(few: int, word: str) -> None:
    rows = [(f"s{i}", label) for i in range(40) for label in CLASSES for _ in range(10)]
    rows += [(f"t{i}", "ang") for i in range(few) for _ in range(20)]
    (note,) = coverage_notes(coverage(rows))
    assert note.endswith(f"{word} features.normalize: train.")
