"""A model on the frames of an encoder: figures, export, and a missing encoder."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.errors import ConfigError, FeatureError
from orchestrator.inference.export import export_model
from orchestrator.inference.model import load_model
from orchestrator.ledger.ledger import Ledger
from orchestrator.progress import Narrator
from orchestrator.results.opened import OpenedSweep
from orchestrator.sweep.run import run_sweep
from tests.support.encoders import tiny_encoder
from tests.support.report_page import page_of
from tests.support.small_sweep import small_sweep

RATE = 16_000


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory, spoken: Path) -> OpenedSweep:
    """Its encoder is the folder `encoder`; `copy` is the same, and `other` has other weights."""
    folder = tmp_path_factory.mktemp("encoder_model")
    encoder = tiny_encoder(folder / "encoder")
    shutil.copytree(encoder, folder / "copy")
    tiny_encoder(folder / "other", seed=1)
    features = {"name": "encoder_frames", "encoder": encoder, "pool": 2}
    made, prepared = small_sweep(folder, spoken, "bigru_att", **features)
    assert prepared.dataset.frame == 2 / 50
    shutil.move(encoder, folder / "gone")
    return OpenedSweep(Ledger(Storage.open(str(made))))


@pytest.fixture(scope="module")
def folder(sweep: OpenedSweep) -> Path:
    return Path(sweep.ledger.storage.root).parent


@pytest.fixture
def samples() -> np.ndarray:
    """A second of noise."""
    return np.random.default_rng(1).normal(0, 0.1, RATE).astype(np.float32)


def test_the_attention_has_the_seconds_of_the_encoders_frames(sweep: OpenedSweep) -> None:
    assert sweep.findings.best is not None
    rows = sweep.findings.best.inspection.to_pylist()
    shown = [row for row in rows if row["attention"] and row["fold"] == rows[0]["fold"]]
    first = min(shown, key=lambda row: sweep.record.classes.index(row["truth"]))
    (curve,) = first["attention"]
    assert first["seconds"] == pytest.approx(len(curve["weights"]) * 0.04)
    drawn = page_of(sweep.ledger).figure("attention")["data"]
    assert len(drawn) == len(shown)
    middles = 0.04 * np.arange(len(curve["weights"])) + 0.02
    np.testing.assert_allclose(drawn[0]["x"], middles, atol=1e-3)


def test_a_sweep_needs_the_encoder_that_trained_it(
    sweep: OpenedSweep, folder: Path, samples: np.ndarray
) -> None:
    remedy = r'--feature encoder=PATH, or load_model\(\.\.\., features=\{"encoder": "PATH"\}\)'
    with pytest.raises(FeatureError, match=rf"/encoder' does not exist: .*{remedy}") as caught:
        load_model(sweep)
    assert "\n" not in str(caught.value)
    model = load_model(sweep, features={"encoder": str(folder / "copy")})
    assert sum(model.predict(samples, RATE).values()) == pytest.approx(1)
    with pytest.raises(FeatureError, match=r"/other' has other contents .* trained bigru_att: "):
        load_model(sweep, features={"encoder": str(folder / "other")})
    shutil.copytree(folder / "other", folder / "encoder")  # the old path has new contents
    try:
        with pytest.raises(FeatureError, match=r"/encoder' has other contents than in training"):
            load_model(sweep)
    finally:
        shutil.rmtree(folder / "encoder")
    record = sweep.record.model_copy(update={"feature_files": []})  # older than this check
    sweep.ledger.write_sweep(record)
    try:
        load_model(str(sweep.ledger.storage.root), features={"encoder": str(folder / "other")})
    finally:
        sweep.ledger.write_sweep(sweep.record)


def test_a_sweep_with_a_changed_encoder_is_refused_before_the_extraction(
    sweep: OpenedSweep, folder: Path
) -> None:
    configuration = parse(sweep.record.configuration)
    extracted = sorted(path.name for path in (folder / "features").iterdir())
    shutil.copytree(folder / "other", folder / "encoder")
    try:
        with pytest.raises(ConfigError, match=r"contents of features\.encoder=\S+ have changed"):
            run_sweep(configuration, Narrator())
    finally:
        shutil.rmtree(folder / "encoder")
    assert sorted(path.name for path in (folder / "features").iterdir()) == extracted


def test_an_export_names_the_encoder_and_never_opens_its_path(
    sweep: OpenedSweep, folder: Path, samples: np.ndarray, tmp_path: Path
) -> None:
    copy = {"encoder": str(folder / "copy")}
    export_model(sweep, str(tmp_path), features=copy)
    expected = load_model(sweep, features=copy).predict(samples, RATE)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert 'load_model("THIS FOLDER", features={"encoder": "PATH"})' in card
    assert "ser predict THIS_FOLDER FILE... --feature encoder=PATH`" in card
    assert "needs the pretrained encoder that trained it, which is not part of it" in card
    assert "a licence of its own" in card
    with pytest.raises(ConfigError, match=r"features\.encoder names a file .* is not opened"):
        load_model(str(tmp_path))
    loaded = load_model(str(tmp_path), features=copy)
    assert loaded.predict(samples, RATE) == pytest.approx(expected, abs=1e-6)
    for place, reason in (("other", "has other contents than"), ("x", "does not exist")):
        with pytest.raises(FeatureError, match=rf"/{place}' {reason}.*--feature encoder=PATH"):
            load_model(str(tmp_path), features={"encoder": str(folder / place)})
