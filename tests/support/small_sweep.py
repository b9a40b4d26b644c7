"""A sweep of one trial on a spoken corpus, trained in this process: without Ray, real files.

The corpus has labelled utterances only, so a test part has the same rows as its files.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.data.prepare import Prepared, feature_files, plan_folds, prepare
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, SweepRecord
from ser_models import MODELS
from tests.support.encoders import shared_encoder
from tests.support.extraction import here
from tests.support.made_sweep import CLASSES, sweep_fields
from tests.support.training import TRIAL, cross_validated, small

Sweep = tuple[Path, Prepared]
Sweeps = Callable[[str], Sweep]
"""From the name of a model to its sweep."""


def small_sweep(
    storage: Path,
    manifest: Path,
    model: str,
    sizes: dict[str, float] | None = None,
    **features: Any,
) -> tuple[Path, Prepared]:
    """Train one trial of `model`, and write the sweep `<storage>/<model>`; also return its data.

    sizes : options of the model; by default those of a small one
    """
    if MODELS[model].features.startswith("encoder_"):
        features = {"encoder": shared_encoder(), **features}
    raw: dict[str, Any] = {
        "name": model,
        "storage": str(storage),
        "corpus": {"root": str(manifest), "classes": CLASSES, "only": {"emotion": CLASSES}},
        "model": {"name": model, **(small(model) if sizes is None else sizes)},
        "features": features,
        "search": {"space": "iaan", "trials": 1},
    }
    if "svm" not in model:
        raw["training"] = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    configuration = parse(raw)
    plan = plan_folds(configuration)
    prepared = prepare(plan, Storage.open(str(storage)), lambda *_: None, here)
    folder = storage / model
    record, _ = cross_validated(folder, prepared.dataset, prepared.folds, configuration)
    ledger = Ledger(Storage.open(str(folder)))
    ledger.write_proposal(Proposal(number=0, trial=TRIAL, hyperparameters={}))
    ledger.write_trial(record)
    fields = sweep_fields(model, "validation", CLASSES, {}, 1)
    fields |= {"configuration": configuration.resolved(), "audit": prepared.audit}
    fields |= {"corpus": prepared.summary, "fingerprint": prepared.fingerprint}
    fields["feature_files"] = feature_files(plan.features)
    parts = ("train", "validation", "test")
    fields["folds"] = [
        {"name": fold.name, **{part: len(getattr(fold, part)) for part in parts}}
        for fold in prepared.folds
    ]
    ledger.write_sweep(SweepRecord.model_validate(fields))
    return folder, prepared


def rows_of(manifest: Path, ids: set[str], target: Path) -> Path:
    """A manifest with absolute paths that has only the utterances `ids`; return its path."""
    from features.manifest import read_manifest

    read = read_manifest(str(manifest))
    lines = ["id,file,start,end,speaker,emotion,dialogue,turn"]
    for row in read.table.to_pylist():
        if row["id"] in ids:
            row["file"] = str(manifest.parent / row["file"])
            names = lines[0].split(",")
            lines.append(",".join("" if row[n] is None else str(row[n]) for n in names))
    target.write_text("\n".join(lines) + "\n")
    return target
