"""The base class of all models."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ser_models import MODELS, EmotionModel, FittedModel
from ser_models.base import check_sizes
from ser_models.sequences import Padded

Build = Callable[..., EmotionModel]
Turns = Callable[..., list[Padded]]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_base_class(name: str, build: Build) -> None:
    assert isinstance(build(name), EmotionModel)
    assert MODELS[name].fitted == isinstance(build(name), FittedModel)


LABELS, SPEAKERS = torch.tensor([2, 0, 3, 2]), torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize("name", MODELS)
def test_only_models_with_a_second_task_have_an_extra_loss(
    name: str, build: Build, turns: Turns
) -> None:
    model = build(name)
    extra = model.extra_loss(model(*turns(name)), LABELS, SPEAKERS)
    assert (extra is not None) == (name in ("ssa_crnn_r", "adrnn", "mdnn"))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_the_extra_loss_of_ssa_crnn_is_the_weighted_cross_entropy_of_its_speakers(
    precision: torch.dtype, build: Build, turns: Turns
) -> None:
    model = build("ssa_crnn_r", speaker_weight=0.37)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        output = model(*turns("ssa_crnn_r"))
    assert output.speaker_logits.dtype == precision
    logits = output.speaker_logits.detach().double().numpy()
    posteriors = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -0.37 * sum(np.log(posteriors[row, s]) for row, s in enumerate([0, 1, 2, 1]))
    loss = model.extra_loss(output, LABELS, SPEAKERS)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["bilstm_att", "acrnn", "ssa_crnn_r", "adrnn", "mdnn", "cmn"])
def test_weight_decay_applies_to_all_weight_matrices(name: str, build: Build) -> None:
    model = build(name)
    decayed = {id(parameter) for parameter in model.decayed_parameters()}
    for key, parameter in model.named_parameters():
        vector = key == "attention.query" or "bias" in key or "normalization" in key
        assert (id(parameter) in decayed) == (not vector), key


def test_a_wrong_size_is_named() -> None:
    check_sizes(0.0, maps=1, layers=2, classes=2)
    with pytest.raises(ValueError, match="layers is 0: it must be at least 1"):
        check_sizes(maps=1, layers=0)
    with pytest.raises(ValueError, match="classes is 1: it must be at least 2"):
        check_sizes(classes=1)
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"dropout is {share}: it must be at least 0 and"):
            check_sizes(dropout=share)
