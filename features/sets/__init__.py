"""The feature sets by name. To add one, write a module like `logmel3d` and register it here."""

from features.sets import compare_functionals, emobase_functionals, emobase_lld45, logmel3d
from features.sets.base import FeatureConfig as FeatureConfig
from features.sets.base import FeatureSet as FeatureSet

FEATURES: dict[str, FeatureSet] = {
    "emobase_lld45": emobase_lld45.FEATURE_SET,
    "logmel3d": logmel3d.FEATURE_SET,
    "emobase_functionals": emobase_functionals.FEATURE_SET,
    "compare_functionals": compare_functionals.FEATURE_SET,
}
