"""Models with random weights that read speech, for tests that need no training."""

from typing import Any

import numpy as np
import torch

from features.statistics import Statistics
from orchestrator.config.parsing import parse
from orchestrator.inference.model import Description, Member, SpeechModel
from tests.support.training import small

CLASSES = ("ang", "hap", "neu", "sad")


def speech_model(
    name: str, normalize: str | None = None, features: dict[str, str] | None = None
) -> SpeechModel:
    """Two networks with random weights, and a typical speaker of random numbers."""
    raw: dict[str, Any] = {"name": "toy", "corpus": {"root": "x", "classes": CLASSES}}
    raw |= {"model": {"name": name, **small(name)}}
    if normalize:
        raw["features"] = {"normalize": normalize}
    if features:
        raw["features"] = features
    config = parse(raw)
    described = Description("toy", "0123456789", config.model, config.features, CLASSES, 0)
    torch.manual_seed(0)
    members = {fold: Member(described.network(3), 3) for fold in ("a", "b")}
    rng, dims = np.random.default_rng(0), config.features.load().dims
    typical = {
        fold: Statistics(0, rng.normal(size=dims), rng.uniform(1, 2, dims)) for fold in members
    }
    return SpeechModel(described, members, lambda: typical).eval()
