"""Embeddings and attention of the test part, against the network asked again one by one."""

import dataclasses

import numpy as np
import pytest
import torch

from orchestrator.training.batches import Dataset, make_batch
from orchestrator.config.sections import Configuration, parse
from orchestrator.data.folds import Fold
from orchestrator.training.inspection import samples
from orchestrator.training.gradient import fold_run

SMALL = {"first_maps": 2, "maps": 3, "conv_layers": 1, "linear_size": 5, "hidden_size": 4}
MODELS = {
    "iaan": {"hidden_size": 8, "attention_size": 8},
    "acrnn": SMALL,
    "ssa_crnn_r": SMALL,
}


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_what_the_network_says_of_each_utterance(
    name: str, dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    raw = configuration.resolved() | {"model": {"name": name, **MODELS[name]}, "features": {}}
    data = dataset if name == "iaan" else dataclasses.replace(dataset, segment=4)
    run = fold_run(folds[0], data, parse(raw))
    run.train_epoch()
    found = run.finish().inspection
    assert [row["utterance"] for row in found] == [data.ids[r] for r in np.sort(folds[0].test)]
    shown = [row for row in found if row["attention"] is not None]
    assert sorted(row["truth"] for row in shown) == sorted(data.classes)
    for row in found:
        index = data.ids.index(row["utterance"])
        pieces = data.pieces(np.asarray([index]))
        batch = make_batch(data, pieces)
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
        for curve in row["attention"]:
            weights = output.attention[curve["name"]]
            expected = torch.cat([w[w > 0] for w in weights])  # padding has none
            torch.testing.assert_close(torch.tensor(curve["weights"]), expected, atol=1e-5, rtol=0)


def test_what_does_not_attend_leaves_nothing(
    dataset: Dataset, folds: list[Fold], configuration: Configuration
) -> None:
    raw = configuration.resolved()
    raw |= {"model": {"name": "linear_svm"}, "features": {}, "training": {}}
    means = [part.mean(0) for part in np.split(dataset.frames, dataset.offsets[1:-1])]
    data = dataclasses.replace(dataset, frames=np.stack(means), offsets=np.arange(len(means) + 1))
    run = fold_run(folds[0], data, parse(raw))
    run.train_epoch()
    assert run.finish().inspection == []


def test_samples_are_of_the_median_length() -> None:
    labels = np.asarray([0, 1, 0, 0, 1, 2])
    lengths = np.asarray([9, 5, 1, 4, 7, 3])
    assert samples(labels, lengths).tolist() == [3, 1, 5]
