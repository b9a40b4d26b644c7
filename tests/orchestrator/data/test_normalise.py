"""The data of a run for each value of `features.normalize`, without Ray."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sklearn.metrics import recall_score

from features.errors import FeatureError
from features.storage import Storage
from orchestrator.config.parsing import parse
from orchestrator.config.searched import features_key
from orchestrator.config.sections import Configuration
from orchestrator.data.corpus import read_corpus
from orchestrator.data.prepare import Plan, Prepared, plan_folds, prepare
from orchestrator.ledger.ledger import Ledger
from tests.support.extraction import run_without_ray
from tests.support.signals import noise
from tests.support.training import TRIAL, cross_validated
from tests.support.voices import CLASSES, make_voices

MODEL = {"emobase_lld45": "bigru_att", "logmel3d": "acrnn", "emobase_functionals": "linear_svm"}
BY_SPEAKER = {"emobase_lld45": ["speaker"], "logmel3d": ["channel", "band"]}


def configured(manifest: Path, model: str, **changed: Any) -> Configuration:
    raw: dict[str, Any] = {
        "name": "voices",
        "corpus": {"root": str(manifest), "classes": list(CLASSES)},
        "model": {"name": model},
        "folds": {"scheme": "stratified_group_k_fold", "folds": 4},
    }
    return parse(raw | changed)


def prepared(configuration: Configuration, storage: Path, *searched: str) -> tuple[Plan, Prepared]:
    opened = Storage.open(str(storage))
    manifest = read_corpus(configuration.corpus).manifest
    run_without_ray(manifest, opened.child("features"), configuration.features)
    own = configuration.features.normalize
    values = [{"features.normalize": value} for value in dict.fromkeys((own, *searched))]
    plan = plan_folds(configuration, [configuration.with_values(each).features for each in values])
    return plan, prepare(plan, opened, lambda *_: None)


@pytest.mark.parametrize("name", MODEL)
def test_each_value_has_its_frames_and_each_fold_its_statistics(name: str, tmp_path: Path) -> None:
    """Statistics by definition: over all frames of the labelled utterances that train."""
    manifest = make_voices(tmp_path / "corpus", [list(CLASSES)] * 4, takes=2, unlabelled=1)
    by_speaker = BY_SPEAKER.get(name, ["speaker"])
    configuration = configured(manifest, MODEL[name])
    values = [*by_speaker, "train", "none"]
    _, got = prepared(configuration, tmp_path / "runs", *values)
    datasets = dict(zip(values, got.datasets.values(), strict=True))
    assert got.dataset is datasets[by_speaker[0]]
    data = datasets["train"]
    assert data.frames is datasets["none"].frames  # one array for both
    for value in values:
        fixed = configuration.with_values({"features.normalize": value})
        _, alone = prepared(fixed, tmp_path / "runs")
        assert list(alone.datasets) == [features_key(fixed.features)]
        assert got.datasets[features_key(fixed.features)] is datasets[value]
        np.testing.assert_array_equal(alone.dataset.frames, datasets[value].frames)
        assert alone.fingerprint == got.fingerprint == got.fingerprint_of(fixed.features)
        assert bool(alone.dataset.statistics) == (value == "train")

    assert (data.labels < 0).sum() == 4
    whole = configuration.features.model_copy(update={"normalize": "none", "pool": 1})
    corpus = read_corpus(configuration.corpus).manifest
    raw = run_without_ray(corpus, Storage.open(str(tmp_path / "again")), whole).load(corpus, whole)
    for fold in got.folds:
        frames = [raw.frames[raw.offsets[row] : raw.offsets[row + 1]] for row in fold.train]
        exact = np.concatenate(frames).astype(np.float64)
        count, mean, deviation = data.statistics[fold.name]
        assert count == len(exact)
        np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(deviation, exact.std(axis=0), rtol=1e-6, atol=1e-6)


def test_all_feature_sets_of_a_search_have_the_same_utterances_and_folds(tmp_path: Path) -> None:
    """50 ms are too short for ComParE, and long enough for emobase: no trial has the utterance."""
    manifest = make_voices(tmp_path / "corpus", [list(CLASSES)] * 4, takes=2)
    first = sorted(manifest.parent.rglob("*.wav"))[0]
    soundfile.write(first, noise(800) * 0.1, 16_000)
    configuration = configured(manifest, "linear_svm", features={"max_errors": 1})
    other = configuration.with_values({"features.name": "compare_functionals"})
    names = (configuration.features, other.features)
    storage = Storage.open(str(tmp_path / "runs"))
    got = prepare(plan_folds(configuration, names), storage, lambda *_: None)
    emobase, compare = got.datasets.values()
    assert emobase.ids == compare.ids
    assert len(emobase.ids) == 31
    assert first.stem not in emobase.ids
    assert (emobase.dims, compare.dims) == (988, 6373)
    np.testing.assert_array_equal(emobase.labels, compare.labels)
    (note,) = [note for note in got.notes if "left out of all trials" in note]
    assert note.startswith("1 utterances have no features of at least one feature set, and are ")
    assert f"{first.name} (compare_functionals): " in note
    # Alone, emobase has all utterances.
    alone = prepare(plan_folds(configuration), storage, lambda *_: None)
    assert len(alone.dataset.ids) == 32
    # ComParE alone is the same data as in the search, and so has the same trials.
    compared = prepare(plan_folds(other), storage, lambda *_: None)
    assert compared.fingerprint == got.fingerprint_of(other.features)
    assert len({alone.fingerprint, *got.fingerprints.values(), got.fingerprint}) == 4
    strict = other.with_values({"features.max_errors": 0})
    with pytest.raises(FeatureError, match="1 of 32 utterances have no features"):
        prepare(plan_folds(strict), storage, lambda *_: None)


def pooled_ua(folder: Path, configuration: Configuration, dataset: Any, folds: Any) -> float:
    record, _ = cross_validated(folder, dataset, folds, configuration)
    assert record.status == "complete", record.reason
    rows = Ledger(Storage.open(str(folder))).predictions(TRIAL).to_pylist()
    truth, guess = ([row[name] for row in rows] for name in ("truth", "prediction"))
    return recall_score(truth, guess, average="macro")


@pytest.mark.parametrize("mixed", [4, 2, 0])
def test_a_speaker_s_own_mean_hides_the_class_and_the_training_part_does_not(
    mixed: int, tmp_path: Path
) -> None:
    """Most speakers have one class. The danger is named before training, with the remedy."""
    speakers = [[name] for name in CLASSES for _ in range(4)] + [list(CLASSES)] * mixed
    manifest = make_voices(tmp_path / "corpus", speakers, takes=4)
    configuration = configured(manifest, "linear_svm")
    plan, data = prepared(configuration, tmp_path / "runs", "train")
    share = 64 / (64 + 16 * mixed)
    (note,) = [note for note in plan.audit.notes if "one class only" in note]
    assert f"16 of {16 + mixed}, with {share:.0%} of the labelled utterances" in note
    assert note.endswith("Set features.normalize: train.")

    scores = {}
    for value in ("speaker", "train"):
        chosen = configuration.with_values({"features.normalize": value})
        dataset = data.datasets[features_key(chosen.features)]
        scores[value] = pooled_ua(tmp_path / value, chosen, dataset, data.folds)
    assert scores["train"] > 0.8
    assert scores["train"] > scores["speaker"] + 0.3


def test_without_such_speakers_nothing_is_said(tmp_path: Path) -> None:
    manifest = make_voices(tmp_path / "corpus", [list(CLASSES)] * 4, takes=16)
    configuration = configured(manifest, "linear_svm")
    notes = plan_folds(configuration).audit.notes
    assert not any("normalize: train" in note for note in notes)
    assert plan_folds(configuration).audit.coverage is not None
    fixed = configuration.with_values({"features.normalize": "train"})
    assert plan_folds(fixed).audit.coverage is None
