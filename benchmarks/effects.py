"""What `planted_effects` plants, the models that are to find it, and what is expected of them."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.corpora.demo import EMOTIONS, DemoSettings
from orchestrator.config.sections import Configuration, parse


def corpus_folder(settings: DemoSettings, folder: Path) -> Path:
    """Effects that ask for the same corpus share it."""
    digest = hashlib.sha1(settings.model_dump_json().encode()).hexdigest()[:12]
    return folder / "corpora" / digest


@dataclass(frozen=True)
class Effect:
    """What is planted, who is to find it, and what is expected.

    corpus : `DemoSettings` without the seed
    models : label -> the configuration's section `model`
    sections : further sections of the configuration, the same for all models
    hypotheses : `a > b` over names of `models`
    control : the effect without what is planted, where each difference should be smaller
    told : those of `models` whose frames bear a mark of who speaks: what there is to gain by it
    """

    name: str
    corpus: DemoSettings
    models: dict[str, dict[str, Any]]
    sections: dict[str, dict[str, Any]]
    hypotheses: tuple[str, ...]
    control: "Effect | None" = None
    told: tuple[str, ...] = ()

    def settings(self, seed: int) -> DemoSettings:
        """Of the corpus that a seed speaks."""
        return self.corpus.model_copy(update={"seed": seed})

    def configuration(self, model: str, seed: int, folder: Path) -> Configuration:
        """What one model trains with; `folder` holds the benchmark's corpora and features."""
        sections = {**self.sections, "training": {**self.sections["training"], "seed": seed}}
        return parse(
            {
                "corpus": {
                    "root": str(corpus_folder(self.settings(seed), folder) / "manifest.csv"),
                    "classes": EMOTIONS,
                },
                "model": self.models[model],
                **sections,
                "storage": str(folder),
                "name": self.name,
            }
        )


_IAAN = {"hidden_size": 32, "attention_size": 32, "projection_size": 32, "dropout": 0.2}
_CONTAGION = Effect(
    name="contagion",
    # Long dialogues in which a tenth of the turns starts anew: what is felt now tells of the next
    # turns and little of turns drawn at random. Bland turns are for the context that predicts,
    # mixed ones for the attention that knows it.
    corpus=DemoSettings(
        dialogues=8, turns=48, own=0.45, other=0.45, bland=0.45, mixed=0.3, speaker_style=0.1
    ),
    models={
        name: {"name": name, **_IAAN} for name in ("iaan", "bigru_iaa", "bigru_att", "rand_iaan")
    },
    sections={
        "features": {"pool": 10},
        "folds": {"scheme": "leave_one_session_out"},
        "training": {"epochs": 15, "patience": 15, "batch_size": 32, "learning_rate": 3e-3},
    },
    hypotheses=("iaan > bigru_iaa", "bigru_iaa > bigru_att", "iaan > rand_iaan"),
)
NO_CONTAGION = replace(
    _CONTAGION,
    name="no_contagion",
    corpus=_CONTAGION.corpus.model_copy(update={"own": 0.0, "other": 0.0}),
)
CONTAGION = replace(_CONTAGION, control=NO_CONTAGION)
_ACRNN = {
    "first_maps": 6,
    "maps": 8,
    "conv_layers": 1,
    "linear_size": 48,
    "hidden_size": 32,
    "embedding_size": 64,
}
SPEAKER_STYLE = Effect(
    name="speaker_style",
    # Ten voices, each with its own way to show each emotion: voices differ in it more than
    # emotions do. They are heard in training and in the test; without context.
    corpus=DemoSettings(dialogues=16, own=0, other=0, bland=0.1, unlabelled=0, speaker_style=3),
    models={
        "ssa_crnn_r": {"name": "ssa_crnn_r", **_ACRNN},
        "acrnn_r": {"name": "acrnn_r", **_ACRNN},
        "acrnn_r, told": {"name": "acrnn_r", **_ACRNN},
    },
    sections={
        "features": {"normalize": "band"},
        "folds": {"scheme": "random_repeated", "folds": 2},
        "training": {"epochs": 10, "patience": 10, "learning_rate": 2e-3},
    },
    hypotheses=("ssa_crnn_r > acrnn_r", "acrnn_r, told > acrnn_r"),
    told=("acrnn_r, told",),
)
MILD = replace(
    SPEAKER_STYLE,
    name="speaker_style_mild",
    # Voices differ about as much as emotions do.
    corpus=SPEAKER_STYLE.corpus.model_copy(update={"speaker_style": 1.5}),
)
IMBALANCE = Effect(
    name="imbalance",
    # Four of five turns are neutral. Batches are balanced as in the paper, so that the rare
    # classes are repeated; epochs are of few steps, to see the start of training.
    corpus=DemoSettings(
        dialogues=10,
        own=0,
        other=0,
        bland=0.2,
        overlap=0.4,
        unlabelled=0,
        prior=(0.06, 0.06, 0.82, 0.06),
    ),
    models={
        "acrnn_r": {"name": "acrnn_r", "regularizer_weight": 0.1, **_ACRNN},
        "acrnn": {"name": "acrnn", **_ACRNN},
        # Regularised layers have no bias: what is left of the difference is the penalty's.
        "acrnn_r, lambda 0": {"name": "acrnn_r", "regularizer_weight": 0.0, **_ACRNN},
    },
    sections={
        "features": {"normalize": "band"},
        "folds": {"scheme": "stratified_group_k_fold", "folds": 3, "group": "session"},
        "training": {"epochs": 6, "epoch_steps": 18, "patience": 6, "learning_rate": 2e-3},
    },
    hypotheses=("acrnn_r > acrnn", "acrnn_r > acrnn_r, lambda 0"),
)
AS_DRAWN = replace(
    IMBALANCE,
    name="imbalance_as_drawn",
    sections=IMBALANCE.sections
    | {"training": IMBALANCE.sections["training"] | {"balanced_batches": False}},
)
COLLAPSE = replace(
    AS_DRAWN,
    name="collapse",
    # Nearly all turns are neutral, and batches are as they come.
    corpus=IMBALANCE.corpus.model_copy(update={"prior": (0.02, 0.02, 0.94, 0.02)}),
    models={
        "acrnn": {"name": "acrnn", **_ACRNN},
        "acrnn_r": {"name": "acrnn_r", **_ACRNN},
        "acrnn_r, lambda 0.1": {"name": "acrnn_r", "regularizer_weight": 0.1, **_ACRNN},
        "acrnn_r, projection": {"name": "acrnn_r", "regularizer": "projection", **_ACRNN},
    },
    hypotheses=("acrnn_r > acrnn", "acrnn_r, lambda 0.1 > acrnn", "acrnn_r, projection > acrnn"),
)
EFFECTS = (
    CONTAGION,
    NO_CONTAGION,
    SPEAKER_STYLE,
    replace(
        SPEAKER_STYLE,
        name="one_style",
        # All voices show an emotion alike: what the second encoder brings by itself.
        corpus=SPEAKER_STYLE.corpus.model_copy(update={"speaker_style": 0.0}),
    ),
    MILD,
    replace(
        MILD,
        name="speaker_loss",
        # As large, and never told who speaks: what is left is due to the second encoder alone.
        models={
            "ssa_crnn_r": SPEAKER_STYLE.models["ssa_crnn_r"],
            "ssa_crnn_r, untold": {"name": "ssa_crnn_r", "speaker_weight": 0.0, **_ACRNN},
        },
        hypotheses=("ssa_crnn_r > ssa_crnn_r, untold",),
    ),
    IMBALANCE,
    AS_DRAWN,
    COLLAPSE,
)
