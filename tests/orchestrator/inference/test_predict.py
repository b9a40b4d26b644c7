"""`ser predict` gives the posteriors that the trial recorded, and says what it did."""

from pathlib import Path

import numpy as np
import pytest

from features.storage import Storage
from orchestrator.inference.model import load_model
from orchestrator.inference.recognise import recognise
from orchestrator.ledger.ledger import Ledger
from ser_models import MODELS
from tests.support.small_sweep import Sweeps, rows_of
from tests.support.training import TRIAL


def recorded(folder: Path, fold: str) -> dict[str, dict[str, object]]:
    rows = Ledger(Storage.open(str(folder))).predictions(TRIAL).to_pylist()
    return {row["utterance"]: row for row in rows if row["fold"] == fold}


@pytest.mark.parametrize("model", [name for name in MODELS if name != "rand_iaan"])
def test_a_folds_test_files_get_the_recorded_bits(
    model: str, sweeps: Sweeps, spoken: Path, tmp_path: Path
) -> None:
    folder, prepared = sweeps(model)
    fold = prepared.folds[0]
    expected = recorded(folder, fold.name)
    names = [prepared.dataset.ids[row] for row in np.sort(fold.test)]
    manifest = rows_of(spoken, set(names), tmp_path / "test.csv")
    labelled = recognise(load_model(str(folder), fold=fold.name), [str(manifest)])
    assert not labelled.skipped
    normalize = "none" if MODELS[model].features.startswith("encoder_") else "speaker"
    rows = labelled.table.to_pylist()
    assert len(rows) == len(names) == len(expected)
    for name, row in zip(names, rows, strict=True):
        assert row["emotion"] == expected[name]["prediction"]
        posteriors = {key: row[key] for key in row if key.startswith("posterior_")}
        assert posteriors == {key: expected[name][key] for key in posteriors}
        assert row["statistics"] == normalize
