"""Sets of openSMILE, and configuration files of users, against `opensmile.Smile` itself."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from features.errors import FeatureError
from features.extract import extraction_hash
from features.sets.emobase_functionals import GROUPS
from features.sets.emobase_lld45 import CONFIG_FILE
from features.sets.opensmile import LEVELS, SETS, OpenSmileConfig
from tests.support.signals import RATE, harmonics, noise

pytestmark = pytest.mark.filterwarnings("ignore:Feature set", "ignore:Segment too short")

SIGNALS = {
    "noise": noise(8000),
    "60 ms": noise(960),
    "voice": harmonics(150, 0.5),
    "silence": np.zeros(4000),
    "one click": np.eye(1, 4000, 2000)[0] * 0.9,
}
FRAMES = "low_level_descriptors"


def reference(feature_set: str, level: str) -> object:
    """A new `opensmile.Smile`: of a set of the package, or of a configuration file."""
    import opensmile

    known = opensmile.FeatureSet.__members__
    if feature_set in known:
        return opensmile.Smile(known[feature_set], opensmile.FeatureLevel(LEVELS[level]))
    return opensmile.Smile(feature_set, LEVELS[level])


def test_the_sets_are_those_of_the_package() -> None:
    import opensmile

    names = set(opensmile.FeatureSet.__members__)
    assert names - set(SETS) == {"GeMAPS", "eGeMAPS"}  # other names of v01a
    for name in ("GeMAPS", "eGeMAPS"):
        config = OpenSmileConfig(feature_set=name)
        assert config == OpenSmileConfig(feature_set=f"{name}v01a")
        assert opensmile.FeatureSet[name] == opensmile.FeatureSet[config.feature_set]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SETS)
def test_the_table_of_sets_is_right(name: str, level: str) -> None:
    smile = reference(name, level)
    feature_set = OpenSmileConfig(feature_set=name, level=level).load()
    assert feature_set.dims == len(smile.feature_names)
    assert feature_set.shape == ("frames" if level == FRAMES else "vector")
    if level == FRAMES:
        (shown,) = smile.feature_names[feature_set.picture]
        assert shown in (
            *("Loudness_sma3", "pcm_loudness_sma", "pcm_RMSenergy_sma"),
            "audspec_lengthL1norm_sma",  # the loudness of ComParE and the sets before it
        )
    least = SETS[name].least
    assert feature_set.extract(noise(least), RATE).shape == (
        1 + (level == FRAMES),
        feature_set.dims,
    )
    assert np.isnan(smile(noise(least - 1), RATE)).all()
    with pytest.raises(ValueError, match=f"too short: .* at least {least} are needed"):
        feature_set.extract(noise(least - 1), RATE)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["eGeMAPSv02", "ComParE_2016"])
def test_values_are_those_of_opensmile(name: str, level: str, signal: str) -> None:
    samples = SIGNALS[signal]
    values = OpenSmileConfig(feature_set=name, level=level).load().extract(samples, RATE)
    expected = reference(name, level).process_signal(samples.astype(np.float32), RATE).to_numpy()
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    np.testing.assert_array_equal(values, expected)


def test_full_scale_does_not_wrap_and_other_rates_are_resampled() -> None:
    import soxr

    extract = OpenSmileConfig(level=FRAMES).load().extract
    loud = np.where(noise(RATE) > 0, 1.0, -1.0)
    np.testing.assert_array_equal(extract(loud, RATE), extract(np.minimum(loud, 0.99997), RATE))
    pitch = extract(soxr.resample(harmonics(200), RATE, 44_100), 44_100)[:, 10]
    # Semitones above 27.5 Hz.
    assert np.median(pitch) == pytest.approx(12 * np.log2(200 / 27.5), abs=0.1)


def test_only_emobase_functionals_have_groups() -> None:
    assert OpenSmileConfig(feature_set="emobase").load().groups == GROUPS
    assert OpenSmileConfig().load().groups == {}


def test_options_follow_the_level() -> None:
    frames, vector = OpenSmileConfig(level=FRAMES), OpenSmileConfig()
    assert (frames.pooling, frames.cap) == (5, 2500)
    assert (vector.pooling, vector.cap, vector.pool, vector.max_frames) == (1, None, None, None)
    assert OpenSmileConfig(level=FRAMES, pool=5) == frames  # the same trial id
    for config in (frames, vector):
        assert OpenSmileConfig(**json.loads(config.model_dump_json())) == config
    for key in ("pool", "max_frames"):
        with pytest.raises(ValidationError, match="low_level_descriptors only"):
            OpenSmileConfig(**{key: 3})
        with pytest.raises(ValidationError, match="greater than or equal to 1"):
            OpenSmileConfig(**{key: 0}, level=FRAMES)


# Configuration files of users

DESCRIPTORS = CONFIG_FILE.read_text(encoding="utf-8").replace("dmLevel = all\n", "dmLevel = mine\n")
"""A complete configuration with 17 descriptors at the level `lld`."""
SOURCE = r"\{\cm[source{?}:include external source]}"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A configuration file that includes another one, which includes the chain of components."""
    head, _, chain = DESCRIPTORS.partition(SOURCE)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/chain.inc").write_text(chain)
    (tmp_path / "parts/all.inc").write_text("\\{chain.inc}\n")
    path = tmp_path / "mine.conf"
    path.write_text(f"{head}{SOURCE}\n\\{{\\cm[chain{{parts/all.inc}}:the components]}}\n")
    return path


def of(path: Path, level: str = FRAMES) -> OpenSmileConfig:
    return OpenSmileConfig(feature_set=str(path), level=level)


def test_values_of_a_file_are_those_of_opensmile(mine: Path) -> None:
    feature_set = of(mine).load()
    smile = reference(str(mine), FRAMES)
    assert (feature_set.dims, feature_set.rate) == (17, 100)
    assert "intensity" in smile.feature_names[feature_set.picture.start]
    for samples in (SIGNALS["noise"], SIGNALS["voice"]):
        expected = smile.process_signal(samples.astype(np.float32), RATE).to_numpy()
        np.testing.assert_array_equal(feature_set.extract(samples, RATE), expected)
    with pytest.raises(ValueError, match=r"too short: .* no values for 300 samples .*18.75 ms"):
        feature_set.extract(noise(300), RATE)


def test_the_content_of_a_file_decides_its_hash_and_not_its_place(
    mine: Path, tmp_path: Path
) -> None:
    before = extraction_hash(of(mine))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "parts").rename(moved / "parts")
    mine.rename(moved / "other.conf")
    moved_file = moved / "other.conf"
    assert extraction_hash(of(moved_file)) == before
    included = moved / "parts/chain.inc"
    text = included.read_text()
    assert "nCeps" not in text
    included.write_text(text.replace("lastMfcc = 12", "lastMfcc = 11"))
    assert included.read_text() != text
    assert extraction_hash(of(moved_file)) != before
    assert of(moved_file).load().dims == 16  # the process reads the changed file


def test_the_hash_depends_on_set_and_level() -> None:
    configs = [OpenSmileConfig(feature_set=name, level=level) for name in SETS for level in LEVELS]
    assert len({extraction_hash(config) for config in configs}) == len(configs)
    assert extraction_hash(OpenSmileConfig(normalize="train", max_errors=3)) == extraction_hash(
        OpenSmileConfig()
    )


INVERSE = r"""
[componentInstances:cComponentManager]
instance[dataMemory].type = cDataMemory
instance[frames].type = cFramer
instance[energy].type = cEnergy
instance[inverse].type = cVectorOperation
\{\cm[source{?}:include external source]}
[frames:cFramer]
reader.dmLevel = wave
writer.dmLevel = frames
frameSize = 0.025
frameStep = 0.010
[energy:cEnergy]
reader.dmLevel = frames
writer.dmLevel = energy
rms = 1
log = 0
[inverse:cVectorOperation]
reader.dmLevel = energy
writer.dmLevel = lld
processArrayFields = 0
includeSingleElementFields = 1
operation = pow
param1 = -1
\{\cm[sink{?}:include external sink]}
"""


def test_a_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.conf"
    path.write_text(INVERSE)  # the inverse of the energy is infinite in silence
    extract = of(path).load().extract
    assert np.isfinite(extract(noise(8000), RATE)).all()
    with pytest.raises(ValueError, match="openSMILE returned values that are not finite: pcm_RMS"):
        extract(np.concatenate([noise(RATE), np.zeros(RATE)]), RATE)


@pytest.mark.parametrize(
    ("level", "change", "message"),
    [
        pytest.param(
            "functionals", ("", ""), "is refused by openSMILE: dataMemory: level 'func' was not",
            id="no such level",
        ),
        pytest.param(
            FRAMES, ("cMZcr", "cNoSuch"), "is refused by openSMILE: .*unknown component type",
            id="unknown component",
        ),
        pytest.param(FRAMES, (SOURCE, ""), "is refused by openSMILE: .*level 'wave'", id="source"),
        pytest.param(
            FRAMES, (r"\{\cm[sink", r"; \{\cm[sink"), r"is refused by openSMILE: .*\\cm\[sink",
            id="sink",
        ),
        pytest.param(
            FRAMES, ("nThreads", "instance[out].type = cCsvSink\nnThreads"),
            "has the component cCsvSink, which reads or writes a file or a device. Remove it",
            id="writes files",
        ),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    level: str, change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.conf"
    path.write_text(DESCRIPTORS.replace(*change))
    with pytest.raises(FeatureError, match=f"features.feature_set: {path} {message}") as caught:
        of(path, level).load()
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_set_and_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"no set eGeMAPSv03, and .* no file .*eGeMAPSv02"):
        OpenSmileConfig(feature_set="eGeMAPSv03").load()
    with pytest.raises(FeatureError, match="no file"):
        of(tmp_path).load()
