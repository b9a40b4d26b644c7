"""The configuration that `ser init` writes: short, commented, and right for the corpus."""

from collections import Counter
from pathlib import Path

from features.names import means_no_value
from orchestrator.config import registry
from orchestrator.config.sections import CorpusConfig
from orchestrator.data.corpus import read_corpus
from orchestrator.errors import ConfigError
from search_spaces import FOLDER
from search_spaces.plain_yaml import as_yaml

_PUBLISHED = {"iemocap": ({"exc": "hap"}, ("ang", "hap", "neu", "sad"))}
"""Merges and classes of the literature, by corpus."""
_ENCODER = """features:
  encoder: PATH/TO/ENCODER  # a folder, a hub id or an ONNX file, see docs/encoders.md
"""
"""The section of models that read a pretrained encoder."""
_SMALLEST = 0.05
"""Share of the labelled utterances below which a label is not proposed as a class."""


def starter(corpus: str, root: str, model: str) -> str:
    """A configuration for a corpus and a model, as YAML. Raises ConfigError."""
    from features.sets import FEATURES
    from ser_models import MODELS

    if model not in MODELS:
        raise ConfigError(f"--model: no model {model}; known: {', '.join(MODELS)}")
    registry.allow([corpus])
    table = read_corpus(CorpusConfig(name=corpus, root=root)).manifest.table
    labels = Counter(label for label in table["emotion"].to_pylist() if label is not None)
    merge, classes = _PUBLISHED.get(corpus, ({}, ()))
    if not classes:
        enough = _SMALLEST * labels.total()
        classes = tuple(
            sorted(
                label
                for label, count in labels.items()
                if count >= enough and not means_no_value(label)
            )
        )
    sessions = len({name for name in table["session"].to_pylist() if name is not None})
    speakers = len(set(table["speaker"].to_pylist()))
    if sessions >= 3:
        scheme, reason = "leave_one_session_out", f"each of the {sessions} sessions is tested once"
    elif speakers <= 12:
        scheme, reason = "leave_one_speaker_out", f"each of the {speakers} speakers is tested once"
    else:
        scheme = "stratified_group_k_fold"
        reason = f"each of the {speakers} speakers is tested once, in ten folds"
    template = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return template.format(
        corpus=as_yaml(corpus),
        root=as_yaml(root),
        labels=", ".join(f"{label} ({count})" for label, count in labels.most_common()),
        merge=as_yaml(merge),
        classes=as_yaml(list(classes)),
        model=as_yaml(model),
        features=_ENCODER if "encoder" in FEATURES[MODELS[model].features].model_fields else "",
        scheme=scheme,
        reason=reason,
        # IAAN and its variants share one space.
        space=model if (FOLDER / f"{model}.yaml").exists() else "iaan",
    )
