"""The registry of feature sets, and the checks of their configurations."""

import numpy as np
import pytest
from pydantic import ValidationError

from features.sets import FEATURES, FeatureConfig
from features.sets.emobase_functionals import FunctionalsConfig
from features.sets.emobase_lld45 import EmobaseConfig
from features.sets.logmel3d import LogMelConfig
from tests.support.signals import RATE, noise


def test_every_set_has_a_configuration_with_its_name() -> None:
    for name, kind in FEATURES.items():
        feature_set = kind().load()
        assert kind.shapes == (feature_set.shape,)
        assert issubclass(kind, FeatureConfig)
        assert kind().name == name
        group = kind().group
        assert group is not None
        assert feature_set.dims % group == 0
        assert kind(normalize="none").group is None
        with pytest.raises(ValidationError):
            kind(normalize="speakers")
    assert (EmobaseConfig().pooling, EmobaseConfig().cap) == (5, 2500)
    assert (LogMelConfig().pooling, LogMelConfig().cap) == (1, None)
    assert (LogMelConfig().group, LogMelConfig(normalize="band").group) == (40, 1)
    assert [kind().load().dims for kind in FEATURES.values()] == [45, 120, 988, 6373]


def test_configuration_is_checked() -> None:
    assert LogMelConfig().segment == 300
    for odd in (301, 0, -2):
        with pytest.raises(ValidationError):
            LogMelConfig(segment=odd)
    for kind, key in ((LogMelConfig, "pool"), (EmobaseConfig, "segment"),
                      (FunctionalsConfig, "max_frames")):  # fmt: skip
        with pytest.raises(ValidationError, match="Extra inputs"):
            kind(**{key: 4})
    assert EmobaseConfig().model_dump() == {
        "name": "emobase_lld45",
        "pool": 5,
        "normalize": "speaker",
        "max_frames": 2500,
        "max_errors": 0,
    }
    for wrong in ({"pool": 0}, {"normalise": "speaker"}, {"name": "mfcc"}, {"max_errors": -1}):
        with pytest.raises(ValidationError):
            EmobaseConfig(**wrong)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("emobase_lld45", 480),
        ("logmel3d", 480),
        ("emobase_functionals", 640),
        ("compare_functionals", 960),
    ],
)
def test_unusable_signals_are_refused(name: str, least: int) -> None:
    feature_set = FEATURES[name]().load()
    extract = feature_set.extract
    assert extract(noise(least), RATE).shape[1] == feature_set.dims
    with pytest.raises(ValueError, match=f"too short: .* at least {least} are needed"):
        extract(noise(least - 1), RATE)
    with pytest.raises(ValueError, match="mono"):
        extract(np.zeros((1000, 2)), RATE)


@pytest.mark.filterwarnings("ignore:Segment too short")
def test_functionals_that_are_not_finite_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """openSMILE returns NaN for a signal below its minimum."""
    monkeypatch.setattr("features.sets.emobase_functionals.MIN_SAMPLES", 0)
    with pytest.raises(ValueError, match=r"not finite: pcm_intensity_sma_max, .* and 983 more"):
        FunctionalsConfig().load().extract(noise(639), RATE)
