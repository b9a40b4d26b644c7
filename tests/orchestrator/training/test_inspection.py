"""Embeddings and attention of the test part, compared with one forward pass per utterance."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from features.context import turns_before
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.training.batches import make_batch
from orchestrator.training.inspection import samples
from orchestrator.training.runs import fold_run
from tests.support.training import in_form, with_model


@pytest.mark.parametrize("name", ["iaan", "acrnn", "ssa_crnn_r", "adrnn"])
def test_rows_equal_the_network_output_of_each_utterance(
    name: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    data = dataclasses.replace(in_form(name, dataset), frame=0.02)
    run = fold_run(folds[0], data, with_model(configuration, name))
    run.train_epoch()
    rows = run.finish().inspection
    assert [row["utterance"] for row in rows] == [data.ids[r] for r in np.sort(folds[0].test)]
    shown = [row for row in rows if row["attention"] is not None]
    assert sorted(row["truth"] for row in shown) == sorted(data.classes)
    for row in rows:
        index = data.ids.index(row["utterance"])
        batch = make_batch(data, data.pieces(np.asarray([index])))
        with torch.no_grad():
            output = run.model(batch.current, batch.own, batch.other)
        torch.testing.assert_close(
            torch.tensor(row["embedding"]), output.embedding.mean(0), atol=1e-5, rtol=0
        )
        assert (row["speaker_embedding"] is None) == (name != "ssa_crnn_r")
        if row["attention"] is None:
            continue
        frames = data.frames[data.offsets[index] : data.offsets[index + 1]]
        picture = np.reshape(row["picture"], (len(frames), row["bands"]))
        assert picture[0, 0] in frames[0]
        assert row["seconds"] == len(frames) * 0.02
        for curve in row["attention"]:
            weights = output.attention[curve["name"]].numpy()
            if curve["name"] in ("own", "other") or data.segment is None:
                expected = weights[0, : np.count_nonzero(weights[0])]  # those of padding are zero
            else:  # a weight for two frames, from the first step that is in the segment as a whole
                expected = np.zeros(math.ceil(len(frames) / 2))
                ends = [*range(data.segment, len(frames), data.segment), len(frames)]
                for end, of_segment in zip(ends, weights, strict=True):
                    last = math.ceil(end / 2)
                    steps = min(len(of_segment), last)
                    expected[last - steps : last] += of_segment[:steps]
            np.testing.assert_allclose(curve["weights"], expected, atol=1e-5, rtol=0)


def test_a_model_of_vectors_has_weights_over_its_context_turns(
    table: pa.Table, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    conversation = (table[name].to_pylist() for name in ("speaker", "dialogue", "turn"))
    own, other = turns_before(*conversation, window=40)
    data = dataclasses.replace(in_form("cmn", dataset), own=own, other=other)
    run = fold_run(folds[0], data, with_model(configuration, "cmn"))
    run.train_epoch()
    rows = run.finish().inspection
    shown = [row for row in rows if row["attention"] is not None]
    assert sorted(row["truth"] for row in shown) == sorted(data.classes)
    for row in shown:
        index = data.ids.index(row["utterance"])
        batch = make_batch(data, data.pieces(np.asarray([index])))
        with torch.no_grad():
            output = run.model(batch.current, batch.own, batch.other)
        assert [curve["name"] for curve in row["attention"]] == ["own", "other"]
        for curve, turns in zip(row["attention"], (own, other), strict=True):
            assert len(curve["weights"]) == turns.counts[index]
            expected = output.attention[curve["name"]][0, : turns.counts[index]]
            np.testing.assert_allclose(curve["weights"], expected, atol=1e-5, rtol=0)
        assert (row["picture"], row["bands"]) == ([], 0)
        turns_before_each = own.counts + other.counts
        test = folds[0].test
        of_class = np.sort(turns_before_each[test[data.labels[test] == data.labels[index]]])
        assert turns_before_each[index] == of_class[(len(of_class) - 1) // 2]  # the median


def test_a_model_without_attention_has_no_rows(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    run = fold_run(
        folds[0], in_form("linear_svm", dataset), with_model(configuration, "linear_svm")
    )
    run.train_epoch()
    assert run.finish().inspection == []


def test_samples_have_the_median_length_of_their_class() -> None:
    labels = np.asarray([0, 1, 0, 0, 1, 2])
    lengths = np.asarray([9, 5, 1, 4, 7, 3])
    assert samples(labels, lengths).tolist() == [3, 1, 5]
