"""The models and their layers: plain PyTorch, chosen by name.

What an entry of `MODELS` fixes is what the model is; the other keywords of its network are what a
configuration may set under `model`. Of `Sizes`, which the data decide, a network takes those that
its positional parameters name.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from ser_models.acrnn import ACRNN
from ser_models.bilstm_att import BiLSTMAttention
from ser_models.iaan import IAAN, ContextKind
from ser_models.linear_svm import LinearSVM
from ser_models.ssa_crnn import SSACRNN


class Sizes(NamedTuple):
    """What the data decide.

    dims : descriptors a frame
    classes : number of emotions
    speakers : number of speakers in training
    segment : frames of a whole segment, where features come in segments
    """

    dims: int
    classes: int
    speakers: int = 1
    segment: int = 1


@dataclass(frozen=True)
class Model:
    """An entry of the registry.

    network : the module's class, with the keywords that make it this model
    features : what it reads: `emobase_lld45`, `logmel3d` or `emobase_functionals`
    context : turns it reads beside the current one: of `previous` turns, of `random` ones or `none`
    training : published settings of its training, where they differ from the program's defaults
    """

    network: partial[Any]
    features: str
    context: ContextKind = "none"
    training: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, sizes: Sizes, **hyperparameters: Any) -> nn.Module:
        """The network for data of these sizes."""
        if unknown := hyperparameters.keys() - self.hyperparameters().keys():
            raise TypeError(
                f"no hyperparameter of this model: {', '.join(sorted(unknown))}; "
                f"known: {', '.join(self.hyperparameters())}"
            )
        parameters = inspect.signature(self.network.func).parameters
        taken = {name: size for name, size in sizes._asdict().items() if name in parameters}
        network: nn.Module = self.network(**taken, **hyperparameters)
        return network

    def hyperparameters(self) -> dict[str, inspect.Parameter]:
        """What a configuration may set: the network's keywords that the entry does not fix."""
        return {
            name: parameter
            for name, parameter in inspect.signature(self.network.func).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
            and name not in self.network.keywords
        }


# SSA-CRNN's paper, for all the models of its tables. "Balanced": as many of each class in a batch.
_SSA_CRNN_TRAINING = {
    "optimizer": "nadam",
    "learning_rate": 1e-4,
    "batch_size": 40,
    "balanced_batches": True,
    "weight_decay": 0.0,
}

# Ours, where Mirsamadi et al. are silent: the defaults but for weight decay, which in IAAN is for
# two small layers and would here be for all of them.
_BILSTM_TRAINING = {"weight_decay": 0.0}


def _iaan(context: ContextKind, predict_from_context: bool) -> Model:
    network = partial(IAAN, context=context, predict_from_context=predict_from_context)
    return Model(network, "emobase_lld45", context)


MODELS: dict[str, Model] = {
    "iaan": _iaan("previous", True),
    "rand_iaan": _iaan("random", True),
    "bigru_iaa": _iaan("previous", False),
    "bigru_att": _iaan("none", False),
    "bilstm_att": Model(partial(BiLSTMAttention), "emobase_lld45", training=_BILSTM_TRAINING),
    "acrnn": Model(
        partial(ACRNN, regularizer="none", regularizer_weight=None),
        "logmel3d",
        training=_SSA_CRNN_TRAINING,
    ),
    "acrnn_r": Model(partial(ACRNN), "logmel3d", training=_SSA_CRNN_TRAINING),
    "ssa_crnn_r": Model(partial(SSACRNN), "logmel3d", training=_SSA_CRNN_TRAINING),
    "linear_svm": Model(partial(LinearSVM), "emobase_functionals"),
}
