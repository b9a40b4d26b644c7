"""The checks of folds that hold for every scheme, and the order of names."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features.manifest import normalise
from orchestrator.config.sections import LeaveOneSessionOut, StratifiedGroupKFold
from orchestrator.data.folds import codes, make_folds
from orchestrator.errors import ConfigError

CLASSES = ("ang", "hap", "neu", "sad")


def test_codes_are_in_natural_order() -> None:
    column = pa.chunked_array([pa.array(["s10", "s9", None]), pa.array(["a", "s9", "S2"])])
    numbers, names = codes(column)
    assert names == ["S2", "a", "s9", "s10"]
    assert numbers.tolist() == [3, 2, -1, 1, 2, 0]
    assert codes(pa.chunked_array([pa.nulls(2, pa.string())]))[0].tolist() == [-1, -1]


def test_a_train_part_without_a_class_is_refused(table: pa.Table, dataset: Any) -> None:
    labels = dataset.labels.copy()
    labels[(labels == 3) & (np.arange(len(labels)) < 64)] = -1  # `sad` remains in session 2 only
    with pytest.raises(ConfigError, match="train part of fold s1 has no utterance of class sad"):
        make_folds(table, labels, CLASSES, LeaveOneSessionOut())


def test_an_empty_part_is_refused() -> None:
    """scikit-learn puts no speaker into the third of four parts here."""
    emotions = {"v0": "abbbbabaa", "v1": "b", "v2": "a", "v3": "a"}
    rows = [(speaker, emotion) for speaker, said in emotions.items() for emotion in said]
    table = normalise(
        pa.Table.from_pylist(
            [
                {"file": f"{i}.wav", "speaker": speaker, "emotion": emotion}
                for i, (speaker, emotion) in enumerate(rows)
            ]
        )
    )
    labels = np.asarray(["ab".index(emotion) for _, emotion in rows])
    config = StratifiedGroupKFold(folds=4)
    with pytest.raises(ConfigError, match=r"validation part of .* fold part 2 is empty\. Lower"):
        make_folds(table, labels, ("a", "b"), config)
