"""The card has the scores of the trial that is exported."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from orchestrator.inference.card import card
from orchestrator.inference.model import SpeechModel
from orchestrator.results.opened import OpenedSweep
from tests.support.made_sweep import make_sweep
from tests.support.speech_models import speech_model


def of_trial(trial: str) -> SpeechModel:
    """A model that says that it is of this trial."""
    model = speech_model("bigru_att")
    model.description = model.description._replace(trial=trial)
    return model


@pytest.mark.parametrize("chosen", ["best", "other"])
def test_the_speakers_have_the_scores_of_the_exported_trial(chosen: str, tmp_path: Path) -> None:
    sweep = OpenedSweep(make_sweep(tmp_path, ["complete", "pruned", "complete"], folds=2))
    best = sweep.trial().id
    other = next(trial for trial in sweep.trials()["trial"].to_pylist() if trial != best)
    trial = best if chosen == "best" else other
    text = card(sweep, of_trial(trial), onnx=False)
    rows = sweep.predictions(trial).to_pylist()
    speakers = sorted({row["speaker"] for row in rows})
    assert len(speakers) > 1
    for speaker in speakers:
        own = [row for row in rows if row["speaker"] == speaker]
        truth, predicted = ([row[key] for row in own] for key in ("truth", "prediction"))
        ua, wa = balanced_accuracy_score(truth, predicted), accuracy_score(truth, predicted)
        assert f"\n| {speaker} | {len(own)} | {ua:.3f} | {wa:.3f} |\n" in text
    recalls = [
        np.mean([row["prediction"] == name for row in rows if row["truth"] == name])
        for name in sweep.record.classes
    ]
    called = "the best trial" if chosen == "best" else f"trial {other}"
    assert f"UA of {called}: {np.mean(recalls):.3f} (95 %" in text
    note = f"This folder has trial {other}, not the best trial"
    assert (note in text) == (chosen == "other")
