"""The files that a model's features come from: a pretrained encoder, or openSMILE's configuration.

A model works only with features of the files that trained it. With others it would run, and its
posteriors would mean nothing.
"""

from collections.abc import Mapping, Sequence

from features import errors
from features.names import shown
from features.sets import FeatureConfig
from orchestrator.errors import ConfigError, FeatureError
from orchestrator.ledger.records import SweepRecord


def check_given(features: FeatureConfig, given: Mapping[str, str]) -> None:
    """Raise ConfigError if `given` has a key that names no file of these features."""
    known = features.files()
    if unknown := sorted(given.keys() - known.keys()):
        allowed = f"Use {', '.join(known)}" if known else "Leave it out"
        raise ConfigError(
            f"features.{unknown[0]}: {features.name} has no such option that names files. {allowed}"
        )


def contents_of(record: SweepRecord, features: FeatureConfig) -> list[str] | None:
    """The contents of the files when the sweep started; None if the sweep did not record them."""
    files = features.files()
    return next((e.contents for e in record.feature_files if e.files == files), None)


def check_contents(features: FeatureConfig, trained: Sequence[str] | None, origin: str) -> None:
    """Raise FeatureError if the files of these features are missing, or others than in training.

    trained : the contents of the files that trained the model (`FeatureSet.contents`); None if they
        are unknown
    origin : the folder or the sweep of the model, for the message
    """
    files = features.files()
    if not files:
        return
    key, value = next(iter(files.items()))
    remedy = (
        f"Name a copy of the files that trained {origin}: --feature {key}=PATH, or "
        f'load_model(..., features={{"{key}": "PATH"}})'
    )
    try:
        contents = features.load().contents
    except errors.FeatureError as error:
        raise FeatureError(f"{error}. {remedy}") from error
    if trained is not None and list(contents) != list(trained):
        raise FeatureError(
            f"features.{key}: {shown(value[:200])} has other contents than in training. {remedy}"
        )
