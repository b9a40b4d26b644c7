"""The feature sets that the trials of a search read."""

from features.sets import FeatureConfig
from orchestrator.config import registry
from orchestrator.config.parsing import feature_set_of, set_values, validate
from orchestrator.config.sections import SearchConfig, role
from orchestrator.errors import ConfigError
from search_spaces import Space, SpaceError, load_space


def load_searched(search: SearchConfig | None) -> Space:
    """The configured search space; an empty space if there is no search. Raises ConfigError."""
    if search is None:
        return Space.model_construct(first={}, parameters={})
    try:
        return load_space(search.space)
    except SpaceError as error:
        raise ConfigError(f"search.space: {error}") from None


def features_key(features: FeatureConfig) -> str:
    """The key of the data that a configuration reads, among the data of a run."""
    return features.model_dump_json()


def searched_features(model: str, features: FeatureConfig, space: Space) -> list[FeatureConfig]:
    """The sections `features` of all trials of a search; the configured one if no trial has others.

    Raises ConfigError for a key of the section that a search may not set, and for values that do
    not fit.
    """
    _check_keys(features, space)
    try:
        points = space.points_of("features")
    except SpaceError as error:
        raise ConfigError(f"search.space: {error}, because all features are extracted") from None
    found: dict[str, FeatureConfig] = {}
    for point in points:
        raw = {"features": features.model_dump(mode="json")}
        try:
            set_values(raw, point)
            options = registry.feature_set(feature_set_of(raw, model))
            chosen = validate(options, raw["features"], "features")
        except ConfigError as error:
            raise ConfigError(f"search.space: {error}") from None
        found[features_key(chosen)] = chosen
    return list(found.values())


def _check_keys(features: FeatureConfig, space: Space) -> None:
    """Raise ConfigError for a key of `features` that a search may not set."""
    named = space.parameters.get("features.name")
    others = named.samples() if named else []
    registry.allow(others)  # the user's space names them
    names = [features.name, *others]
    kinds = [registry.feature_set(name) for name in names if registry.exists("features", name)]
    for key in space.parameters:
        section, _, leaf = key.partition(".")
        having = [kind for kind in kinds if leaf in kind.model_fields]
        if section == "features" and not any(role(kind, leaf).searchable for kind in having):
            raise not_searchable(key)


def not_searchable(key: str) -> ConfigError:
    """The error of a key of a search space that a search may not set."""
    return ConfigError(
        f"search.space: {key} cannot be searched, because data, folds and seed are the "
        f"same for all trials. Search keys of model and training, or those keys of "
        f"features that docs/configuration.md lists as searchable"
    )
