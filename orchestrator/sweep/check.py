"""Everything that can be found wrong before anything is computed."""

import torch
from pydantic import BaseModel

from features.errors import FeatureError
from features.storage import Storage
from orchestrator.config.parsing import wrong_shape
from orchestrator.config.sections import Configuration, role
from orchestrator.data.folds import Fold
from orchestrator.data.prepare import Plan, plan_folds
from orchestrator.errors import ConfigError
from orchestrator.training.fold_run import build_model
from search_spaces import Space, SpaceError, load_space
from ser_models import MODELS, EmotionModel, Sizes


def check(configuration: Configuration) -> tuple[Plan, Space]:
    """Read the corpus, make and audit the folds, and build the model at every corner of the space.

    Raises ConfigError with the key, or the row, and the remedy.
    """
    try:
        Storage.open(configuration.storage)
    except (ValueError, OSError) as error:
        raise ConfigError(f"storage: {error}") from None
    space = Space.model_construct(first={}, parameters={})
    if configuration.search is not None:
        try:
            space = load_space(configuration.search.space)
        except SpaceError as error:
            raise ConfigError(f"search.space: {error}") from None
    searched = space.parameters.get("features.normalize")
    plan = plan_folds(
        configuration, [str(value) for value in searched.samples()] if searched else ()
    )
    speakers = training_speakers(plan.folds, plan.corpus.manifest.table["speaker"].to_pylist())
    workers, folds = configuration.cluster.workers_per_trial, len(plan.folds)
    if workers is not None and workers > folds and workers % folds:
        raise ConfigError(
            f"cluster.workers_per_trial: {workers} workers cannot share {folds} folds evenly. "
            f"Give at most {folds}, or a multiple of {folds}"
        )
    if configuration.search is not None:
        try:
            _check_space(configuration, space, speakers)
        except SpaceError as error:
            raise ConfigError(f"search.space: {error}") from None
    check_model(configuration, speakers)
    return plan, space


def _check_space(configuration: Configuration, space: Space, speakers: dict[str, int]) -> None:
    """Check the configured search space. Raises ConfigError for a point that cannot be trained."""
    assert configuration.search is not None
    name = configuration.search.space
    if configuration.search.sampler == "grid":
        space.grid()
    for key in space.parameters:
        section, _, leaf = key.partition(".")
        options = getattr(configuration, section, None)
        searchable = getattr(options, "searchable", False)
        if isinstance(options, BaseModel) and leaf in type(options).model_fields:
            searchable = role(type(options), leaf).searchable
        if not searchable:
            raise ConfigError(
                f"search.space: {name}: {key} cannot be searched, because data, folds and seed are "
                f"the same for all trials. Search keys of model and training, or "
                f"features.normalize"
            )
    points = [point for key in space.parameters for point in space.corners(key)]
    for point in [*points, *([space.first] if space.first else [])]:
        try:
            check_model(configuration.with_values(point), speakers)
        except ConfigError as error:
            raise ConfigError(f"search.space: {name}: {error}") from None


def training_speakers(folds: list[Fold], speakers: list[str]) -> dict[str, int]:
    """Fold -> number of speakers in its training part. `speakers` are those of the rows."""
    return {fold.name: len({speakers[row] for row in fold.train}) for fold in folds}


def check_model(configuration: Configuration, speakers: dict[str, int]) -> EmotionModel:
    """Build the network, without its numbers, for the fold with the fewest training speakers."""
    features, model = configuration.features, configuration.model.name
    try:
        feature_set = features.load()
    except FeatureError as error:
        raise ConfigError(str(error)) from None
    if feature_set.shape != MODELS[model].reads:
        raise ConfigError(wrong_shape(model, features.name, [feature_set.shape]))
    classes = len(configuration.corpus.classes)
    fold = min(speakers, key=speakers.__getitem__)
    segment, groups = features.cut or 1, feature_set.groups
    sizes = Sizes(feature_set.dims, classes, speakers[fold], segment, groups)
    try:
        with torch.device("meta"):
            return build_model(configuration, sizes)
    except (ValueError, RuntimeError) as error:  # a size may be too large for any machine
        place = f" (in fold {fold})" if "speakers is" in str(error) else ""
        raise ConfigError(f"model: {str(error).splitlines()[0]}{place}") from None
