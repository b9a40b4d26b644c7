import numpy as np
import pyarrow as pa
import pytest

from orchestrator.config import ConfigError, FoldsConfig
from orchestrator.folds import Fold, make_folds

CLASSES = ("ang", "hap", "neu", "sad")


def test_every_session_is_tested_once_and_selects_once(
    table: pa.Table, dataset: object, folds: list[Fold]
) -> None:
    sessions = np.asarray(table["session"].to_pylist())
    labelled = np.flatnonzero(dataset.labels >= 0)
    assert [fold.name for fold in folds] == ["s0", "s1", "s2"]
    for fold, selects in zip(folds, ["s1", "s2", "s0"], strict=True):
        assert set(sessions[fold.test]) == {fold.name}
        assert set(sessions[fold.validation]) == {selects}
        assert set(sessions[fold.train]) == {"s0", "s1", "s2"} - {fold.name, selects}
        parts = np.concatenate([fold.train, fold.validation, fold.test])
        assert np.array_equal(np.sort(parts), labelled)
    tested = np.concatenate([fold.test for fold in folds])
    assert np.array_equal(np.sort(tested), labelled)


def test_held_out_trains_on_all_other_sessions(table: pa.Table, dataset: object) -> None:
    config = FoldsConfig(selection="held_out")
    for fold in make_folds(table, dataset.labels, CLASSES, config):
        assert len(fold.validation) == 0
        assert np.array_equal(fold.selection, fold.test)
        assert len(fold.train) + len(fold.test) == (dataset.labels >= 0).sum()


def test_leave_one_speaker_out(table: pa.Table, dataset: object) -> None:
    speakers = np.asarray(table["speaker"].to_pylist())
    found = make_folds(table, dataset.labels, CLASSES, FoldsConfig(scheme="leave_one_speaker_out"))
    assert len(found) == 6
    for fold in found:
        assert set(speakers[fold.test]) == {fold.name}
        assert fold.name not in set(speakers[fold.train])


def test_a_scheme_that_the_manifest_cannot_serve(table: pa.Table, dataset: object) -> None:
    empty = table.set_column(
        table.schema.get_field_index("session"), "session", pa.nulls(len(table), pa.string())
    )
    with pytest.raises(ConfigError, match="column `session`, which is missing or empty"):
        make_folds(empty, dataset.labels, CLASSES, FoldsConfig())
    sessions = table["session"].to_pylist()
    sessions[4] = None
    holed = table.set_column(table.schema.get_field_index("session"), "session", pa.array(sessions))
    with pytest.raises(ConfigError, match="row 5: s0_004, speaker s0a"):
        make_folds(holed, dataset.labels, CLASSES, FoldsConfig())
    two = table.slice(0, 64)
    with pytest.raises(ConfigError, match=r"at least 3 sessions .* has 2: s0, s1"):
        make_folds(two, dataset.labels[:64], CLASSES, FoldsConfig())
    with pytest.raises(ConfigError, match=r"no scheme kfold; known: .*leave_one_session_out"):
        make_folds(table, dataset.labels, CLASSES, FoldsConfig(scheme="kfold"))


def test_a_training_part_without_a_class(table: pa.Table, dataset: object) -> None:
    labels = dataset.labels.copy()
    labels[(labels == 3) & (np.arange(len(labels)) < 64)] = -1  # `sad` is left in session 2 only
    with pytest.raises(ConfigError, match="fold s1 has no training utterance of class sad"):
        make_folds(table, labels, CLASSES, FoldsConfig())
