"""The warnings of a report, and folders that hold no sweep."""

import math
from pathlib import Path

import pyarrow as pa
import pytest

from features.storage import Storage
from orchestrator.errors import NoSweepError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.seals import parquet_bytes, sha256
from orchestrator.results.findings import gather
from tests.support.made_sweep import make_sweep


def test_missing_and_inconsistent_scores_give_warnings(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"], seed=4)
    folder = ledger.trial_storage("0000000000")
    record = ledger.trial("0000000000")
    assert record is not None
    rows = ledger.folds("0000000000").to_pylist()
    for row in rows:
        if row["fold"] == "Ses02" and row["split"] == "test":
            row |= {"ua": 0.99, "recall_sad": 0.0}
        if row["fold"] == "Ses04" and row["split"] == "test":
            row |= {"recall_hap": math.nan}
    data = parquet_bytes(pa.Table.from_pylist(rows))
    folder.write("folds.parquet", data)
    assert gather(ledger).best is None  # the file does not have the recorded SHA-256
    files = {**record.files, "folds.parquet": sha256(data)}
    ledger.write_trial(record.model_copy(update={"files": files}))
    warnings = " ".join(gather(ledger).warnings)
    assert "Fold Ses02: the recorded test UA does not match" in warnings
    assert "The model never recognised sad in fold Ses02" in warnings
    assert "No test utterance is hap in fold Ses04" in warnings


def test_few_folds_and_speakers_give_warnings(tmp_path: Path) -> None:
    warnings = " ".join(gather(make_sweep(tmp_path / "one", ["complete"], folds=1)).warnings)
    assert "There is one fold" in warnings
    assert "draws from 2 speakers only" in warnings
    same = make_sweep(tmp_path / "same", ["pruned"], speaker="Ses01")
    warnings = " ".join(gather(same).warnings)
    assert "There is one test speaker" in warnings
    assert "stopped the best trial early" in warnings


def test_a_best_last_epoch_gives_a_warning(tmp_path: Path) -> None:
    ledger = make_sweep(tmp_path, ["complete"])
    assert not any("last epoch" in warning for warning in gather(ledger).warnings)
    record = ledger.sweep()
    last = gather(ledger).trials[0].folds[0].epoch
    record.configuration["training"]["epochs"] = last
    ledger.write_sweep(record)
    assert any(f"the last epoch ({last}) was" in warning for warning in gather(ledger).warnings)


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoSweepError, match=r"no sweep\.json"):
        gather(Ledger(Storage.open(str(tmp_path))))
