"""The view of a running sweep: lines, its end, and the terminal."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli import watch
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import RunningTrial, SweepProgress
from orchestrator.results.status import StatusReader, sweep_status
from tests.orchestrator.cli.conftest import Command
from tests.support.made_sweep import make_sweep


def drive(ledger: Ledger, beats: int, then: Callable[[], None]) -> threading.Thread:
    """A driver that writes its record ten times a second, then does `then` and ends."""
    ended = threading.Event()

    def run() -> None:
        for beat in range(1, beats + 1):
            row = RunningTrial(trial="0000000002", epoch=beat, score=0.5)
            ledger.write_progress(SweepProgress(beat=beat, concurrent=1, gpus=1, running=[row]))
            ended.wait(0.1)
        then()

    thread = threading.Thread(target=run)
    run_first = SweepProgress(beat=0, concurrent=1, gpus=1, running=[])
    ledger.write_progress(run_first)
    thread.start()
    return thread


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.05)
    monkeypatch.setattr(watch, "SILENCE", 1.0)


def test_the_view_ends_when_the_last_trial_has_finished(tmp_path: Path, command: Command) -> None:
    ledger = make_sweep(tmp_path, ["complete", "failed", "complete"], folds=2)
    record = ledger.records()[2]
    path = tmp_path / "trials/0000000002/trial.json"
    path.unlink()

    def finish() -> None:
        ledger.write_trial(record)
        ledger.delete_progress()

    thread = drive(ledger, 8, finish)
    done = command("status", tmp_path, "--watch")
    thread.join()
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert "2 of 3 trials finished (1 complete, 0 pruned, 1 failed)" in lines[0]
    assert "3 of 3 trials finished (2 complete, 0 pruned, 1 failed)" in lines[-1]
    assert len(lines) == 2  # a line follows a trial, and not an epoch


def test_the_view_ends_when_the_driver_is_silent(tmp_path: Path, command: Command) -> None:
    ledger = make_sweep(tmp_path, ["complete", "complete"], folds=2, running=1)
    raw = ledger.sweep().model_dump()
    raw["configuration"]["search"]["trials"] = 3
    ledger.write_sweep(type(ledger.sweep()).model_validate(raw))
    before = command("status", tmp_path, "--watch")
    drive(ledger, 3, lambda: None).join()  # it left its record behind, as after a SIGKILL
    after = command("status", tmp_path, "--watch")
    for done in (before, after):
        assert done.returncode == 0
        assert done.stdout.endswith(
            "no driver works on this sweep. To resume it, run its `ser sweep` again\n"
        )
    assert "trial 2 at epoch 3 of 40, score 0.500" in after.stdout


def test_a_terminal_gets_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = make_sweep(tmp_path, ["complete", "failed"], folds=2, running=12)
    output = io.StringIO()

    def terminal(**options: object) -> Console:
        return Console(file=output, force_terminal=True, width=100, height=60, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(watch, "Console", terminal)
    watch.watch(StatusReader(ledger), "runs/x")
    text = output.getvalue()
    assert "trial 9 at epoch 0 of 40" in text
    assert "and 4 more" in text
    assert "trial 1 failed" in text
    assert "loss is not finite in fold Ses03, epoch 2" in text


def test_the_rows_say_what_is_not_known(tmp_path: Path) -> None:
    rows = watch.status_rows(sweep_status(make_sweep(tmp_path, [], folds=2, running=1)))
    assert rows["best score"] == "no score yet"
    assert rows["time left"] == "not known before a trial has finished"
    assert rows["GPUs of a trial"] == "no driver"


def test_watch_and_json_exclude_each_other(tmp_path: Path, command: Command) -> None:
    done = command("status", tmp_path, "--watch", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json: prints one object" in done.stderr
