"""Every feature set through extraction, store and normalisation, on spoken utterances."""

from pathlib import Path

import numpy as np
import pytest

from features.errors import FeatureError
from features.manifest import Manifest, read_manifest
from features.sets import FEATURES as CONFIGS
from features.sets import FeatureConfig
from features.sets.emobase_lld45 import EmobaseConfig
from features.sets.logmel3d import BANDS, LogMelConfig
from features.store import FeatureStore
from tests.support.extraction import run, samples_of


@pytest.fixture(scope="module")
def turns(spoken: Path) -> Manifest:
    """Three spoken utterances of each of two speakers, alternating."""
    whole = read_manifest(str(spoken))
    speakers = whole.table["speaker"].to_pylist()
    chosen = list(dict.fromkeys(speakers))[:2]
    rows = zip(*([i for i, s in enumerate(speakers) if s == c][:3] for c in chosen), strict=True)
    return Manifest(whole.table.take([i for pair in rows for i in pair]), whole.root)


@pytest.fixture(scope="module")
def stores(
    turns: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[FeatureStore, list]]:
    """Each feature set's store and calls of `progress`, all in one folder."""
    folder = tmp_path_factory.mktemp("stores")
    stores = {n: run(turns, folder, 1, kind()) for n, kind in CONFIGS.items()}
    for name, kind in CONFIGS.items():
        assert run(turns, folder, 1, kind())[1] == [], f"{name} was extracted again"
    return stores


@pytest.mark.parametrize("name", CONFIGS)
class TestEachSet:
    def test_values_are_those_of_the_file(
        self, name: str, turns: Manifest, stores: dict[str, tuple[FeatureStore, list]]
    ) -> None:
        store, calls = stores[name]
        assert calls == [(i, 6, None) for i in range(1, 7)]
        pool = {"pool": 1} if name == "emobase_lld45" else {}
        features = store.load(turns, CONFIGS[name](normalize="none", **pool))
        assert features.ids == turns.table["id"].to_pylist()
        assert features.frames.shape == (features.offsets[-1], CONFIGS[name]().load().dims)
        assert features.frames.dtype == np.float32
        assert features.frames.flags.c_contiguous
        for i, file in enumerate(turns.table["file"].to_pylist()):
            want = CONFIGS[name]().load().extract(samples_of(turns.root, file), 16_000)
            got = features.frames[features.offsets[i] : features.offsets[i + 1]]
            # A matrix product with more threads may add in another order.
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-5)
        if name in ("emobase_functionals", "compare_functionals"):
            assert np.diff(features.offsets).tolist() == [1] * 6

    def test_another_sets_configuration_is_refused(
        self, name: str, turns: Manifest, stores: dict[str, tuple[FeatureStore, list]]
    ) -> None:
        for other, kind in CONFIGS.items():
            if other != name:
                with pytest.raises(FeatureError, match=f"holds {name}: it has no {other}"):
                    stores[name][0].load(turns, kind())

    def test_normalised_columns_have_mean_0_and_deviation_1_of_each_speaker(
        self, name: str, turns: Manifest, stores: dict[str, tuple[FeatureStore, list]]
    ) -> None:
        config = {
            "emobase_lld45": EmobaseConfig(pool=1),
            "logmel3d": LogMelConfig(normalize="band"),
        }.get(name, CONFIGS[name]())
        constant = 0
        for values in by_speaker(stores[name][0], turns, config):
            np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
            moving = (values != 0).any(axis=0)
            np.testing.assert_allclose(values[:, moving].std(axis=0), 1, atol=1e-5)
            constant += int((~moving).sum())
        # Some functionals are equal in all three utterances: the minimum of F0 is always 0.
        # ComParE has more of these, and 6,373 columns of two speakers.
        assert constant == 0 or name.endswith("_functionals")
        assert constant < 200


def by_speaker(store: FeatureStore, manifest: Manifest, config: FeatureConfig) -> list[np.ndarray]:
    """All frames of each speaker, (frames, dims) float64."""
    features = store.load(manifest, config)
    speakers = np.repeat(manifest.table["speaker"].to_pylist(), np.diff(features.offsets))
    return [features.frames[speakers == s].astype(np.float64) for s in sorted(set(speakers))]


def test_each_channel_of_log_mel_is_normalised_as_a_whole(
    turns: Manifest, stores: dict[str, tuple[FeatureStore, list]]
) -> None:
    store, _ = stores["logmel3d"]
    raw = by_speaker(store, turns, LogMelConfig(normalize="none"))
    for values, before in zip(by_speaker(store, turns, LogMelConfig()), raw, strict=True):
        assert before.shape == values.shape
        for channel in range(3):
            columns = slice(channel * BANDS, (channel + 1) * BANDS)
            part = before[:, columns]
            assert values[:, columns].mean() == pytest.approx(0, abs=1e-5)
            assert values[:, columns].std() == pytest.approx(1, abs=1e-5)
            np.testing.assert_allclose(
                values[:, columns], (part - part.mean()) / part.std(), atol=1e-5
            )
        # The bands still differ, so they were not normalised one by one.
        assert np.abs(values[:, :BANDS].mean(axis=0)).max() > 0.1
