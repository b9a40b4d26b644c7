"""Small studies: their files, and everything that a study left."""

from pathlib import Path
from typing import Any

import yaml

from features.storage import Storage
from orchestrator.ledger.ledger import Ledger
from tests.support.sweeps import outcome

TINY = {"hidden_size": 4, "attention_size": 4, "projection_size": 4}
"""Sizes of the networks of the IAAN family."""


def study_sections(folder: Path, manifest: Path) -> dict[str, Any]:
    """A study of two cheap sweeps, the expensive one first, stored in `folder/runs`."""
    return {
        "name": "toy",
        "base": {
            "corpus": {"root": str(manifest), "classes": ["ang", "hap", "neu", "sad"]},
            "training": {"epochs": 8, "learning_rate": 0.003, "checkpoint_every": 0},
            "search": {"trials": 2, "scheduler": "none"},
            "cluster": {"concurrent_trials": 1},
            "storage": str(folder / "runs"),
        },
        "sweeps": {
            "net": {"model": {"name": "bigru_att", **TINY}, "search": {"space": "rates"}},
            "svm": {"model": {"name": "linear_svm"}, "search": {"space": "linear_svm"}},
        },
        "seeds": [0, 1],
    }


def write_study(folder: Path, raw: dict[str, Any]) -> Path:
    """Write the file of a study, and return its path."""
    folder.mkdir(exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


TABLES = ("scores.csv", "pairs.csv", "predictions.parquet", "tables.tex", "paragraph.txt")
"""The files of a study's page that hold no timings."""


def study_outcome(folder: Path) -> dict[str, Any]:
    """Everything of a study except timings: the outcome of each run, and the study's tables."""
    runs = {path.parent.name: path.parent for path in folder.glob("*/sweep.json")}
    tables = {name: (folder / "report" / name).read_bytes() for name in TABLES}
    return {name: outcome(Ledger(Storage.open(str(path)))) for name, path in runs.items()} | tables
