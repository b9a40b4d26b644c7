"""Writes a complete sweep into a folder. Its scores are random numbers."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import accuracy_score, recall_score

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import (
    Audit,
    ContextCounts,
    CorpusSummary,
    FoldAudit,
    FoldSizes,
    PartCounts,
    Proposal,
    SweepRecord,
    TrialRecord,
)
from orchestrator.ledger.seals import parquet_bytes, sha256

CLASSES = ["ang", "hap", "neu", "sad"]
SPACE = {
    "parameters": {
        "training.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "model.dropout": {"low": 0.0, "high": 0.9},
        "model.hidden_size": {"choices": [64, 128, 256, 512]},
        "training.label_smoothing": {"choices": [0.0, 0.1]},
    }
}
"""The search space of the hyperparameters that made trials have."""

TestPart = tuple[list[str], list[str]]
"""The speakers and the true classes of the test utterances of a fold."""


def fold_rows(
    rng: np.random.Generator,
    names: list[str],
    classes: list[str],
    skill: float,
    selection: str,
    tests: dict[str, TestPart],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """The rows of folds.parquet and of predictions.parquet of one trial, and its score."""
    select = "validation" if selection == "validation" else "test"
    rows: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    chosen = []
    for name in names:
        speakers, truth = tests[name]
        epochs = int(rng.integers(6, 15))
        level = skill + rng.normal(0, 0.06)
        curve = level - 0.25 * np.exp(-np.arange(epochs) / 3) + rng.normal(0, 0.01, epochs)
        # The hit rate of the predictions is the fold's level, so that scores and curves agree.
        hit = rng.random(len(truth)) < level
        guess = [t if h else str(rng.choice(classes)) for t, h in zip(truth, hit, strict=True)]
        recalls = recall_score(truth, guess, labels=classes, average=None, zero_division=np.nan)
        test = {"ua": float(np.nanmean(recalls)), "wa": accuracy_score(truth, guess)} | {
            f"recall_{c}": float(r) for c, r in zip(classes, recalls, strict=True)
        }
        best = int(np.argmax(curve))
        if select == "test":
            curve[best] = max(test["ua"], curve.max())
        chosen.append(test["ua"] if select == "test" else float(curve[best]))
        for epoch in range(epochs):
            for split, gain in (("train", 0.04 + 0.015 * epoch), (select, 0.0)):
                ua = min(1.0, float(curve[epoch] + gain))
                row = {"fold": name, "epoch": epoch + 1, "split": split, "selected": epoch == best}
                row |= {"loss": 1.4 * math.exp(-ua) + 0.01 * epoch * (split != "train")}
                row |= {"ua": ua, "wa": ua} | {f"recall_{c}": ua for c in classes}
                if split == "test" and epoch == best:
                    row |= test
                rows.append(row)
        if select != "test":
            row = {"fold": name, "epoch": best + 1, "split": "test", "selected": True, "loss": 1.0}
            rows.append(row | test)
        for number, (speaker, t, g) in enumerate(zip(speakers, truth, guess, strict=True)):
            posterior = rng.dirichlet(np.ones(len(classes)))
            predictions.append(
                {
                    "fold": name,
                    "utterance": f"{name}_{number:04d}",
                    "speaker": speaker,
                    "truth": t,
                    "prediction": g,
                }
                | {f"posterior_{c}": float(p) for c, p in zip(classes, posterior, strict=True)}
                | {"own_previous": truth[number - 1] if number else None}
                | {"other_previous": classes[number % len(classes)] if number % 3 else None}
            )
    return rows, predictions, float(np.mean(chosen))


def running_mean(rows: list[dict[str, Any]], selection: str) -> list[float]:
    """Mean over folds of the best score so far. A fold that has stopped keeps its best score."""
    part = "validation" if selection == "validation" else "test"
    by_fold: dict[str, list[float]] = {}
    for row in rows:
        if row["split"] == part:
            by_fold.setdefault(row["fold"], []).append(row["ua"])
    longest = max(map(len, by_fold.values()), default=0)
    return [
        float(np.mean([max(scores[: epoch + 1]) for scores in by_fold.values()]))
        for epoch in range(longest)
    ]


def sweep_fields(
    name: str,
    selection: str,
    classes: list[str],
    tests: dict[str, TestPart],
    trials: int,
    model: str = "iaan",
) -> dict[str, Any]:
    """The fields of a valid `SweepRecord` with these test parts."""
    configuration = parse(
        {
            "name": "made",
            "corpus": {"name": "iemocap", "root": "iemocap", "classes": classes},
            "model": {"name": model},
            "folds": {"scheme": "leave_one_session_out", "selection": selection},
            "training": {"epochs": 40},
            "search": {"space": "iaan", "trials": max(1, trials)},
        }
    )
    shares = {"both_same": 0.5, "one_same": 0.3, "none_same": 0.2}
    turns = {"unlabelled": 9, "train": 0, "validation": 0, "test": 120}
    train = {f"other{number}": 75 for number in range(4)}
    audits = []
    for fold, (speakers, truth) in tests.items():
        parts = {
            "train": _part(dict.fromkeys(classes, 300 // len(classes)), train, 300),
            "validation": _part(dict.fromkeys(classes, 60 // len(classes)), {"other4": 60}, 60),
            "test": _part(dict(Counter(truth)), dict(Counter(speakers)), len(truth)),
        }
        shared = {"speaker": 0, "session": 0}
        context = dict.fromkeys(parts, turns)
        audits.append(FoldAudit(name=fold, parts=parts, shared=shared, context=context))
    labelled = sum(len(truth) for _, truth in tests.values())
    corpus = CorpusSummary(
        corpus="iemocap",
        utterances=10039,
        labelled=5531,
        duration_s=None,
        classes=dict.fromkeys(classes, 5531 // len(classes)),
        speakers={f"speaker{number}": 1004 for number in range(10)},
        sessions={f"session{number}": 2008 for number in range(5)},
        dialogues=151,
        context=ContextCounts(**shares, no_previous_own=151, no_previous_other=151),
        problems=[],
    )
    audit = Audit(
        scheme="leave_one_session_out",
        selection=selection,
        unit="session",
        labelled=labelled,
        unlabelled=10039 - labelled,
        tested={"1": labelled},
        folds=audits,
        context=dict.fromkeys(("train", "validation", "test"), turns),
        crossing={},
        notes=[],
    )
    return {
        "name": name,
        "created": "2025-01-02T03:04:05+00:00",
        "configuration": configuration.resolved(),
        "classes": classes,
        "corpus": corpus,
        "folds": [
            FoldSizes(name=fold, train=300, validation=60, test=len(truth))
            for fold, (_, truth) in tests.items()
        ],
        "audit": audit,
        "fingerprint": "9f3c1a77e2",
        "lag": 1,
        "replicas": 1,
        "space": {},
        "versions": {"torch": "2.13.0", "ray": "2.60.0"},
        "code": {},
        "commit": None,
        "notes": ["Synthetic numbers: a test made this sweep."],
    }


def _part(classes: dict[str, int], speakers: dict[str, int], utterances: int) -> PartCounts:
    return PartCounts(utterances=utterances, classes=classes, speakers=speakers, lacking={})


def make_sweep(
    folder: Path,
    statuses: list[str],
    *,
    selection: str = "validation",
    folds: int = 5,
    classes: list[str] = CLASSES,
    speaker: str = "Ses{:02d}{}",
    name: str = "iaan-loso",
    utterances: int = 80,
    running: int = 0,
    extra: dict[str, Any] | None = None,
    seed: int = 0,
    skill: tuple[float, float] = (0.4, 0.6),
    model: str = "iaan",
    trial_seed: int | None = None,
    training_seed: int = 0,
    lacking: Mapping[str, str] = MappingProxyType({}),
) -> Ledger:
    """A sweep with a trial for each of `statuses`, as the orchestrator writes it.

    utterances : in the test part of each fold
    running : number of proposed trials that are not finished
    extra : fields of the `SweepRecord` to replace
    skill : lowest and highest share of utterances that a trial knows; it guesses the others
    model : one of the models that `iaan` searches: the variants of IAAN
    seed : of the test utterances; sweeps of one seed can be compared
    trial_seed : of the trials, by default `seed`
    lacking : fold -> a class that no utterance of its test part has
    """
    rng = np.random.default_rng(seed)
    ledger = Ledger(Storage.open(str(folder)))
    tests = {}
    for number in range(1, folds + 1):
        fold = f"Ses{number:02d}"
        present = [name for name in classes if name != lacking.get(fold)]
        truth = [present[i] for i in rng.choice(len(present), utterances)]
        speakers = [speaker.format(number, "FM"[i % 2]) for i in range(utterances)]
        tests[fold] = (speakers, truth)
    names = list(tests)
    fields = sweep_fields(name, selection, classes, tests, len(statuses), model)
    ledger.write_sweep(SweepRecord.model_validate(fields | (extra or {})))
    if trial_seed is not None:
        rng = np.random.default_rng(trial_seed)
    for number, status in enumerate([*statuses, *["running"] * running]):
        trial = f"{number:010x}"
        chosen = {
            "training.learning_rate": float(10 ** rng.uniform(-5, -2)),
            "model.dropout": round(float(rng.uniform(0, 0.9)), 2),
            "model.hidden_size": int(rng.choice([64, 128, 256, 512])),
            "training.label_smoothing": [0.0, 0.1][number % 2],
        }
        ledger.write_proposal(Proposal(number=number, trial=trial, hyperparameters=chosen))
        if status == "running":
            continue
        files: dict[str, str] = {}
        score = None
        rows: list[dict[str, Any]] = []
        if status != "failed":
            level = float(rng.uniform(*skill) - 0.12 * (status == "pruned"))
            rows, predictions, score = fold_rows(rng, names, classes, level, selection, tests)
            for file, content in (("folds", rows), ("predictions", predictions)):
                data = parquet_bytes(pa.Table.from_pylist(content))
                ledger.trial_storage(trial).write(f"{file}.parquet", data)
                files[f"{file}.parquet"] = sha256(data)
        record = TrialRecord(
            id=trial,
            number=number,
            model=model,
            status=status,  # type: ignore[arg-type]
            reason={"failed": "loss is not finite in fold Ses03, epoch 2"}.get(status),
            hyperparameters=chosen,
            seed=training_seed,
            score=score,
            curve=running_mean(rows, selection),
            seconds=37.5 * (number + 1),
            files=files,
        )
        ledger.write_trial(record)
    return ledger


def all_wrong(ledger: Ledger) -> Ledger:
    """Replace each right prediction of the first trial by another class."""
    record = ledger.trials()[0]
    rows = ledger.predictions(record.id).to_pylist()
    for row in rows:
        if row["prediction"] == row["truth"]:
            row["prediction"] = next(name for name in CLASSES if name != row["truth"])
    data = parquet_bytes(pa.Table.from_pylist(rows))
    ledger.trial_storage(record.id).write("predictions.parquet", data)
    files = {**record.files, "predictions.parquet": sha256(data)}
    ledger.write_trial(record.model_copy(update={"files": files}))
    return ledger
