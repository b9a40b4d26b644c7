"""The effects that `planted_effects` plants, and the models that should find them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from told_speakers import Telling, mark_speakers, number_speakers, register_speaker_joined

from features.corpora.demo import EMOTIONS, DemoSettings
from orchestrator.config.parsing import parse
from orchestrator.config.sections import Configuration


def corpus_folder(settings: DemoSettings, folder: Path) -> Path:
    """Return the folder of a corpus. Effects with the same settings share it."""
    digest = hashlib.sha1(settings.model_dump_json().encode()).hexdigest()[:12]
    return folder / "corpora" / digest


@dataclass(frozen=True)
class Effect:
    """An effect, the models that should find it, and the expected order of their scores.

    corpus : settings of the corpus; each seed replaces `seed`
    models : label -> section `model` of the configuration
    sections : other sections of the configuration, the same for all models
    training : label -> section `training` of this model, in place of that of `sections`
    hypotheses : `a > b` for labels of `models`
    control : the same corpus without the effect; each difference should be smaller there
    told : label -> how the frames of this model contain the speaker's identity
    speaker_first : label -> epochs in which only the speaker classifier of this model trains
    """

    name: str
    corpus: DemoSettings
    models: dict[str, dict[str, Any]]
    sections: dict[str, dict[str, Any]]
    hypotheses: tuple[str, ...]
    control: "Effect | None" = None
    training: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    told: Mapping[str, Telling] = field(default_factory=dict)
    speaker_first: Mapping[str, int] = field(default_factory=dict)

    def only(self, models: list[str]) -> "Effect":
        """Return the effect with some of its models, and with the hypotheses about these alone.

        The control keeps the same models. Raises ValueError for a model that the effect lacks.
        """
        if unknown := [label for label in models if label not in self.models]:
            raise ValueError(f"{self.name} has no model {unknown[0]!r}: use {list(self.models)}")
        return replace(
            self,
            models={label: self.models[label] for label in models},
            hypotheses=tuple(h for h in self.hypotheses if set(h.split(" > ")) <= set(models)),
            control=self.control and self.control.only(models),
        )

    def settings(self, seed: int) -> DemoSettings:
        """Return the settings of a seed's corpus."""
        return self.corpus.model_copy(update={"seed": seed})

    def configuration(self, model: str, seed: int, folder: Path) -> Configuration:
        """Return the configuration of one model. `folder` has the corpora and their features."""
        training = self.training.get(model, self.sections["training"])
        sections = {**self.sections, "training": {**training, "seed": seed}}
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
    # Long dialogues in which a tenth of the turns does not depend on earlier turns: the emotion of
    # a turn predicts that of the next turns, but not of turns drawn at random. Bland turns need
    # context; mixed turns need attention that depends on the context.
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
HISTORIES = replace(
    _CONTAGION,
    name="contagion_histories",
    # Models that read one vector for each utterance: without context, and with all turns before.
    models={
        "linear_svm": {"name": "linear_svm"},
        "cmn": {"name": "cmn"},  # its published sizes
    },
    sections={"folds": _CONTAGION.sections["folds"], "training": {}},
    # A tenth of the published learning rate, and a hundred times its weight decay, because CMN
    # otherwise knows the 1,200 training turns by heart after its first epochs. Chosen by the
    # validation scores of seed 100.
    training={
        "cmn": {
            "epochs": 8,
            "patience": 8,
            "batch_size": 32,
            "learning_rate": 1e-4,
            "weight_decay": 1e-2,
        }
    },
    hypotheses=("cmn > linear_svm",),
)
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
    # Ten speakers, each with an own way to express each emotion: speakers differ more than
    # emotions do. All speakers are in training and in the test. There is no context.
    corpus=DemoSettings(dialogues=16, own=0, other=0, bland=0.1, unlabelled=0, speaker_style=3),
    models={
        "ssa_crnn_r": {"name": "ssa_crnn_r", **_ACRNN},
        "acrnn_r": {"name": "acrnn_r", **_ACRNN},
        "acrnn_r, speaker marked": {"name": "acrnn_r", **_ACRNN},
        "acrnn_r, speaker joined": register_speaker_joined(_ACRNN),
        "ssa_crnn_r, speaker first": {"name": "ssa_crnn_r", **_ACRNN},
    },
    sections={
        "features": {"normalize": "band"},
        "folds": {"scheme": "random_repeated", "folds": 2},
        "training": {"epochs": 10, "patience": 10, "learning_rate": 2e-3},
    },
    hypotheses=(
        "ssa_crnn_r > acrnn_r",
        "acrnn_r, speaker marked > acrnn_r",
        "acrnn_r, speaker joined > acrnn_r",
        "acrnn_r, speaker marked > acrnn_r, speaker joined",
        "ssa_crnn_r, speaker first > acrnn_r",
    ),
    told={"acrnn_r, speaker marked": mark_speakers, "acrnn_r, speaker joined": number_speakers},
    speaker_first={"ssa_crnn_r, speaker first": 5},
)
LONG = replace(
    SPEAKER_STYLE,
    name="speaker_style_40",
    sections=SPEAKER_STYLE.sections
    | {"training": SPEAKER_STYLE.sections["training"] | {"epochs": 40, "patience": 40}},
)
MILD = replace(
    SPEAKER_STYLE,
    name="speaker_style_mild",
    # Speakers differ about as much as emotions do.
    corpus=SPEAKER_STYLE.corpus.model_copy(update={"speaker_style": 1.5}),
)
IMBALANCE = Effect(
    name="imbalance",
    # Four of five turns are neutral. Batches are balanced as in the paper, so rare classes are
    # repeated. Epochs have few steps, so that the start of training is visible.
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
        # Regularised layers have no bias. The rest of the difference comes from the penalty.
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
    # Nearly all turns are neutral, and batches are not balanced.
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
    HISTORIES,
    SPEAKER_STYLE,
    LONG,
    replace(
        SPEAKER_STYLE,
        name="one_style",
        # All speakers express an emotion alike: the second encoder alone makes the difference.
        corpus=SPEAKER_STYLE.corpus.model_copy(update={"speaker_style": 0.0}),
    ),
    MILD,
    replace(
        MILD,
        name="speaker_loss",
        # The same size without the speaker loss: the second encoder alone makes the difference.
        models={
            "ssa_crnn_r": SPEAKER_STYLE.models["ssa_crnn_r"],
            "ssa_crnn_r, no speaker loss": {"name": "ssa_crnn_r", "speaker_weight": 0.0, **_ACRNN},
        },
        hypotheses=("ssa_crnn_r > ssa_crnn_r, no speaker loss",),
    ),
    IMBALANCE,
    AS_DRAWN,
    COLLAPSE,
)
