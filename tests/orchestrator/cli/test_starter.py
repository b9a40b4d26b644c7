"""The configuration of `ser init`, for every model."""

from pathlib import Path

import pytest

from orchestrator.cli.starter import starter
from orchestrator.config.parsing import load
from orchestrator.errors import ConfigError
from orchestrator.sweep.check import check
from ser_models import MODELS
from tests.support.encoders import shared_encoder


@pytest.mark.parametrize("name", MODELS)
def test_it_passes_the_checks_of_a_sweep(name: str, spoken: Path, tmp_path: Path) -> None:
    path = tmp_path / "ser.yaml"
    path.write_text(starter("manifest", str(spoken), name), encoding="utf-8")
    overrides = [f"storage={tmp_path / 'runs'}"]
    if MODELS[name].features.startswith("encoder_"):
        with pytest.raises(ConfigError, match=r"encoder: 'PATH/TO/ENCODER' does not exist"):
            check(load(str(path), overrides))
        overrides.append(f"features.encoder={shared_encoder()}")
    configuration = load(str(path), overrides)
    assert configuration.model.name == name
    _, space = check(configuration)
    searched = {key.removeprefix("model.") for key in space.parameters if key.startswith("model.")}
    assert searched
    assert searched <= MODELS[name].hyperparameters().keys()
