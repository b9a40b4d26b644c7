"""The models and their layers in plain PyTorch, selected by name.

An entry of `MODELS` names a network class and the keywords that it fixes. The other keywords of
the class are the hyperparameters, which a configuration may set under `model`. The positional
parameters of the class say which of `Sizes` it takes.

Importing this package does not import PyTorch, which takes over a second: some commands read only
the entries. PyTorch is imported with the first network or base class.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from ser_models.base import EmotionModel, FittedModel, Sizes
    from ser_models.iaan import ContextKind

__all__ = ["MODELS", "Context", "EmotionModel", "FittedModel", "Model", "Sizes"]


def __getattr__(name: str) -> Any:
    """The base classes."""
    if name not in ("EmotionModel", "FittedModel", "Sizes"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("ser_models.base"), name)


_DEFAULT_FEATURES = {
    "frames": "emobase_lld45",
    "vector": "emobase_functionals",
    "maps": "logmel3d",
}
"""Shape -> the feature set that an own class of this shape reads by default."""


class Context(NamedTuple):
    """The turns that a model reads with the current turn: of the same speaker, and of others.

    kind : `before`: turns before the current turn. `random`: two turns of its dialogue, drawn by
        the run's seed. `none`: no turns
    window : turns before the current turn, of all speakers together, in which `before` looks
    most : newest turns of the same speaker, and of others, that `before` takes; None takes all
    """

    kind: Literal["none", "before", "random"] = "none"
    window: int = 0
    most: int | None = None


class Model(NamedTuple):
    """An entry of the registry.

    network : the class, or its place in this package as `module:class`
    features : the feature set that the model reads by default
    context : the turns that the model reads with the current turn
    fixed : keywords of the class that make it this model
    training : published settings of its training, if they differ from the program's defaults
    reads : the shape of the feature sets that the model can read: `frames` (a sequence), `vector`
        (one row an utterance) or `maps` (log-mel and its deltas in segments)
    """

    network: "type[EmotionModel] | str"
    features: str
    context: Context = Context()
    fixed: Mapping[str, Any] = {}
    training: Mapping[str, Any] = {}
    reads: Literal["frames", "vector", "maps"] = "frames"

    @classmethod
    def of(cls, network: "type[EmotionModel]") -> "Model":
        """The entry of a class that is not in the registry, from its class attributes.

        `features`, `context`, `training` and `reads` are the fields of this class, with the same
        defaults. By default, a class reads a built-in set of the shape `reads`.
        """
        reads: Any = getattr(network, "reads", "frames")
        features = getattr(network, "features", _DEFAULT_FEATURES.get(str(reads), ""))
        context, training = getattr(network, "context", Context()), getattr(network, "training", {})
        # `training` of an instance is PyTorch's flag, and a class may leave it alone.
        training = training if isinstance(training, Mapping) else {}
        return cls(network, features, context, {}, training, reads)

    def check(self) -> None:
        """Raise ValueError if the entry cannot be used. For entries that are not built in."""
        from ser_models.base import Sizes

        if self.reads not in _DEFAULT_FEATURES:
            raise ValueError(f"reads is {self.reads!r}: use {', '.join(_DEFAULT_FEATURES)}")
        if not isinstance(self.context, Context):
            raise ValueError(f"context is {self.context!r}: use a ser_models.Context")
        for name, parameter in inspect.signature(self.network_class).parameters.items():
            sizes = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            if sizes and name not in Sizes._fields and parameter.default is parameter.empty:
                raise ValueError(
                    f"the parameter {name} is not a size ({', '.join(Sizes._fields)}). Put "
                    f"hyperparameters after a * in the signature"
                )
        for name, parameter in self.hyperparameters().items():
            if parameter.empty in (parameter.default, parameter.annotation):
                raise ValueError(f"the hyperparameter {name} needs a type and a default")

    @property
    def network_class(self) -> "type[EmotionModel]":
        """The class of the network, imported if the entry names its place."""
        if not isinstance(self.network, str):
            return self.network
        module, _, name = self.network.partition(":")
        found: type[EmotionModel] = getattr(importlib.import_module(f"ser_models.{module}"), name)
        return found

    def __call__(self, sizes: "Sizes", **hyperparameters: Any) -> "EmotionModel":
        """Build the network for data of these sizes."""
        if unknown := hyperparameters.keys() - self.hyperparameters().keys():
            raise TypeError(
                f"unknown hyperparameter: {', '.join(sorted(unknown))} "
                f"(this model has {', '.join(self.hyperparameters())})"
            )
        parameters = inspect.signature(self.network_class).parameters
        taken = {name: size for name, size in sizes._asdict().items() if name in parameters}
        return self.network_class(**taken, **self.fixed, **hyperparameters)

    @property
    def fitted(self) -> bool:
        """Whether the network is fitted in one step, without gradients."""
        from ser_models.base import FittedModel

        return issubclass(self.network_class, FittedModel)

    def hyperparameters(self) -> dict[str, inspect.Parameter]:
        """The keywords of the network that the entry does not fix."""
        parameters = inspect.signature(self.network_class, eval_str=True).parameters
        return {
            name: parameter
            for name, parameter in parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in self.fixed
        }


# From the SSA-CRNN paper, for all models of its tables. "Balanced": every class is equally frequent
# in a batch.
_SSA_CRNN_TRAINING = {
    "optimizer": "nadam",
    "learning_rate": 1e-4,
    "batch_size": 40,
    "balanced_batches": True,
    "weight_decay": 0.0,
}

_UNREGULARIZED = {"regularizer": "none", "regularizer_weight": None}


# The window is from IAAN's released code.
_IAAN_CONTEXTS: "dict[ContextKind, Context]" = {
    "none": Context(),
    "previous": Context("before", window=8, most=1),
    "random": Context("random"),
}


def _iaan(context: "ContextKind", predict_from_context: bool) -> Model:
    fixed = {"context": context, "predict_from_context": predict_from_context}
    return Model("iaan:IAAN", "emobase_lld45", _IAAN_CONTEXTS[context], fixed)


MODELS: dict[str, Model] = {
    "iaan": _iaan("previous", True),
    "rand_iaan": _iaan("random", True),
    "bigru_iaa": _iaan("previous", False),
    "bigru_att": _iaan("none", False),
    # Mirsamadi et al. give no settings, so the defaults apply, except for weight decay: its default
    # is IAAN's, which decays two small layers, but here it would decay all layers.
    "bilstm_att": Model(
        "bilstm_att:BiLSTMAttention", "emobase_lld45", training={"weight_decay": 0.0}
    ),
    "acrnn": Model(
        "acrnn:ACRNN", "logmel3d", fixed=_UNREGULARIZED, training=_SSA_CRNN_TRAINING, reads="maps"
    ),
    "acrnn_r": Model("acrnn:ACRNN", "logmel3d", training=_SSA_CRNN_TRAINING, reads="maps"),
    "ssa_crnn_r": Model("ssa_crnn:SSACRNN", "logmel3d", training=_SSA_CRNN_TRAINING, reads="maps"),
    # Ours: the same training, so that the rows of the SSA-CRNN paper's table differ in the network.
    "adrnn": Model("adrnn:ADRNN", "logmel3d", training=_SSA_CRNN_TRAINING, reads="maps"),
    "linear_svm": Model("linear_svm:LinearSVM", "emobase_functionals", reads="vector"),
    "svm_trees": Model("svm_trees:SVMTrees", "emobase_functionals", reads="vector"),
    # Ours: the learning rate, and no weight decay. The batch size is the default.
    "mdnn": Model(
        "mdnn:MDNN",
        "emobase_functionals",
        training={"learning_rate": 1e-3, "weight_decay": 0.0},
        reads="vector",
    ),
    # The learning rate is from the released code. The weight decay is ours, and close to the code.
    "cmn": Model(
        "cmn:CMN",
        "emobase_functionals",
        Context("before", window=40),
        training={"learning_rate": 1e-3, "weight_decay": 1e-4},
        reads="vector",
    ),
    # From SUPERB's recipe: a learning rate of 1e-4, which SUPERB tunes for each encoder, and steps
    # over 8 batches of 4 utterances. Ours: no weight decay, and the settings of `mean_pool`.
    "layer_sum": Model(
        "layer_sum:LayerSum",
        "encoder_layers",
        training={"learning_rate": 1e-4, "batch_size": 32, "weight_decay": 0.0},
        reads="vector",
    ),
    "mean_pool": Model(
        "mean_pool:MeanPool",
        "encoder_frames",
        training={"learning_rate": 1e-3, "weight_decay": 0.0},
    ),
}
