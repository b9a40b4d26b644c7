"""Where SSA-CRNN-r looks: how its attention is shared between emotion's and speaker's states.

    python benchmarks/speaker_attention.py [--jobs 2] [--seeds 10 11]

Trains SSA-CRNN-r on the corpora of `planted_effects`'s speaker_style, as published, where one
softmax is over the states of both encoders, and with a softmax for each, so that both always
answer. Printed are UA over all test utterances, how often a linear classifier tells the voice by
the embedding that the emotion is read from, and how many test segments listen to both encoders:
those whose speaker's states have between 0.1 and 0.9 of the attention.
"""

import argparse
import multiprocessing
from pathlib import Path

import numpy as np
import torch
from effects import SPEAKER_STYLE
from planted_effects import Trial, make_corpora, say, voices_told
from torch import Tensor

from features.corpora.demo import EMOTIONS
from features.storage import Storage
from orchestrator.training.batches import Dataset
from orchestrator.config.sections import Configuration
from orchestrator.data.prepare import prepare
from orchestrator.training.fold_run import Row
from orchestrator.data.folds import Fold
from orchestrator.metrics import scores
from orchestrator.training.gradient import fold_run
from ser_models.attention import SelfSpeakerAttention, masked_softmax


class AttentionApart(SelfSpeakerAttention):
    """Self speaker attention with a softmax for each encoder, which have half of the sum each."""

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
            answers = torch.einsum("bts,bs->bt", key(states), query) / steps**0.5
            weights.append(masked_softmax(answers, mask) / 2)
            pooled.append(torch.einsum("bt,bts->bs", weights[-1], value(states)))
        return torch.cat(pooled, dim=1), weights[0], weights[1]


Task = tuple[Fold, Dataset, Configuration, bool]


def train_fold(task: Task) -> tuple[list[Row], float | None, list[float]]:
    """Train a fold: predictions, how well its embedding tells voices, and the speaker's shares."""
    torch.set_num_threads(1)
    fold, dataset, configuration, apart = task
    run = fold_run(fold, dataset, configuration)
    if apart:  # in place: the optimizer holds the parameters, which are the same
        run.model.attention.__class__ = AttentionApart
    while not run.ended:
        run.train_epoch()
    done = run.finish()
    outputs = [output for _, output in run.outputs(np.sort(fold.test))]
    shares = [share for o in outputs for share in o.attention["speaker"].sum(1).tolist()]
    return done.predictions, voices_told(done.inspection, "embedding"), shares


def main() -> None:
    """Speak the corpora, train, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11])
    parser.add_argument("--jobs", type=int, default=2, help="folds that train at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    trials = [Trial(SPEAKER_STYLE, "ssa_crnn_r", seed) for seed in arguments.seeds]
    make_corpora(trials, folder, arguments.jobs)
    print("| attention | seed | UA | voice told by its embedding | segments that listen to both |")
    print("|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for trial in trials:
            configuration = trial.effect.configuration(trial.model, trial.seed, folder)
            prepared = prepare(configuration, Storage.open(str(folder)), lambda *progress: None)
            for label, apart in (("one softmax, as published", False), ("one for each", True)):
                say(f"seed {trial.seed}: {label}")
                tasks = [(fold, prepared.dataset, configuration, apart) for fold in prepared.folds]
                done = pool.map(train_fold, tasks, chunksize=1)
                rows = [row for predictions, _, _ in done for row in predictions]
                truth, predicted = ([row[key] for row in rows] for key in ("truth", "prediction"))
                told = np.mean([told for _, told, _ in done if told is not None])
                shares = np.concatenate([shares for _, _, shares in done])
                both = np.mean((shares > 0.1) & (shares < 0.9))
                ua = scores(truth, predicted, EMOTIONS).ua
                print(
                    f"| {label} | {trial.seed} | {ua:.3f} | {told:.3f} | {both:.2f} |", flush=True
                )


if __name__ == "__main__":
    main()
