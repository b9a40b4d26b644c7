"""The record of running trials, as readers find it on the storage."""

import shutil
from pathlib import Path

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger
from orchestrator.sweep.live import LiveRecord
from orchestrator.sweep.resources import Resources

RESOURCES = Resources(workers=4, replicas=1, gpus_per_worker=0.25, concurrent=3)
A, B = "0123456789", "abcdef0123"


def test_the_record_has_the_running_trials_and_beats(tmp_path: Path) -> None:
    ledger = Ledger(Storage.open(str(tmp_path)))
    live = LiveRecord(ledger, RESOURCES)
    live.train(A)
    live.train(B)
    live.train(B, 7, 0.5)
    live.train(B)  # restarted from a checkpoint
    live.end(A)
    live.write()
    progress = ledger.progress()
    assert progress is not None
    assert [row.model_dump() for row in progress.running] == [
        {"trial": B, "epoch": 7, "score": 0.5}
    ]
    assert (progress.beat, progress.concurrent, progress.gpus) == (1, 3, 1.0)
    live.end(B)
    live.write()  # too early for another write
    assert ledger.progress() == progress
    live.due = 0.0
    live.write()
    now = ledger.progress()
    assert now is not None
    assert (now.beat, now.running) == (2, [])
    live.delete()
    assert ledger.progress() is None


def test_a_storage_that_fails_does_not_stop_the_driver(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.write_text("a file where the folder should be")
    live = LiveRecord(Ledger(Storage.open(str(folder))), RESOURCES)
    live.train(A)
    live.write()
    live.delete()
    folder.unlink()
    live.due = 0.0
    live.write()
    assert Ledger(Storage.open(str(folder))).progress() is not None
    shutil.rmtree(folder)
