"""Writes a sweep as the orchestrator leaves it, with numbers from a generator."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import accuracy_score, recall_score

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger, Suggestion, TrialRecord, parquet_bytes, sha256

CLASSES = ["ang", "hap", "neu", "sad"]


def fold_rows(
    rng: np.random.Generator,
    names: list[str],
    classes: list[str],
    skill: float,
    selection: str,
    test_utterances: dict[str, tuple[list[str], list[str]]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """Rows of folds.parquet and predictions.parquet of one trial, and its score."""
    select = "validation" if selection == "validation" else "test"
    rows: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    chosen = []
    for name in names:
        speakers, truth = test_utterances[name]
        epochs = int(rng.integers(6, 15))
        level = skill + rng.normal(0, 0.06)
        curve = level - 0.25 * np.exp(-np.arange(epochs) / 3) + rng.normal(0, 0.01, epochs)
        # Predictions whose hit rate is the fold's level, so that scores and curves agree.
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
    """Mean over folds of the best score so far; a fold that stopped keeps its own."""
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
) -> Ledger:
    """A sweep as the orchestrator leaves it, with a trial for each of `statuses`."""
    rng = np.random.default_rng(seed)
    ledger = Ledger(Storage.open(str(folder)))
    names = [f"Ses{number + 1:02d}" for number in range(folds)]
    parts = {}
    for number, fold in enumerate(names):
        truth = [classes[i] for i in rng.choice(len(classes), utterances)]
        parts[fold] = ([speaker.format(number + 1, "FM"[i % 2]) for i in range(utterances)], truth)
    ledger.write_sweep(
        {
            "name": name,
            "configuration": {
                "corpus": {"name": "iemocap", "merge": {"exc": "hap"}, "classes": classes},
                "features": {"name": "emobase_lld45", "pool": 5},
                "model": {"name": "iaan", "hidden_size": 512},
                "folds": {"scheme": "leave_one_session_out", "selection": selection},
                "training": {"epochs": 40, "batch_size": 64, "seed": 0},
                "search": {"space": "iaan", "trials": len(statuses), "sampler": "tpe"},
            },
            "versions": {"torch": "2.13.0", "ray": "2.60.0"},
            "fingerprint": "9f3c1a77e2",
            "commit": None,
            "created": "2025-01-02T03:04:05+00:00",
            "classes": classes,
            "folds": [
                {"name": fold, "train": 300, "validation": 60, "test": utterances} for fold in names
            ],
            "corpus": {"utterances": 10039, "labelled": 5531, "speakers": 10, "sessions": 5},
            "notes": ["Synthetic numbers: this sweep was made by a test."],
        }
        | (extra or {})
    )
    for number, status in enumerate([*statuses, *["running"] * running]):
        trial = f"{number:010x}"
        chosen = {
            "training.learning_rate": float(10 ** rng.uniform(-5, -2)),
            "model.dropout": round(float(rng.uniform(0, 0.9)), 2),
            "model.hidden_size": int(rng.choice([64, 128, 256, 512])),
            "training.label_smoothing": [0.0, 0.1][number % 2],
        }
        ledger.write_suggestion(Suggestion(number=number, trial=trial, hyperparameters=chosen))
        if status == "running":
            continue
        files: dict[str, str] = {}
        score = None
        rows: list[dict[str, Any]] = []
        if status != "failed":
            skill = float(rng.uniform(0.4, 0.6) - 0.12 * (status == "pruned"))
            rows, predictions, score = fold_rows(rng, names, classes, skill, selection, parts)
            for file, content in (("folds", rows), ("predictions", predictions)):
                data = parquet_bytes(pa.Table.from_pylist(content))
                ledger.trial_storage(trial).write(f"{file}.parquet", data)
                files[f"{file}.parquet"] = sha256(data)
        record = TrialRecord(
            id=trial,
            number=number,
            model="iaan",
            status=status,  # type: ignore[arg-type]
            reason={"failed": "loss is not finite in fold Ses03, epoch 2"}.get(status),
            hyperparameters=chosen,
            seed=0,
            score=score,
            curve=running_mean(rows, selection),
            seconds=37.5 * (number + 1),
            files=files,
        )
        ledger.write_trial(record)
    return ledger
