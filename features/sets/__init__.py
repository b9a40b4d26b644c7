"""The options of each feature set, by its name.

To add a set, write a module like `logmel3d` and register the class of its options here.
"""

from features.sets import (
    compare_functionals,
    emobase_functionals,
    emobase_lld45,
    encoder_frames,
    encoder_layers,
    logmel3d,
    opensmile,
)
from features.sets.base import EXTRACTED as EXTRACTED
from features.sets.base import SEARCHABLE as SEARCHABLE
from features.sets.base import FeatureConfig as FeatureConfig
from features.sets.base import FeatureSet as FeatureSet
from features.sets.base import Shape as Shape
from features.sets.base import sources as sources

FEATURES: dict[str, type[FeatureConfig]] = {
    "emobase_lld45": emobase_lld45.EmobaseConfig,
    "logmel3d": logmel3d.LogMelConfig,
    "emobase_functionals": emobase_functionals.FunctionalsConfig,
    "compare_functionals": compare_functionals.CompareConfig,
    "opensmile": opensmile.OpenSmileConfig,
    "encoder_layers": encoder_layers.EncoderLayersConfig,
    "encoder_frames": encoder_frames.EncoderFramesConfig,
}
