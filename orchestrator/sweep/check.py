"""Everything that can be found wrong before anything is computed."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel

from features.errors import FeatureError
from features.storage import Storage
from orchestrator.config import registry
from orchestrator.config.parsing import wrong_shape
from orchestrator.config.searched import (
    features_key,
    load_searched,
    not_searchable,
    searched_features,
)
from orchestrator.config.sections import Configuration, SearchConfig, role
from orchestrator.data.folds import Fold
from orchestrator.data.prepare import Plan, plan_folds
from orchestrator.errors import ConfigError
from orchestrator.training.fold_run import build_model, build_network
from search_spaces import Space, SpaceError
from ser_models import EmotionModel, Sizes
from ser_models.contract import ContractError, check_contract


def storage_of(configuration: Configuration) -> Storage:
    """Open the storage of a configuration. Raises ConfigError with the key."""
    try:
        return Storage.open(configuration.storage)
    except (ValueError, OSError) as error:
        raise ConfigError(f"storage: {error}") from None


def check(configuration: Configuration) -> tuple[Plan, Space]:
    """Read the corpus, make and audit the folds, and build the model at every corner of the space.

    Raises ConfigError with the key, or the row, and the remedy.
    """
    storage_of(configuration)
    space = load_searched(configuration.search)
    _check_keys(configuration, space)
    features = searched_features(configuration.model.name, configuration.features, space)
    plan = plan_folds(configuration, features)
    speakers = training_speakers(plan.folds, plan.corpus.manifest.table["speaker"].to_pylist())
    workers, folds = configuration.cluster.workers_per_trial, len(plan.folds)
    if workers is not None and workers > folds and workers % folds:
        raise ConfigError(
            f"cluster.workers_per_trial: {workers} workers cannot share {folds} folds evenly. "
            f"Give at most {folds}, or a multiple of {folds}"
        )
    if configuration.search is not None:
        _check_pruning(configuration.search)
        if configuration.search.scheduler == "paired" and folds < 2:
            raise ConfigError(
                "search.scheduler: paired compares the folds of trials, but folds.scheme "
                f"{configuration.folds.scheme} makes one fold. Use asha"
            )
        try:
            _check_space(configuration, space, speakers)
        except SpaceError as error:
            raise ConfigError(f"search.space: {error}") from None
    check_model(configuration, speakers)
    _check_own(configuration, space, speakers)
    return plan, space


def _check_pruning(search: SearchConfig) -> None:
    """Raise ConfigError for a factor that the scheduler does not read.

    Not part of the section: the record of an earlier sweep may have such a factor.
    """
    factor, default = search.reduction_factor, SearchConfig.model_fields["reduction_factor"].default
    if search.scheduler != "asha" and factor != default:
        raise ConfigError(
            f"search.reduction_factor: {factor} has no effect with search.scheduler "
            f"{search.scheduler}. Remove it, or use asha"
        )


def _check_keys(configuration: Configuration, space: Space) -> None:
    """Raise ConfigError for a key of the space, outside `features`, that a search may not set."""
    for key in space.parameters:
        section, _, leaf = key.partition(".")
        options = getattr(configuration, section, None)
        if section == "features":
            continue
        searchable = getattr(options, "searchable", False)
        if isinstance(options, BaseModel) and leaf in type(options).model_fields:
            searchable = role(type(options), leaf).searchable
        if not searchable:
            raise not_searchable(key)


def _check_space(configuration: Configuration, space: Space, speakers: dict[str, int]) -> None:
    """Check the configured search space. Raises ConfigError for a point that cannot be trained."""
    assert configuration.search is not None
    name = configuration.search.space
    if configuration.search.sampler == "grid":
        space.grid()
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
    """Build the network as `check_network` does, for the feature set that the model reads.

    Raises ConfigError if the set cannot be used, or has another shape than the model reads.
    """
    features, model = configuration.features, configuration.model.name
    try:
        feature_set = features.load()
    except FeatureError as error:
        raise ConfigError(str(error)) from None
    if feature_set.shape != registry.model(model).reads:
        raise ConfigError(wrong_shape(model, features.name, [feature_set.shape]))
    return check_network(configuration, feature_set.dims, feature_set.groups, speakers)


def _check_own(configuration: Configuration, space: Space, speakers: dict[str, int]) -> None:
    """Raise ConfigError if a network that is not built in breaks the contract of a model.

    The network is checked as configured, with each choice of the space, and with the smallest and
    the largest values together. A combination that the network refuses to be built with is no
    breach.
    """
    name = configuration.model.name
    if not registry.is_own("model", name) or registry.model(name).fitted:
        return
    choices = [key for key, parameter in space.parameters.items() if parameter.choices]
    points = [point for key in choices for point in space.corners(key)]
    checked: set[str] = set()
    for point in [{}, *points, *space.extremes()]:
        decisive = {k: v for k, v in point.items() if k.startswith(("model.", "features."))}
        try:
            chosen = configuration.with_values(decisive)
            check_model(chosen, speakers)
        except ConfigError:
            continue
        key = chosen.model.model_dump_json() + features_key(chosen.features)
        if key not in checked:
            checked.add(key)
            _check_contract(chosen, decisive, speakers)


def _check_contract(
    configuration: Configuration, point: dict[str, Any], speakers: dict[str, int]
) -> None:
    """Raise ConfigError if the network breaks the contract. `point`: its values of the space."""
    name = configuration.model.name
    feature_set, known = configuration.features.load(), min(speakers.values())
    classes, segment = len(configuration.corpus.classes), configuration.features.cut or 1
    sizes = Sizes(feature_set.dims, classes, known, segment, feature_set.groups)
    try:
        check_contract(
            lambda: build_network(configuration.model, configuration.features, sizes),
            feature_set.dims,
            classes,
            known,
            vector=feature_set.shape == "vector",
        )
    except ContractError as error:
        values = ", ".join(f"{key}={value}" for key, value in point.items())
        place = f" with {values}" if values else ""
        raise ConfigError(f"model: {name} breaks the contract of a model{place}: {error}") from None


def check_network(
    configuration: Configuration,
    dims: int,
    groups: Mapping[str, tuple[int, ...]],
    speakers: dict[str, int],
) -> EmotionModel:
    """Build the network, without its numbers, for the fold with the fewest training speakers.

    dims, groups : of the feature set (`features.sets.FeatureSet`)
    speakers : of `training_speakers`

    Raises ConfigError if there is no such network.
    """
    classes, segment = len(configuration.corpus.classes), configuration.features.cut or 1
    fold = min(speakers, key=speakers.__getitem__)
    sizes = Sizes(dims, classes, speakers[fold], segment, groups)
    try:
        with torch.device("meta"):
            return build_model(configuration, sizes)
    except (ValueError, RuntimeError) as error:  # a size may be too large for any machine
        place = f" (in fold {fold})" if "speakers is" in str(error) else ""
        raise ConfigError(f"model: {str(error).splitlines()[0]}{place}") from None
