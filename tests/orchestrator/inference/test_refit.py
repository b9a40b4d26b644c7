"""Refits: all labelled utterances train, the same bits after an interruption, nothing twice."""

from pathlib import Path

import numpy as np
import pytest

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.data.prepare import plan_folds, prepare
from orchestrator.errors import ConfigError
from orchestrator.inference import refit as module
from orchestrator.inference.refit import honest_score, open_refits, refit, refit_epochs, refits
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.records import Proposal, SweepRecord
from orchestrator.results.opened import OpenedSweep
from tests.support.made_sweep import make_sweep, sweep_fields
from tests.support.training import TRIAL, KilledError, cross_validated


def made(folder: Path, spoken: Path, model: str, normalize: str, **training: object) -> OpenedSweep:
    """A sweep of one trial on spoken recordings, without Ray."""
    sizes = {"hidden_size": 8, "attention_size": 8} if model == "iaan" else {}
    configuration = parse(
        {
            "name": "toy",
            "corpus": {"root": str(spoken), "classes": ["ang", "hap", "neu", "sad"]},
            "model": {"name": model, **sizes},
            "features": {"normalize": normalize},
            "training": training,
            "search": {"space": model, "trials": 1},
            "storage": str(spoken.parent / "storage"),
        }
    )
    storage = Storage.open(configuration.storage)
    prepared = prepare(plan_folds(configuration), storage, lambda done, total, error: None)
    record, _ = cross_validated(folder, prepared.dataset, prepared.folds, configuration)
    ledger = Ledger(Storage.open(str(folder)))
    ledger.write_proposal(Proposal(number=0, trial=record.id, hyperparameters={}))
    fields = sweep_fields("toy", "validation", list(prepared.dataset.classes), {}, 1)
    fields |= {"configuration": configuration.resolved(), "audit": prepared.audit}
    fields |= {"fingerprint": prepared.fingerprint}
    ledger.write_sweep(SweepRecord.model_validate(fields))
    return OpenedSweep(ledger)


def test_a_fitted_model_is_fitted_once_on_all_labelled_utterances(
    tmp_path: Path, spoken: Path
) -> None:
    sweep = made(tmp_path, spoken, "linear_svm", "train")
    (record,) = refit(sweep)
    configuration = parse(sweep.record.configuration)
    dataset, fold = module.refit_data(configuration, sweep.record.fingerprint)
    labelled = np.flatnonzero(dataset.labels >= 0)
    assert record.utterances == len(labelled) == len(fold.train)
    assert (record.epochs, record.trial) == (1, TRIAL)
    (opened,) = open_refits(sweep)
    frames = dataset.frames[dataset.offsets[labelled]].astype(np.float64)
    np.testing.assert_allclose(opened.weights["mean"].numpy(), frames.mean(0), rtol=1e-6, atol=1e-6)
    path = tmp_path / f"refits/{TRIAL}/seed-0/fold-all.safetensors"
    before = path.stat().st_mtime_ns
    assert refit(sweep) == [record]
    assert path.stat().st_mtime_ns == before
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert refits(sweep) == []  # damaged: it is trained again, to the same weights
    assert refit(sweep)[0].files == record.files
    with pytest.raises(ConfigError, match="are not those of the sweep"):
        module.refit_data(configuration, "0" * 40)


def test_an_interrupted_refit_ends_with_the_same_bits(tmp_path: Path, spoken: Path) -> None:
    settings = {"epochs": 4, "batch_size": 32, "learning_rate": 0.01, "checkpoint_every": 0}
    sweep = made(tmp_path, spoken, "iaan", "speaker", **settings)
    with pytest.raises(ConfigError, match="Run `ser refit` first"):
        open_refits(sweep)
    rows = sweep.folds().to_pylist()
    selected = {row["fold"]: row["epoch"] for row in rows if row["selected"]}
    epochs = refit_epochs(sweep, sweep.trial())
    assert epochs == int(np.ceil(np.median(list(selected.values()))))
    first, second = refit(sweep, seeds=2)
    assert (first.seed, second.seed) == (0, 1)
    assert first.files != second.files

    other = tmp_path / "again"
    other.mkdir()
    trial, configuration = sweep.trial(), parse(sweep.record.configuration)
    again = OpenedSweep(sweep.ledger)
    again.ledger = Ledger(Storage.open(str(other)))
    data = module.refit_data(configuration, sweep.record.fingerprint)

    def killed(name: str, done: int, total: int) -> None:
        if done == 3:
            raise KilledError

    with pytest.raises(KilledError):
        module.train_refit(again, trial, configuration, *data, 0, 4, killed)
    assert list(other.rglob("checkpoint-00002/manifest.json"))
    trained: list[int] = []
    resumed = module.train_refit(
        again, trial, configuration, *data, 0, 4, lambda name, done, total: trained.append(done)
    )
    assert trained == [3, 4]
    assert not list(other.rglob("checkpoint-*"))
    whole = module.train_refit(sweep, trial, configuration, *data, 0, 4, lambda *arguments: None)
    assert resumed.files == whole.files


def test_the_honest_score_is_the_nested_estimate(tmp_path: Path) -> None:
    sweep = OpenedSweep(make_sweep(tmp_path, ["complete", "complete"], folds=2))
    best = sweep.trial()
    nested = sweep.scores()["nested"]["pooled"]["ua"]
    assert f"UA {nested:.3f} pooled" in honest_score(sweep, best.id)
    other = next(t for t in ("0000000000", "0000000001") if t != best.id)
    assert "does not describe this refit" in honest_score(sweep, other)
