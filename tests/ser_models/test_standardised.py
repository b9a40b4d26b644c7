"""Networks that compute z-scores themselves, against z-scores computed beforehand."""

import numpy as np
import pytest
import torch

from features.statistics import normalise
from ser_models import MODELS, Sizes
from ser_models.linear_svm import LinearSVM
from ser_models.sequences import Padded
from ser_models.standardised import Standardised

SIZES = Sizes(dims=12, classes=4, speakers=3, segment=8)
SMALL = {
    "iaan": {"hidden_size": 8, "attention_size": 8},
    "bilstm_att": {"dense_size": 8, "hidden_size": 4},
    "ssa_crnn_r": {"first_maps": 2, "maps": 3, "conv_layers": 1, "linear_size": 5}
    | {"hidden_size": 4, "embedding_size": 6},
}


def statistics(constant: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of very different sizes; the column `constant` has no deviation."""
    rng = np.random.default_rng(constant)
    mean, deviation = 10.0 ** rng.integers(-3, 6, size=12), rng.uniform(0.1, 9, size=12)
    deviation[constant] = 0.0
    return mean, deviation


def turns(lengths: list[int], mean: np.ndarray, deviation: np.ndarray) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(n, 12)) * (deviation + 0.1) + mean for n in lengths)
    return [part.astype(np.float32) for part in values]


def padded(parts: list[np.ndarray]) -> Padded:
    values = np.zeros((len(parts), 8, 12), np.float32)
    for row, part in zip(values, parts, strict=True):
        row[: len(part)] = part
    return Padded(torch.from_numpy(values), torch.tensor([len(part) for part in parts]))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("constant", [0, 5, 11])
def test_the_output_is_that_of_the_network_for_z_scores(name: str, constant: int) -> None:
    """To the same bits. Padding stays zero, and an absent turn stays absent."""
    mean, deviation = statistics(constant)
    network = MODELS[name](SIZES, **SMALL[name]).eval()
    model = Standardised(network, 12).eval()
    model.set_statistics(mean, deviation)
    raw = [turns(n, mean, deviation) for n in ([8, 3, 5], [4, 0, 8], [0, 0, 1])]
    scores = [[normalise(part, mean, deviation) for part in batch] for batch in raw]
    got, want = model(*map(padded, raw)), network(*map(padded, scores))
    assert torch.equal(got.logits, want.logits)
    assert torch.equal(got.embedding, want.embedding)


def test_the_vectors_of_context_turns_become_z_scores_too() -> None:
    mean, deviation = statistics(4)
    network = MODELS["cmn"](SIZES, hidden_size=5).eval()
    model = Standardised(network, 12).eval()
    model.set_statistics(mean, deviation)
    raw = [turns(n, mean, deviation) for n in ([1, 1, 1], [4, 0, 8], [0, 3, 1])]
    scores = [[normalise(part, mean, deviation) for part in batch] for batch in raw]
    got, want = model(*map(padded, raw)), network(*map(padded, scores))
    assert torch.equal(got.logits, want.logits)
    assert not torch.equal(network(*map(padded, raw)).logits, want.logits)


def test_training_uses_the_parts_of_the_network() -> None:
    network = MODELS["ssa_crnn_r"](SIZES, **SMALL["ssa_crnn_r"])
    model = Standardised(network, 12)
    assert [id(p) for p in model.decayed_parameters()] == [
        id(p) for p in network.decayed_parameters()
    ]
    mean, deviation = statistics(2)
    output = model(padded(turns([8, 8], mean, deviation)))
    labels, speakers = torch.tensor([3, 1]), torch.tensor([0, 2])
    loss = model.extra_loss(output, labels, speakers)
    assert loss is not None
    assert torch.equal(loss, network.extra_loss(output, labels, speakers))


def test_mean_and_deviation_are_saved_with_the_weights() -> None:
    mean, deviation = statistics(3)
    model = Standardised(LinearSVM(12, 4), 12)
    model.set_statistics(mean, deviation)
    again = Standardised(LinearSVM(12, 4), 12)
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(again.mean.numpy(), mean)
    np.testing.assert_array_equal(again.deviation.numpy(), deviation)


def test_a_fitted_network_is_fitted_on_z_scores() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    vectors = (rng.normal(size=(40, 12)) + labels[:, None]).astype(np.float32)
    mean, deviation = vectors.astype(np.float64).mean(0), vectors.astype(np.float64).std(0)
    model, plain = Standardised(LinearSVM(12, 4), 12), LinearSVM(12, 4)
    model.set_statistics(mean, deviation)
    model.fit(vectors, labels, 0)
    plain.fit(normalise(vectors, mean, deviation).astype(np.float32), labels, 0)
    assert isinstance(model.network, LinearSVM)
    assert torch.equal(model.network.linear.weight, plain.linear.weight)
    with pytest.raises(AssertionError):
        Standardised(MODELS["iaan"](SIZES, **SMALL["iaan"]), 12).fit(vectors, labels, 0)
