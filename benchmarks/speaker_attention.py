"""How SSA-CRNN-r shares its attention between the states of its emotion and speaker encoders.

    python benchmarks/speaker_attention.py [--jobs 2] [--seeds 10 11]

Trains SSA-CRNN-r on the corpora of the effect speaker_style of `planted_effects`. One variant is as
published, with one softmax over the states of both encoders. The other has one softmax for each
encoder, so that both always contribute. The table has UA over all test utterances, the accuracy of
a linear classifier that recognises the speaker from the emotion embedding, and the share of test
segments that use both encoders: 0.1 to 0.9 of their attention is on the speaker's states.
"""

import argparse
import multiprocessing
from pathlib import Path

import numpy as np
import torch
from effects import SPEAKER_STYLE
from planted_effects import Trial, make_corpora, report, speaker_recognition
from torch import Tensor

from features.corpora.demo import EMOTIONS
from orchestrator.config.sections import Configuration
from orchestrator.data.dataset import Dataset
from orchestrator.data.folds import Fold
from orchestrator.metrics import scores
from orchestrator.training.fold_run import Row
from orchestrator.training.runs import fold_run
from ser_models.attention import SelfSpeakerAttention, masked_softmax


class AttentionApart(SelfSpeakerAttention):
    """Self speaker attention with one softmax for each encoder. Each has half of the weight."""

    def forward(
        self, emotion: Tensor, speaker: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, time = len(self.query), emotion.shape[1]
        query = torch.einsum("bts,bt->bs", emotion, self.query[:time] * mask)
        weights, pooled = [], []
        for states, key, value in (
            (emotion, self.emotion_key, self.emotion_value),
            (speaker, self.speaker_key, self.speaker_value),
        ):
            logits = torch.einsum("bts,bs->bt", key(states), query) / steps**0.5
            weights.append(masked_softmax(logits, mask) / 2)
            pooled.append(torch.einsum("bt,bts->bs", weights[-1], value(states)))
        return torch.cat(pooled, dim=1), weights[0], weights[1]


Task = tuple[Fold, Dataset, Configuration, bool]


def train_fold(task: Task) -> tuple[list[Row], float | None, list[float]]:
    """Train a fold. Return predictions, speaker recognition, and the speaker states' attention."""
    torch.set_num_threads(1)
    fold, dataset, configuration, apart = task
    run = fold_run(fold, dataset, configuration)
    if apart:  # in place, because the optimizer holds these parameters
        run.model.attention.__class__ = AttentionApart
    while not run.ended:
        run.train_epoch()
    done = run.finish()
    outputs = [output for _, output in run.outputs(np.sort(fold.test))]
    shares = [share for o in outputs for share in o.attention["speaker"].sum(1).tolist()]
    return done.predictions, speaker_recognition(done.inspection, "embedding"), shares


def main() -> None:
    """Make the corpora, train, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11])
    parser.add_argument("--jobs", type=int, default=2, help="folds to train at the same time")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    trials = [Trial(SPEAKER_STYLE, "ssa_crnn_r", seed) for seed in arguments.seeds]
    make_corpora(trials, folder)
    print("| attention | seed | UA | speaker recognised by embedding | segments that use both |")
    print("|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for trial in trials:
            configuration = trial.effect.configuration(trial.model, trial.seed, folder)
            prepared = trial.prepared(folder)
            for label, apart in (("one softmax, as published", False), ("one for each", True)):
                report(f"seed {trial.seed}: {label}")
                tasks = [(fold, prepared.dataset, configuration, apart) for fold in prepared.folds]
                done = pool.map(train_fold, tasks, chunksize=1)
                rows = [row for predictions, _, _ in done for row in predictions]
                truth, predicted = ([row[key] for row in rows] for key in ("truth", "prediction"))
                recognised = np.mean([share for _, share, _ in done if share is not None])
                shares = np.concatenate([shares for _, _, shares in done])
                both = np.mean((shares > 0.1) & (shares < 0.9))
                ua = scores(truth, predicted, EMOTIONS).ua
                row = f"| {label} | {trial.seed} | {ua:.3f} | {recognised:.3f} | {both:.2f} |"
                print(row, flush=True)


if __name__ == "__main__":
    main()
