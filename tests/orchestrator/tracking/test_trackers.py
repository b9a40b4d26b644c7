"""What the trackers write, read back by the libraries that they are for."""

import json
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import ConfigError
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import TrialRecord
from orchestrator.report import build
from orchestrator.results.opened import OpenedSweep
from orchestrator.tracking import follow
from orchestrator.tracking.follow import Follower, followed
from orchestrator.tracking.logs import sweep_key
from tests.support.made_sweep import make_sweep

STATUSES = ["complete", "pruned", "failed"]


@pytest.fixture
def sweep(tmp_path: Path) -> Ledger:
    space = {
        "parameters": {
            "training.learning_rate": {"low": 1e-5, "high": 1e-2},
            "model.dropout": {"low": 0.0, "high": 0.9},
            "model.hidden_size": {"choices": [64, 128, 256, 512]},
            "training.label_smoothing": {"choices": [0.0, 0.1]},
        }
    }
    folder = tmp_path / "sweep"
    ledger = make_sweep(folder, STATUSES, folds=2, utterances=20, extra={"space": space})
    build(ledger, OpenedSweep(ledger).findings)
    return ledger


def followed_once(name: str, ledger: Ledger) -> list[str]:
    """Follow a finished sweep, as a resumed run does. Returns the warnings."""
    warnings: list[str] = []
    with followed([name], ledger, warnings.append):
        pass
    return warnings


def curves(ledger: Ledger, record: TrialRecord) -> dict[str, list[tuple[int, float]]]:
    """The curves of a trial, straight from folds.parquet."""
    expected: dict[str, list[tuple[int, float]]] = {}
    for row in ledger.folds(record.id).to_pylist() if record.status != "failed" else []:
        for metric in ("loss", "ua", "wa"):
            name = f"{row['split']}_{metric}/{row['fold']}"
            expected.setdefault(name, []).append((row["epoch"], row[metric]))
    return expected


def test_uas(ledger: Ledger, record: TrialRecord) -> float:
    rows = ledger.folds(record.id).to_pylist()
    return float(np.mean([r["ua"] for r in rows if r["split"] == "test" and r["selected"]]))


test_uas.__test__ = False  # type: ignore[attr-defined]


def test_tensorboard_reads_one_run_for_each_trial(sweep: Ledger) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    assert followed_once("tensorboard", sweep) == []
    root = Path(sweep.storage.root, "tensorboard")
    files = {path: path.stat().st_mtime_ns for path in root.rglob("*tfevents*")}
    records = sweep.records()
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    assert folders == [f"{record.number:03d}-{record.id}" for record in records]
    assert len(files) == 1 + len(records)
    assert followed_once("tensorboard", sweep) == []
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*tfevents*")} == files

    def read(folder: Path) -> EventAccumulator:
        return EventAccumulator(str(folder)).Reload()

    def content(events: EventAccumulator, tag: str) -> Any:
        data = events.SummaryMetadata(tag).plugin_data.content
        return plugin_data_pb2.HParamsPluginData.FromString(data)

    for record, folder in zip(records, folders, strict=True):
        events = read(root / folder)
        tags = events.Tags()["scalars"]
        expected = curves(sweep, record)
        assert set(expected) <= set(tags)
        for tag, points in expected.items():
            found = [(event.step, event.value) for event in events.Scalars(tag)]
            np.testing.assert_allclose(found, points, rtol=1e-6)
        if record.status == "failed":
            continue
        scores = [event.value for event in events.Scalars("score/mean")]
        np.testing.assert_allclose(scores, record.curve, rtol=1e-6)
        (event,) = events.Scalars("test_ua/mean")
        assert event.value == pytest.approx(test_uas(sweep, record))
        start = content(events, metadata.SESSION_START_INFO_TAG).session_start_info
        for key, value in record.hyperparameters.items():
            assert start.hparams[key].number_value == pytest.approx(value)
    experiment = content(read(root), metadata.EXPERIMENT_TAG).experiment
    assert [info.name for info in experiment.hparam_infos] == list(records[0].hyperparameters)
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == ["score/mean", "test_ua/mean", "test_wa/mean"]


@pytest.fixture
def mlflow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes longer to make
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    from mlflow import MlflowClient

    return MlflowClient


def test_mlflow_reads_nested_runs_and_a_resumed_sweep_adds_none(
    sweep: Ledger, mlflow_store: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.tracking.mlflow import MLflow

    # The first driver is killed while it writes the second trial.
    class KilledError(Exception):
        pass

    def killed(*arguments: object) -> None:
        raise KilledError

    tracker = MLflow(sweep.sweep(), sweep.storage)
    follower = Follower([], sweep, print)
    follower.trackers["mlflow"] = tracker
    first, second, third = sweep.records()
    tracker.add(follow.trial_log(sweep, first))
    with monkeypatch.context() as context:
        context.setattr(tracker, "_log", killed)
        with pytest.raises(KilledError):
            tracker.add(follow.trial_log(sweep, second))

    assert followed_once("mlflow", sweep) == []
    assert followed_once("mlflow", sweep) == []
    client = mlflow_store()
    experiment = client.get_experiment_by_name("ser").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    key = sweep_key(sweep.sweep())
    parent = runs.pop("iaan-loso")
    assert parent.data.tags["ser.sweep"] == key
    assert len(runs) == len(client.search_runs([experiment])) - 1 == 3
    for record in (first, second, third):
        run = runs[f"{record.number:03d}-{record.id}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["ser.status"] == record.status
        assert run.data.params["model.hidden_size"] == str(
            record.hyperparameters["model.hidden_size"]
        )
        assert run.info.status == ("FAILED" if record.status == "failed" else "FINISHED")
        for name, points in curves(sweep, record).items():
            history = client.get_metric_history(run.info.run_id, name)
            assert [(point.step, point.value) for point in history] == points
        if record.status != "failed":
            assert run.data.metrics["test_ua/mean"] == pytest.approx(test_uas(sweep, record))
    assert runs[f"002-{third.id}"].data.tags["ser.reason"] == third.reason
    nested = OpenedSweep(sweep).scores()["nested"]
    assert parent.data.metrics["nested_ua_pooled"] == nested["pooled"]["ua"]
    assert len(client.get_metric_history(parent.info.run_id, "nested_ua_pooled")) == 1
    assert parent.data.params["training.epochs"] == "40"
    names = {Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "report")}
    assert {"index.html", "trials.csv"} <= names


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: after 7 bytes, LevelDB's log format in blocks of 32 KiB."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if (rest := 32768 - at % 32768) < 7:
            at += rest
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield parts
            parts = b""


def offline_runs(folder: Path) -> dict[str, tuple[dict, list[dict], dict]]:
    """Id -> configuration, history and summary of offline runs, parsed by wandb's own classes."""
    from wandb.proto.wandb_internal_pb2 import Record

    def values(items: Any) -> dict[str, Any]:
        return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}

    runs: dict[str, tuple[dict, list[dict], dict]] = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        configuration: dict[str, Any] = {}
        history: list[dict] = []
        summary: dict[str, Any] = {}
        identity = ""
        for data in wandb_records(path.read_bytes()):
            record = Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = record.run
                identity = run.run_id
                configuration |= values(run.config.update)
                configuration |= {"group": run.run_group, "name": run.display_name}
            elif kind == "history":
                history.append(values(record.history.item))
            elif kind == "summary":
                summary |= values(record.summary.update)
        assert identity not in runs
        runs[identity] = (configuration, history, summary)
    return runs


def test_wandb_reads_a_group_of_offline_runs(
    sweep: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert followed_once("wandb", sweep) == []
    runs = {config["name"]: run for run in offline_runs(tmp_path).values() if (config := run[0])}
    assert len(runs) == 4
    for record in sweep.records():
        configuration, history, summary = runs[f"{record.number:03d}-{record.id}"]
        assert configuration["group"] == sweep_key(sweep.sweep())
        for key, value in record.hyperparameters.items():
            assert configuration[key] == value
        for name, points in curves(sweep, record).items():
            found = [(step["_step"], step[name]) for step in history if name in step]
            assert found == points
        if record.status != "failed":
            assert summary["test_ua/mean"] == pytest.approx(test_uas(sweep, record))
    nested = OpenedSweep(sweep).scores()["nested"]["pooled"]["ua"]
    assert runs["iaan-loso"][2]["nested_ua_pooled"] == nested
    assert followed_once("wandb", sweep) == []
    assert len(offline_runs(tmp_path)) == 4  # a resumed sweep writes no run again


def test_a_tracker_that_fails_gives_one_warning_and_leaves_the_others(
    sweep: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings: list[str] = []
    with followed(["mlflow", "tensorboard"], sweep, warnings.append):
        pass
    (warning,) = warnings
    assert warning.startswith("tracker mlflow failed: MlflowException: ")
    assert "The sweep continues without it" in warning
    assert len(list(Path(sweep.storage.root, "tensorboard").iterdir())) == 1 + len(STATUSES)


def test_wandb_without_a_key_fails_at_once(
    sweep: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (warning,) = followed_once("wandb", sweep)
    assert "no API key. Run `wandb login`, or set WANDB_MODE=offline" in warning


def test_a_missing_package_is_named_with_its_remedy(
    sweep: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # `import wandb` then fails
    (warning,) = followed_once("wandb", sweep)
    assert "pip install 'ser-orchestrator[wandb]'" in warning


def test_trials_are_copied_while_the_sweep_runs(
    sweep: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "EVERY", 0.01)
    record = sweep.records()[1]
    path = Path(sweep.storage.root, "trials", record.id, "trial.json")
    data = path.read_bytes()
    path.unlink()
    folder = Path(sweep.storage.root, "tensorboard")

    def folders() -> int:
        return sum(each.is_dir() for each in folder.iterdir()) if folder.exists() else 0

    warnings: list[str] = []
    pause = threading.Event()

    def interrupted() -> None:
        with followed(["tensorboard"], sweep, warnings.append):
            while folders() < 2:
                pause.wait(0.01)
            path.write_bytes(data)
            while folders() < 3:
                pause.wait(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert warnings == []


@pytest.mark.parametrize("error", [ConfigError("refused"), KeyboardInterrupt()])
def test_after_an_error_no_thread_reads_the_sweep_while_the_process_ends(
    sweep: Ledger, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, read, warnings = threading.Event(), [], []

    def slow(ledger: Ledger, trial: str, weights: bool = True) -> TrialRecord | None:
        reading.set()
        time.sleep(0.5)
        read.append(trial)
        return None

    def failing() -> None:
        with followed(["tensorboard"], sweep, warnings.append):
            assert reading.wait(10)
            raise error

    monkeypatch.setattr(follow, "EVERY", 0.01)
    monkeypatch.setattr(Ledger, "trial", slow)
    before = threading.enumerate()
    with pytest.raises(type(error)):
        failing()
    assert threading.enumerate() == before
    assert len(read) == 1  # of three
    assert warnings == []


def test_an_error_before_the_first_look_reads_nothing(
    sweep: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[None] = []
    monkeypatch.setattr(Ledger, "sweep", lambda ledger: read.append(None))
    with pytest.raises(ConfigError), followed(["tensorboard"], sweep, lambda line: None):
        raise ConfigError("refused")
    assert read == []
