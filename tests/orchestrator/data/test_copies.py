"""Copies of a recording in two parts of a fold stop the run, or are counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from features.manifest import Manifest, normalise, read_manifest
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.data.audit import AuditError
from orchestrator.data.copies import audit_copies
from orchestrator.data.folds import Fold, Promise
from orchestrator.data.prepare import Prepared, plan_folds, prepare
from orchestrator.errors import ConfigError
from tests.support.copies import COPIES, speech
from tests.support.extraction import run_without_ray
from tests.support.signals import RATE, encode

CLASSES = ["ang", "neu"]
LEFT_OUT = {"scheme": "leave_one_session_out"}


def recordings(root: Path) -> list[dict[str, Any]]:
    """Three sessions of two speakers with four recordings each; writes the files."""
    rows = []
    for number in range(24):
        session, speaker = number // 8, "ab"[number % 2]
        rows.append(
            {
                "file": f"s{session}_{number:02d}.wav",
                "speaker": f"s{session}{speaker}",
                "session": f"s{session}",
                "emotion": CLASSES[number // 2 % 2],
            }
        )
        (root / rows[-1]["file"]).write_bytes(encode(speech(RATE // 4, seed=number)))
    return rows


def prepared(root: Path, rows: list[dict[str, Any]], folds: dict[str, Any]) -> Prepared:
    """The data of a run, extracted in this process."""
    pacsv.write_csv(pa.Table.from_pylist(rows), root / "manifest.csv")
    configuration = parse(
        {
            "name": "x",
            "corpus": {"root": str(root / "manifest.csv"), "classes": CLASSES},
            "model": {"name": "bigru_att"},
            "folds": folds,
        }
    )
    storage = Storage.open(str(root / "runs"))
    manifest: Manifest = read_manifest(configuration.corpus.root)
    run_without_ray(manifest, storage.child("features"), configuration.features)
    return prepare(plan_folds(configuration), storage, lambda *_: None)


def with_copy(root: Path, kind: str, seed: int, **place: str) -> list[dict[str, Any]]:
    """The recordings, and a copy of the one with this seed under another name."""
    suffix, encoder = COPIES[kind]
    (root / "more").mkdir()
    (root / f"more/again{suffix}").write_bytes(encoder(speech(RATE // 4, seed=seed)))
    rows = recordings(root)
    return [*rows, {**rows[seed], "file": f"more/again{suffix}", **place}]


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("selection", ["validation", "held_out"])
def test_a_copy_in_another_session_stops_the_run_with_both_names(
    tmp_path: Path, kind: str, selection: str
) -> None:
    rows = with_copy(tmp_path, kind, 3, session="s2", speaker="x")
    with pytest.raises(ConfigError) as caught:
        prepared(tmp_path, rows, LEFT_OUT | {"selection": selection})
    first, pair = str(caught.value).split("\n")
    assert first.startswith("folds.scheme: leave_one_session_out keeps each session in one part, ")
    assert "1 recordings have copies in two parts of a fold. Remove the copies" in first
    copy = f"more/again{COPIES[kind][0]}"
    assert pair == f"fold s0: s0_03.wav (test part) has the same audio as {copy} (training part)"


@pytest.mark.parametrize("kind", ["same bytes", "FLAC", "WAV with a LIST chunk"])
def test_a_copy_in_the_same_session_is_no_leak(tmp_path: Path, kind: str) -> None:
    rows = with_copy(tmp_path, kind, 3)
    data = prepared(tmp_path, rows, LEFT_OUT)
    assert data.notes == data.audit.notes
    assert len(data.dataset.ids) == len(rows)


@pytest.mark.parametrize("kind", ["same bytes", "FLAC", "WAV with a LIST chunk"])
def test_random_folds_count_the_copies(tmp_path: Path, kind: str) -> None:
    rows = with_copy(tmp_path, kind, 3)
    data = prepared(tmp_path, rows, {"scheme": "random_repeated", "folds": 5, "test_share": 0.3})
    ids = ["s0_03", "again"]
    pair = [data.dataset.ids.index(name) for name in ids]
    leaked = sum(
        int(pair[i] in fold.test and pair[1 - i] in fold.train)
        for fold in data.folds
        for i in (0, 1)
    )
    tested = sum(len(fold.test) for fold in data.folds)
    assert leaked > 0
    assert data.notes[:-1] == data.audit.notes
    assert data.notes[-1].startswith(f"{leaked} of {tested} tested utterances (")
    assert "1 recordings have copies in two parts of a fold: fold split" in data.notes[-1]
    assert "s0_03.wav (" in data.notes[-1]
    assert f"more/again{COPIES[kind][0]} (" in data.notes[-1]


def test_a_corpus_without_copies_has_no_note(tmp_path: Path) -> None:
    data = prepared(tmp_path, recordings(tmp_path), {"scheme": "random_repeated", "folds": 2})
    assert data.notes == data.audit.notes


def test_a_copy_without_a_class_is_in_no_part(tmp_path: Path) -> None:
    rows = with_copy(tmp_path, "FLAC", 3, session="s2", speaker="x", emotion="laughter")
    data = prepared(tmp_path, rows, LEFT_OUT)
    assert data.notes == data.audit.notes


def test_a_segment_is_named_with_its_times(tmp_path: Path) -> None:
    """Session 2 is one long file, whose second utterance is a recording of session 0."""
    rows = recordings(tmp_path)
    kept = [row for row in rows if row["session"] != "s2"]
    parts = [speech(RATE // 4, seed=seed) for seed in (16, 3, 18, 20)]
    (tmp_path / "long.wav").write_bytes(encode(np.concatenate(parts)))
    for row in kept:
        row |= {"start": None, "end": None}
    kept += [
        {**rows[16 + i], "file": "long.wav", "start": i / 4, "end": (i + 1) / 4} for i in range(4)
    ]
    with pytest.raises(ConfigError, match=r"long\.wav from 0\.250 to 0\.500 s") as caught:
        prepared(tmp_path, kept, LEFT_OUT)
    assert "s0_03.wav (" in str(caught.value)


def many(copies: int) -> tuple[pa.Table, np.ndarray, Fold]:
    """`copies` recordings that train, the same number of copies that test, and 10 others."""
    names = [f"{kind}{i}.wav" for kind in "ab" for i in range(copies)]
    names += [f"c{i}.wav" for i in range(10)]
    rows = [{"file": name, "speaker": name[0], "emotion": "neu"} for name in names]
    contents = np.concatenate([np.tile(np.arange(copies), 2), copies + np.arange(10)])
    train, test, validation = np.split(np.arange(len(names)), [copies, 2 * copies])
    return normalise(pa.Table.from_pylist(rows)), contents, Fold("f", train, validation, test)


def test_many_copies_are_counted_and_the_first_are_named() -> None:
    table, contents, fold = many(12)
    with pytest.raises(AuditError) as caught:
        audit_copies(table, contents, [fold], "leave_one_speaker_out", Promise("speaker", 1))
    first, *pairs = str(caught.value).split("\n")
    assert "12 recordings have copies" in first
    assert pairs[0] == "fold f: b0.wav (test part) has the same audio as a0.wav (training part)"
    assert len(pairs) == 11
    assert pairs[-1] == "and 2 more"
    (note,) = audit_copies(table, contents, [fold], "random_repeated", Promise(None, None))
    assert note.startswith("12 of 12 tested utterances (100%), summed over folds, are copies of")
    assert note.endswith("; and 2 more.")


def test_a_copy_in_the_validation_part_counts_too() -> None:
    table, contents, fold = many(2)
    swapped = Fold("f", fold.train, fold.test, fold.validation)
    (note,) = audit_copies(table, contents, [swapped], "corpus", Promise(None, None))
    assert note.startswith("0 of 10 tested utterances (0%)")
    assert "b0.wav (validation part) has the same audio as a0.wav (training part)" in note
